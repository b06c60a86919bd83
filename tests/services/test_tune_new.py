"""`deponij tune` of a network that has learned nothing: trained whole, without frozen features, and then a backbone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cli_world
import pytest
import torch

from deponij.pipeline.backbones import describe, load
from deponij.pipeline.training import loop
from deponij.pipeline.training.loop import Step
from deponij.project.extraction.tuned_on import LEARNED_FROM, learned_from
from deponij.project.tuning import begun as tuning
from deponij.store.atomic import read_table
from deponij.store.items import Items

NEW = "new:test_resnet@32"  # of timm's: half a million weights
SHORT = ["--epochs", "3", "--batch", "8", "--lr", "0.01", "--set", "augment=flips"]


@dataclass(frozen=True)
class World:
    """Pictures of three colours as items (one cannot be read), and a split."""

    root: Path

    def tune(self, out: str, *more: object, backbone: object = NEW, split: str = "split") -> cli_world.Answer:
        where = [
            "--items",
            self.root / "items",
            "--split",
            self.root / f"{split}.parquet",
            "--labels",
            "label",
        ]
        told = ["--backbone", backbone, "--out", self.root / out, "--depot", self.root / "depot"]
        return cli_world.call("tune", *where, *told, *SHORT, *more)

    def record_of(self, out: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / out / "tuned.json").read_text())["tuned"]
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("new"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(made.root / "cache"))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        patch.delenv("DEPONIJ_DEPOT", raising=False)
        items = made.root / "items"
        cli_world.done(
            "items", "--folder", cli_world.class_folders(made.root / "pictures"), "--out", items, status=3
        )
        cut = [
            "--strategy",
            "random",
            "--fractions",
            "0.4",
            "0.2",
            "0.4",
            "--out",
            made.root / "split.parquet",
        ]
        cli_world.done("split", "--items", items, *cut)
        other = ["--strategy", "random", "--seed", "5", "--fractions", "0.3", "0.2", "0.5"]
        cli_world.done("split", "--items", items, *other, "--out", made.root / "other.parquet")
        answer = made.tune("tuned", "--recipe", "full", "--results", made.root / "answers")
        assert answer.status == 0, answer
        yield made


def test_it_learns_and_is_a_backbone(world: World) -> None:
    """Three colours; chance is a third."""
    base, found = describe(NEW), load(str(world.root / "tuned"))
    known = found.description
    assert (known.dim, known.input_px, known.transform) == (base.dim, base.input_px, base.transform)
    assert known.weights_sha256 != base.weights_sha256
    record = world.record_of("tuned")
    assert (record["base"], record["base_weights"]) == (NEW, base.weights_sha256)
    assert record["n_learned"] == record["n_weights"]
    assert record["top1"]["test"] > 0.8
    assert record["recipe"]["start"] == "plain"
    view = world.root / "view.h5"
    where = ["--items", world.root / "items", "--depot", world.root / "elsewhere", "--out", view]
    cli_world.done("extract", *where, "--backbone", world.root / "tuned", status=3)


def test_its_card_names_no_base_and_no_licence(world: World) -> None:
    card = (world.root / "tuned" / "README.md").read_text()
    assert f"`{NEW}` trained from random weights" in card
    assert "drawn here, of no licence" in card
    assert "license:" not in card and "base_model:" not in card


def test_nothing_frozen_is_computed(world: World) -> None:
    assert not (world.root / "depot").exists()
    assert "random weights" in json.loads((world.root / "answers" / "result.json").read_text())["protocol"]


def test_a_picture_that_cannot_be_read_is_left_out(world: World) -> None:
    items, table = Items(world.root / "items"), read_table(world.root / "split.parquet")
    parts = dict(zip(table["item_id"].to_pylist(), table["part"].to_pylist(), strict=True))
    key_of = dict(zip(items.ids, items.keys, strict=True))
    (cut_off,) = (one for one in items.ids if cli_world.TRUNCATED in one)
    result = json.loads((world.root / "answers" / "result.json").read_text())
    n_scored = sum(part["n"] for part in result["parts"].values())
    assert n_scored == sum(part is not None for part in parts.values()) - (parts[cut_off] is not None)
    assert result["n_without_features"] == int(parts[cut_off] is not None)
    assert set(learned_from(str(world.root / "tuned"))) == {
        key_of[one] for one, part in parts.items() if part in ("train", "val") and one != cut_off
    }


class _Stop(Exception):
    """In the place of a kill."""


def test_an_interrupted_training_comes_to_the_same_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is compiled from then on, by a compiler that changes nothing."""

    @contextmanager
    def stopping(label: str) -> Iterator[Any]:
        def stepped(step: Step) -> None:
            if step.done == 3:
                raise _Stop

        yield stepped

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "training_bar", stopping)
        with pytest.raises(_Stop):
            world.tune("resumed", "--recipe", "full")
    assert (world.root / "resumed.unfinished" / "checkpoint" / "training.json").is_file()
    monkeypatch.setattr(loop, "require_compiler", lambda device: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: None)
    answer = world.tune("resumed", "--recipe", "full", "--set", "training.compile=true")
    assert answer.status == 0 and "begins anew" not in answer.err
    for name in ("model.safetensors", LEARNED_FROM):
        assert (world.root / "resumed" / name).read_bytes() == (world.root / "tuned" / name).read_bytes()


