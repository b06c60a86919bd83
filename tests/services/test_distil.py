"""`deponij tune --teacher`: a backbone learns from labels and from what another one says, once for all or batch by batch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cli_world
import numpy as np
import pytest
import tiny_models
import torch

from deponij.pipeline.backbones import load
from deponij.pipeline.pictures import Route
from deponij.pipeline.tuning.network import Network
from deponij.pipeline.tuning.tower import Tower
from deponij.project.extraction.extracting import FeatureParams, found_backbone
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.extraction.tuned_on import learned_from
from deponij.project.frame.settings import RunOptions
from deponij.project.tuning.data import TuningData
from deponij.project.tuning.lessons import Asked, Naming
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.pictures import decoded
from deponij.project.tuning.task import NamingTask
from deponij.project.tuning.teaching import Teaching
from deponij.store.sealed import sha256_of

SHORT = ["--recipe", "full", "--epochs", "1", "--batch", "8", "--lr", "0.01"]


@dataclass(frozen=True)
class World:
    """Pictures of three colours as items, two splits, a student and a teacher of another family and size."""

    root: Path

    def asked(self, out: str, *more: object, teacher: str = "teacher", split: str = "split") -> list[object]:
        where = [
            "--items",
            self.root / "items",
            "--split",
            self.root / f"{split}.parquet",
            "--labels",
            "label",
        ]
        names = [
            "--backbone",
            self.root / "student",
            "--teacher",
            self.root / teacher,
            "--out",
            self.root / out,
        ]
        return ["tune", *where, "--depot", self.root / "depot", *names, *SHORT, *more]

    def asked_of(self, **recipe: Any) -> "Made":
        """A task with a teacher."""
        asked = Recipe(backbone="student", recipe="full", teacher={"backbone": "teacher"}, **recipe)
        options = RunOptions(depot=str(self.root / "depot"), device="cpu", threads=1)
        student, teacher = (
            found_backbone(FeatureParams(), str(self.root / one)) for one in ("student", "teacher")
        )
        where = self.root / "items", self.root / "split.parquet", "label"
        training = asked.trained_by("here").model_copy(update={"batch_size": 4})
        lesson = Naming(Asked("student", asked, training, student, Teaching(teacher), *where, options))
        data, folder = lesson.data, self.root / f"pictures-{sha256_of(asked.model_dump_json().encode())[:8]}"
        pictures = decoded(
            data.items, data.rows.tolist(), student, route=Route.DRAFT, n_threads=1, folder=folder
        )
        task = lesson.prepare(pictures, "cpu", 0).task
        assert isinstance(task, NamingTask)
        return Made(task, lesson.data, teacher)


@dataclass(frozen=True)
class Made:
    task: NamingTask
    data: TuningData
    teacher: FoundBackbone


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("distil"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(made.root / "cache"))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        patch.delenv("DEPONIJ_DEPOT", raising=False)
        tiny_models.timm_vit(made.root / "student")
        tiny_models.dinov2(made.root / "teacher")
        cli_world.class_folders(made.root / "pictures")
        cli_world.done("items", "--folder", made.root / "pictures", "--out", made.root / "items", status=3)
        by = ["--items", made.root / "items", "--strategy", "random"]
        for name, seed in (("split", 0), ("other", 5)):
            out = ["--out", made.root / f"{name}.parquet"]
            cli_world.done("split", *by, "--seed", seed, "--fractions", "0.4", "0.2", "0.4", *out)
        yield made


def record_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tuned.json").read_text())["tuned"]
    return found


def test_a_student_is_a_backbone_that_says_who_taught_it(world: World) -> None:
    told = cli_world.done(
        *world.asked("taught", "--set", "teacher.kind=soft", "--set", "teacher.temperature=2")
    )
    record = record_of(world.root / "taught")
    assert record["recipe"]["teacher"]["kind"] == "soft"
    assert record["teacher_weights"] == load(str(world.root / "teacher")).description.weights_sha256
    assert "taught by" in record["said"] and "taught by" in told.out
    assert load(str(world.root / "taught")).description.weights_sha256 != record["base_weights"]


def test_what_is_stored_is_what_the_teacher_says_of_its_own_pixels(world: World) -> None:
    """Stored features and the probe on them, against the network that looks at batches which are augmented."""
    asked = world.asked_of(augment="none")
    assert asked.task.teacher is not None
    _, _, places = next(asked.task.batches(0))
    stored = asked.task.teacher.says(torch.zeros(1), places)
    live = world.asked_of(augment="flips").task.teacher
    assert live is not None
    network: Any = live._network
    transform, rows = asked.teacher.description.transform, asked.task.rows[places].tolist()
    folder = world.root / "own-pictures"
    own = decoded(asked.data.items, rows, asked.teacher, route=Route.DRAFT, n_threads=1, folder=folder)
    seen = own.read(rows)
    pixels = torch.from_numpy(np.stack([transform.normalise(one) for one in seen]))
    with torch.no_grad():
        torch.testing.assert_close(network.network(pixels), stored, rtol=1e-3, atol=1e-3)
    for kind in ({"augment": "flips"}, {"augment": "none", "mix": {"mixup": 0.8}}):
        assert world.asked_of(**kind).task.teacher._network is not None  # type: ignore[union-attr]


def test_pictures_that_taught_the_teacher_test_no_student(world: World) -> None:
    where = ["--items", world.root / "items", "--labels", "label", "--depot", world.root / "depot"]
    split = ["--split", world.root / "other.parquet", "--backbone", world.root / "teacher"]
    cli_world.done("tune", *where, *split, "--out", world.root / "tutor", *SHORT)
    seen = learned_from(str(world.root / "tutor"))
    cli_world.done(*world.asked("pupil", "--results", world.root / "answers", teacher="tutor"))
    assert set(learned_from(str(world.root / "pupil"))) >= set(seen)
    result = json.loads((world.root / "answers" / "result.json").read_text())
    alone = record_of(world.root / "pupil")
    cli_world.done(*world.asked("free", "--results", world.root / "free-answers"))
    free = json.loads((world.root / "free-answers" / "result.json").read_text())
    assert result["parts"]["test"]["n"] < free["parts"]["test"]["n"]
    assert alone["n_train"] == record_of(world.root / "free")["n_train"]


def test_what_a_tuned_backbone_learned_from_stays_known_when_it_is_tuned_again(world: World) -> None:
    where = ["--items", world.root / "items", "--labels", "label", "--depot", world.root / "depot"]
    for base, out, split in (("student", "once", "other"), ("once", "twice", "split")):
        by = ["--split", world.root / f"{split}.parquet", "--backbone", world.root / base]
        cli_world.done("tune", *where, *by, "--out", world.root / out, *SHORT)
    once, twice = (set(learned_from(str(world.root / one))) for one in ("once", "twice"))
    assert once < twice


def test_two_tokens_learn_by_two_classifiers_whose_mean_answers(tmp_path: Path) -> None:
    """DeiT's distillation token; mean and equality with the probe by hand."""
    torch.manual_seed(0)
    tower = Tower(load(str(tiny_models.timm_distilled(tmp_path / "deit"))))
    d = tower.backbone.description.dim
    begun = torch.zeros(d), torch.ones(d), torch.randn(3, d), torch.randn(3)
    network = Network(tower, *begun, on_both_tokens=True).eval()
    size = tower.backbone.description.input_px
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        mean = network(pixels)
        torch.testing.assert_close(mean, tower(pixels) @ begun[2].T + begun[3], rtol=1e-4, atol=1e-5)
        own, other = network.train()(pixels)
    assert not torch.allclose(own, other)
    torch.testing.assert_close((own + other) / 2, mean, rtol=1e-4, atol=1e-5)


def test_a_distilled_network_learns_end_to_end(world: World) -> None:
    tiny_models.timm_distilled(world.root / "deit")
    asked = [str(one) for one in world.asked("deit-taught", "--results", world.root / "deit-answers")]
    asked[asked.index(str(world.root / "student"))] = str(world.root / "deit")
    cli_world.done(*asked)
    answers = (world.root / "deit-answers" / "result.json").read_text()
    assert "a linear classifier on each of both tokens" in answers
    assert np.isfinite(record_of(world.root / "deit-taught")["history"][0]["loss"])


def test_an_unknown_teacher_is_told_before_anything_is_read(world: World) -> None:
    answer = cli_world.call(*world.asked("wrong", teacher="nobody"))
    assert answer.status != 0
    assert "nobody" in answer.err
    assert not (world.root / "wrong").exists()
    answer = cli_world.call(*world.asked("wrong", "--set", "teacher.share=2"))
    assert answer.status == 2
    assert "teacher.share" in answer.err
