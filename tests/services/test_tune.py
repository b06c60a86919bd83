"""`deponij tune` and `run --tune`: a backbone learns from items, and nothing tests it by what it has learned from."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cli_world
import numpy as np
import pytest
import tiny_models
import torch
import tuning_world
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deponij.pipeline.backbones import load
from deponij.pipeline.curves import CURVES
from deponij.pipeline.mistakes.records import MISTAKES
from deponij.pipeline.training import trackers
from deponij.pipeline.training.loop import Step
from deponij.project.extraction.tuned_on import LEARNED_FROM, learned_from, learned_from_table
from deponij.project.frame.layout import Layout
from deponij.project.tuning import begun as tuning
from deponij.project.tuning import learn as tuning_learn
from deponij.project.tuning import pictures
from deponij.project.tuning.record import read_record
from deponij.project.tuning.task import PictureTask
from deponij.project.tuning.took import Stopwatch, Took, read_took, write_took
from deponij.store.atomic import read_table
from deponij.store.items import Items
from deponij.store.view import TUNED_ON, View

SHORT = ["--epochs", "2", "--batch", "8", "--lr", "0.01"]


@dataclass(frozen=True)
class World:
    """Pictures of three colours as items, a split, and a tiny DINOv2."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / {"split": "split.parquet", "other": "other.parquet"}.get(name, name)

    def asked(self, out: str, *more: object) -> list[object]:
        where = ["--items", self.items, "--split", self.split, "--labels", "label", "--depot", self.depot]
        return ["tune", *where, "--backbone", self.base, "--out", self.root / out, *SHORT, *more]

    def view_of(self, backbone: str) -> View:
        path = self.root / f"{backbone}.h5"
        where = ["--items", self.items, "--depot", self.depot, "--out", path]
        cli_world.done("extract", *where, "--backbone", self.root / backbone, status=3)
        return View(path)

    def fit(self, backbone: str, split: str) -> Any:
        where = ["--items", self.items, "--features", self.root / f"{backbone}.h5", "--labels", "label"]
        return cli_world.call(
            "fit", "--head", "centroid", *where, "--split", self.root / f"{split}.parquet", "--json"
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("tune"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(made.cache))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        patch.delenv("DEPONIJ_DEPOT", raising=False)
        tiny_models.dinov2(made.base)
        cli_world.class_folders(made.pictures)
        cli_world.done("items", "--folder", made.pictures, "--out", made.items, status=3)
        by = ["--items", made.items, "--strategy", "random"]
        cli_world.done("split", *by, "--fractions", "0.4", "0.2", "0.4", "--out", made.split)
        cli_world.done("split", *by, "--seed", "5", "--fractions", "0.3", "0.2", "0.5", "--out", made.other)
        folds = ["--strategy", "folds", "--labels", "label", "--out", made.root / "folds.parquet"]
        cli_world.done("split", "--items", made.items, *folds)
        cli_world.done(*made.asked("tuned", "--results", made.root / "answers"))
        yield made


def keys_of(world: World, *parts: str) -> set[str]:
    table = read_table(world.split)
    items = Items(world.items)
    key = dict(zip(items.ids, items.keys, strict=True))
    rows = zip(table["item_id"].to_pylist(), table["part"].to_pylist(), strict=True)
    return {str(key[item_id]) for item_id, part in rows if part in parts and key[item_id] is not None}


def test_what_was_tuned_is_a_backbone_with_its_record_and_card(world: World) -> None:
    found = load(str(world.tuned))
    base = load(str(world.base))
    assert found.description.dim == base.description.dim
    assert found.description.weights_sha256 != base.description.weights_sha256
    record = json.loads((world.tuned / "tuned.json").read_text())["tuned"]
    assert (record["labels"], record["split"], record["classes"]) == ("label", "split", ["can", "cup", "lid"])
    assert 0 < record["n_learned"] < record["n_weights"]
    assert len(record["history"]) == 2
    files = [one for one in world.tuned.rglob("*") if one.is_file() and one.name != "tuned.json"]
    known = read_record(world.tuned / "tuned.json")
    assert known.size_bytes == sum(one.stat().st_size for one in files)
    assert known.adapter_bytes == sum(one.stat().st_size for one in files if one.parent.name == "adapter") > 0
    assert known.peak_bytes is not None and known.seconds is not None and known.seconds > 0
    card = (world.tuned / "README.md").read_text()
    assert "LoRA, rank 8" in card
    assert "no figure may be tested on them" in card
    assert json.loads((world.answers / "result.json").read_text())["method"] == "network"


def test_it_names_each_picture_that_it_has_learned_from(world: World) -> None:
    found = learned_from(str(world.tuned))
    assert set(found) == keys_of(world, "train", "val")
    assert {key for key, part in found.items() if part == "train"} >= keys_of(world, "train") - keys_of(
        world, "val"
    )
    view = world.view_of("tuned")
    seen = dict(zip(view.keys.tolist(), view.columns[TUNED_ON].tolist(), strict=True))
    assert {key for key, part in seen.items() if part} == set(found)


def test_nothing_tests_it_by_what_it_has_learned_from(world: World) -> None:
    view = world.view_of("tuned")
    own = world.fit("tuned", "split")
    assert own.status == 0
    assert not any("tuned on" in note for note in own.json["notes"])
    other = world.fit("tuned", "other")
    table = read_table(world.other)
    rows = zip(table["item_id"].to_pylist(), table["part"].to_pylist(), strict=True)
    tested = {item for item, part in rows if part == "test"}
    marks = dict(zip(view.ids.tolist(), view.columns[TUNED_ON].tolist(), strict=True))
    n_seen = sum(bool(marks.get(item)) for item in tested)
    n_fair = sum(marks.get(item) == "" for item in tested)
    assert n_seen and n_fair, "the world shows something"
    assert other.json["parts"]["test"]["n"] == n_fair
    assert (
        f"Left out: {n_seen} items that would test a backbone which was tuned on them." in other.json["notes"]
    )
    folds = world.fit("tuned", "folds")
    assert folds.json["parts"]["test"]["n"] == sum(mark == "" for mark in marks.values())


def test_a_damaged_table_of_what_it_learned_from_is_refused(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(world.tuned, copy)
    other = learned_from(str(world.tuned))
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    where = ["--items", world.items, "--depot", world.depot, "--out", tmp_path / "view.h5"]
    answer = cli_world.call("extract", *where, "--backbone", copy)
    assert answer.status == 1
    assert "are not those that were tuned; tune it again" in answer.err
    shutil.copyfile(world.tuned / "model.safetensors", weights)
    (copy / LEARNED_FROM).write_bytes(learned_from_table(dict(list(other.items())[:3])))
    answer = cli_world.call(
        "extract",
        "--items",
        world.items,
        "--depot",
        world.depot,
        "--backbone",
        copy,
        "--out",
        tmp_path / "view.h5",
    )
    assert answer.status == 1
    assert "is not what" in answer.err
    assert "tune it again" in answer.err


class _Stop(Exception):
    """In the place of a kill."""


@contextmanager
def _stopping(label: str) -> Iterator[Any]:
    def stepped(step: Step) -> None:
        if step.done == 3:
            raise _Stop

    yield stepped


def test_an_interrupted_tuning_goes_on_to_the_same_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli_world.done(*world.asked("whole"))

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "training_bar", _stopping)
        with pytest.raises(_Stop):
            cli_world.call(*world.asked("resumed"))
    assert (world.root / "resumed.unfinished" / "checkpoint" / "training.json").is_file()

    # As if the one that was interrupted had taken so long.
    took = world.root / "resumed.unfinished" / "took.json"
    assert 0 < read_took(took).seconds < 100
    write_took(took, Took(seconds=1000.0))

    def again(*_: object) -> Any:
        raise AssertionError("pictures are decoded once")

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "_decode", again)
        cli_world.done(*world.asked("resumed"))
    for name in ("model.safetensors", "adapter/adapter_model.safetensors", LEARNED_FROM):
        assert (world.root / "resumed" / name).read_bytes() == (world.root / "whole" / name).read_bytes()
    assert not (world.root / "resumed.unfinished").exists()
    assert 1000 < (read_record(world.root / "resumed" / "tuned.json").seconds or 0) < 1100