@pytest.mark.parametrize("name", ["resnet-18", "resnet-18-small", "atresnet-18", "deit-ti"])
def test_networks_that_have_a_name_are_trained_and_opened_again(world: World, name: str) -> None:
    answer = world.tune(name, "--recipe", "full", "--epochs", "1", backbone=f"new:{name}@32")
    assert answer.status == 0, answer.err
    found = load(str(world.root / name))
    assert found.description.architecture == describe(f"new:{name}@32").architecture
    assert bool(found.embed_images(torch.zeros(1, 3, 32, 32)).isfinite().all())


def test_what_the_base_has_learned_from_does_not_test_it(world: World) -> None:
    """It has learned from `train` and `val` of its own split; `plain` begins without a view that says so."""
    answer = world.tune(
        "again",
        *("--epochs", "1", "--recipe", "norms", "--set", "start=plain", "--results", world.root / "other"),
        backbone=world.root / "tuned",
        split="other",
    )
    assert answer.status == 0, answer.err
    items, table = Items(world.root / "items"), read_table(world.root / "other.parquet")
    key_of, seen = (
        dict(zip(items.ids, items.keys, strict=True)),
        set(learned_from(str(world.root / "tuned"))),
    )
    rows = zip(table["item_id"].to_pylist(), table["part"].to_pylist(), strict=True)
    n_seen = sum(key_of[one] in seen for one, part in rows if part == "test")
    assert n_seen
    assert json.loads((world.root / "other" / "result.json").read_text())["n_tuned_on"] == n_seen


def test_a_batch_of_one_picture_is_refused_where_it_has_no_statistics(world: World) -> None:
    """A ResNet-18 has a single position of 32 px at its end."""
    answer = world.tune("single", "--recipe", "full", "--batch", "1", backbone="new:resnet-18@32")
    assert answer.status == 2
    assert "a batch of one picture" in answer.err


def test_a_start_that_was_asked_for_holds(world: World) -> None:
    answer = world.tune("probed", "--recipe", "full", "--epochs", "1", "--set", "start=probe")
    assert answer.status == 0 and world.record_of("probed")["recipe"]["start"] == "probe"
    assert world.tune("bad", "--set", "start=nowhere").status == 2


def test_adapters_of_a_new_network_are_noted(world: World) -> None:
    answer = world.tune("adapted", "--epochs", "1", backbone="new:test_vit@32")
    assert answer.status == 0
    assert "has learned nothing" in answer.err and "recipe: full" in answer.err


def test_what_is_not_known_is_told_before_anything_is_read(world: World) -> None:
    answer = world.tune("wrong", backbone="new:resnet-81@32")
    assert answer.status == 2
    assert "Did you mean 'resnet-18'" in answer.err
    assert not (world.root / "wrong").exists()