def test_what_is_not_gone_on_with_is_not_counted(tmp_path: Path) -> None:
    write_took(tmp_path / "took.json", Took(seconds=1000.0))
    resumed, anew = Stopwatch(tmp_path), Stopwatch(tmp_path)
    resumed.step(7)
    anew.step(1)
    assert resumed.seconds > 1000 and anew.seconds < 100
    anew.keep()
    assert read_took(tmp_path / "took.json").seconds < 100


LITTLE = 300_000  # bytes: for two pictures of this tiny model, not for eight


def test_a_batch_that_does_not_fit_comes_to_what_the_whole_one_comes_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With mixing, which draws for the batch, and weights of classes, which have as many pictures as others or fewer."""
    more = ["--set", "mix.mixup=0.8", "--set", "class_weights=1", "--set", "training.accumulate=2"]
    cli_world.done(*world.asked("at-once", *more))
    monkeypatch.setattr(tuning_learn, "free_memory_bytes", lambda device: LITTLE)
    asked: list[int] = []
    outputs = PictureTask.outputs
    monkeypatch.setattr(
        PictureTask, "outputs", lambda task, rows: (asked.append(task.asked), outputs(task, rows))[1]
    )
    told = cli_world.done(*world.asked("in-pieces", *more))
    assert set(asked) == {asked[0]} and asked[0] < 8
    assert "batch 8 would need about" in told.err and "it is computed in" in told.err
    one, two = (
        load_file(world.root / name / "adapter" / "adapter_model.safetensors")
        for name in ("at-once", "in-pieces")
    )
    moved = max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name)
    assert moved > 0 and any(not torch.equal(value, two[name]) for name, value in one.items())
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=0.02 * moved)


@pytest.mark.parametrize("first", [LITTLE, None])
def test_a_tuning_goes_on_whatever_is_free_now(
    world: World, monkeypatch: pytest.MonkeyPatch, first: int | None
) -> None:
    name = f"gone-on-{first}"
    if first is not None:
        monkeypatch.setattr(tuning_learn, "free_memory_bytes", lambda device: first)
        cli_world.done(*world.asked(f"whole-{name}"))
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "training_bar", _stopping)
        with pytest.raises(_Stop):
            cli_world.call(*world.asked(name))
    monkeypatch.setattr(tuning_learn, "free_memory_bytes", lambda device: None if first else LITTLE)
    told = cli_world.done(*world.asked(name))
    assert "anew" not in told.err
    if first is not None:
        weights = "model.safetensors"
        assert (world.root / name / weights).read_bytes() == (
            world.root / f"whole-{name}" / weights
        ).read_bytes()


def test_a_checkpoint_of_another_recipe_is_set_aside_and_what_differs_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = world.root / "changed.unfinished"

    def stopped(*more: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(tuning, "training_bar", _stopping)
            with pytest.raises(_Stop):
                cli_world.call(*world.asked("changed", *more))

    stopped()
    first = (unfinished / "checkpoint" / "training.safetensors").read_bytes()
    told = cli_world.done(*world.asked("of-rank-4", "--set", "lora.rank=4"))
    assert "anew" not in told.err
    with monkeypatch.context() as patch:
        patch.setattr(tuning_learn, "discard_folder", lambda path: None)
        told = cli_world.done(*world.asked("changed", "--set", "lora.rank=4", "--lr", "0.02"))
    said = " ".join(told.err.split())
    assert "of another training: recipe.lora.rank 8 there, 4 here, lr 0.01 there, 0.02 here" in said
    assert (unfinished / "checkpoint.1" / "training.safetensors").read_bytes() == first
    told = cli_world.done(*world.asked("changed", "--set", "lora.rank=4", "--lr", "0.02"))
    assert "anew" not in told.err and not unfinished.exists()


@pytest.mark.parametrize("recipe", ["full", "last-blocks", "norms", "biases"])
def test_every_recipe_changes_the_features(world: World, recipe: str) -> None:
    cli_world.done(*world.asked(recipe, "--recipe", recipe))
    base, view = world.view_of("base"), world.view_of(recipe)
    assert TUNED_ON not in base.columns
    assert not np.allclose(base.embedding, view.embedding)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--set", "lora.rank=0"], "lora.rank: Input should be greater than or equal to 1"),
        (["--set", "lora.targets=everything"], "lora.targets"),
        (["--set", "lora.targets=pointwise"], "pointwise"),
        (["--recipe", "prefix"], "recipe"),
        (["--set", "augment=wild"], "wild"),
        (["--set", "training.epocks=3"], "epocks"),
        (["--set", "layer_decay=2"], "layer_decay"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_told_before_anything_is_read(
    world: World, more: list[str], told: str
) -> None:
    answer = cli_world.call(*world.asked("wrong", *more))
    assert answer.status == 2
    assert told in answer.err
    assert not (world.root / "wrong").exists()


@pytest.mark.parametrize("augment", ["light", "flips", "deit"])
def test_pictures_that_are_not_square(
    world: World, tmp_path_factory: pytest.TempPathFactory, augment: str
) -> None:
    base = tmp_path_factory.mktemp("siglip") / "base"
    tiny_models.siglip(base)
    asked = [str(one) for one in world.asked(f"wide-{augment}", "--set", f"augment={augment}")]
    asked[asked.index(str(world.base))] = str(base)
    cli_world.done(*asked, "--set", "input_px=[48,64]", "--set", "mix.cutmix=1")
    found = load(str(world.root / f"wide-{augment}"))
    assert found.description.input_px == (48, 64)
    frozen = load(str(base), input_px=(48, 64))
    pixels = tuning_world.pixels_for(found)
    assert not np.allclose(found.embed_images(pixels), frozen.embed_images(pixels))
    history = json.loads((world.root / f"wide-{augment}" / "tuned.json").read_text())["tuned"]["history"]
    assert all(np.isfinite(one["loss"]) for one in history)


def test_trackers_are_told_and_change_nothing(world: World, tmp_path: Path) -> None:
    cli_world.done(*world.asked("tracked", "--track", "tensorboard", "--log-dir", tmp_path))
    events = EventAccumulator(str(tmp_path / "tracked"))
    events.Reload()
    told = {name: [one.value for one in events.Scalars(name)] for name in events.Tags()["scalars"]}
    history = json.loads((world.root / "tracked" / "tuned.json").read_text())["tuned"]["history"]
    # event files hold float32
    # `loss` of the history is the one of validation where there is one, as `epoch/loss` is.
    for name in ("loss", "top1"):
        assert told[f"epoch/{name}"] == pytest.approx([one[name] for one in history])
    n_train = len(keys_of(world, "train"))
    assert len(told["train/loss"]) == 2 * -(-n_train // 8)
    for name in ("model.safetensors", LEARNED_FROM):
        assert (world.root / "tracked" / name).read_bytes() == (world.tuned / name).read_bytes()


@pytest.mark.skipif(find_spec("dvclive") is None, reason="needs dvclive")
def test_dvclive_is_told(world: World, tmp_path: Path) -> None:
    cli_world.done(*world.asked("live", "--track", "dvclive", "--log-dir", tmp_path))
    history = json.loads((world.root / "live" / "tuned.json").read_text())["tuned"]["history"]
    table = (tmp_path / "live" / "plots" / "metrics" / "epoch" / "top1.tsv").read_text().splitlines()[1:]
    assert [float(line.split("\t")[1]) for line in table] == pytest.approx([one["top1"] for one in history])


def test_a_tracker_that_is_not_here_is_said_before_anything_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    answer = cli_world.call(*world.asked("wrong", "--items", world.root / "absent", "--track", "wandb"))
    assert answer.status == 2
    assert "the tracker wandb needs the package wandb, which is not installed" in answer.err
    answer = cli_world.call(*world.asked("wrong", "--track", "guestbook"))
    assert answer.status == 2
    assert "guestbook" in answer.err
    assert not (world.root / "wrong").exists()


def test_without_a_part_to_choose_on_the_last_epoch_is_kept_and_nobody_waits_for_a_better_one(
    world: World, tmp_path: Path
) -> None:
    split = tmp_path / "halves.parquet"
    by = ["--items", world.items, "--strategy", "random", "--fractions", "0.6", "0", "0.4"]
    cli_world.done("split", *by, "--out", split)
    asked = [split if one == world.split else one for one in world.asked("unchosen")]
    refused = cli_world.call(*asked, "--set", "training.patience=1")
    assert refused.status == 2
    assert "patience: 1 waits for a better epoch on val, and" in refused.err
    assert not (world.root / "unchosen").exists()
    cli_world.done(*asked, "--results", tmp_path / "answers")
    assert (
        "2 epochs, the last kept"
        in json.loads((tmp_path / "answers" / "result.json").read_text())["protocol"]
    )
    assert (
        "2 epochs, the best of 2 on val kept"
        in json.loads((world.answers / "result.json").read_text())["protocol"]
    )


def test_folds_and_single_classes_are_refused(world: World, tmp_path: Path) -> None:
    asked = [str(one) for one in world.asked("wrong")]
    asked[asked.index(str(world.split))] = str(world.root / "folds.parquet")
    answer = cli_world.call(*asked)
    assert answer.status == 2
    assert "--strategy group" in answer.err


def test_set_help_lists_the_settings() -> None:
    flags = ("--items", "--split", "--labels", "--backbone", "--out")
    told = cli_world.done("tune", *(one for flag in flags for one in (flag, "x")), "--set", "help").out
    assert "lora.rank=8" in told
    assert "training.epochs=10" in told
    assert "mix.cutmix=None" in told
    assert "learns=classes" in told
    assert "text=frozen" in told


def test_run_tune_compares_the_tuned_backbone_with_the_frozen_one(world: World, tmp_path: Path) -> None:
    where = [
        "--folder",
        world.pictures,
        "--backbone",
        world.base,
        "--depot",
        world.depot,
        "--out",
        tmp_path / "run",
    ]
    refused = cli_world.call("run", *where, "--tune", "lora")
    assert refused.status == 2
    assert "--split group" in refused.err
    wrong = cli_world.call("run", *where, "--tune", "lora", "--split", "random", "--tune-set", "augment=wild")
    assert wrong.status == 2 and "wild" in wrong.err
    recipes = ["--tune", "norms", "--tune", "lora", "--tune-set", "training.epochs=2"]
    more = ["--input-px", "28", "28", "--split", "random", "--json"]
    answer = cli_world.done("run", *where, *recipes, *more, status=3)
    rows = [row for row in answer.json["results"] if not row["is_baseline"]]
    names = {(row["method"], row["backbone"]) for row in rows}
    assert ("the tuned network's own classifier", "base-norms") in names
    assert ("linear probe (logistic regression)", "base-norms") in names
    assert ("the tuned network's own classifier", "base-lora") in names
    record = json.loads((tmp_path / "run" / "tuned" / "base-norms" / "tuned.json").read_text())["tuned"]
    assert len(record["history"]) == 2 and record["recipe"]["input_px"] == [28, 28]
    assert load(str(tmp_path / "run" / "tuned" / "base-norms")).description.input_px == (28, 28)
    page = Path(answer.json["page"]).read_text()
    assert '<section id="tuning">' in page
    assert "norms alone" in page
    # Labels that it has learned look right to it, and its features have seen every training item.
    at = Layout(tmp_path / "run")
    for records, place in ((MISTAKES, at.mistakes), (CURVES, at.curves)):
        found = {name: records.load(place(name).read_bytes(), name) for name in ("base", "base-lora")}
        assert found["base"] and not found["base-lora"]
    told = cli_world.done(
        "mistakes", "--features", at.view("base-norms"), "--items", at.items, "--labels", "label"
    )
    assert "taught base-norms their labels" in told.out + told.err
    markdown = (Path(answer.json["page"]).parent / "results.md").read_text()
    assert "## Tuning" in markdown
    (row,) = [
        line for line in markdown.splitlines() if line.startswith("| base-norms | base | norms alone |")
    ]
    *_, took, memory, disk, adapter = (one.strip() for one in row.strip("|").split("|"))
    assert took != "–" and memory.endswith(" MB") and disk.endswith(" MB") and adapter == "–"
