"""Pictures that lie there twice, in two parts of a split: nothing is tested, or chosen, by what it has learned from."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_world
import numpy as np
import pytest
import told_pictures
from learning_world import write_split

from deponij.pipeline.backbones import parse_spec
from deponij.project.frame.settings import RunOptions
from deponij.project.tuning.begun import Job, Running, begin
from deponij.project.tuning.params import Recipe
from deponij.store.atomic import read_table
from deponij.store.items import Items
from deponij.store.sealed import sha256_of
from deponij.store.texts import percent

SHORT = ["--epochs", "1", "--batch", "8", "--set", "augment=none"]
# Of each class two to learn from, one to choose on and two to be tested; then copies of the first of each part.
PARTS = ("train", "train", "train", "val", "val", "test", "test")
COPIES = {"train": ("train", "val", "test"), "val": ("test",), "test": ("test",)}


def split_with_copies(root: Path) -> None:
    """`items` of some pictures, of which some have byte-equal copies elsewhere, and `split.parquet`."""
    parts = {}
    for number, (name, colour) in enumerate(cli_world.COLOURS.items()):
        folder = root / "pictures" / name
        folder.mkdir(parents=True)
        for i, part in enumerate(PARTS):
            cli_world.picture(colour, 100 * number + i).save(folder / f"{i}.png")
            parts[f"{name}/{i}.png"] = part
        for part, into in COPIES.items():
            first = folder / f"{PARTS.index(part)}.png"
            for one in into:
                (folder / f"{part}-in-{one}.png").write_bytes(first.read_bytes())
                parts[f"{name}/{part}-in-{one}.png"] = one
    cli_world.done("items", "--folder", root / "pictures", "--out", root / "items")
    ids = Items(root / "items").ids
    write_split(root / "split.parquet", ids, [parts[one] for one in ids])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("copies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        patch.setenv("DEPONIJ_DEPOT", str(root / "depot"))
        split_with_copies(root)
        where = ["--items", root / "items", "--split", root / "split.parquet", "--labels", "label"]
        tune = ["tune", *where, "--backbone", "mini-dinov2", "--out", root / "tuned", *SHORT]
        cli_world.done(*tune, "--results", root / "network")
        for name, backbone in (("frozen", "mini-dinov2"), ("tuned", root / "tuned")):
            view = root / f"{name}.h5"
            cli_world.done("extract", "--items", root / "items", "--backbone", backbone, "--out", view)
            cli_world.done(
                "fit", "--head", "logistic", "--features", view, *where, "--out", root / f"{name}-fit"
            )
        yield root


def result(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())


def test_its_own_classifier_is_tested_as_any_other_on_it(world: Path) -> None:
    own, probe, frozen = (result(world / name) for name in ("network", "tuned-fit", "frozen-fit"))
    # Of each class two tests and a copy of one, beside copies of what was learned from and chosen on.
    assert [one["parts"]["test"]["n"] for one in (own, probe, frozen)] == [9, 9, 15]
    assert own["n_tuned_on"] == probe["n_tuned_on"] == 6
    assert own["fingerprint"] == probe["fingerprint"] != frozen["fingerprint"], "of the tuned features"
    record = json.loads((world / "tuned" / "tuned.json").read_text())["tuned"]
    assert record["top1"]["test"] == own["parts"]["test"]["top1"]
    assert (record["n_train"], record["n_val"]) == (12, 6), "a copy of what is learned from chooses nothing"


def test_record_and_card_say_what_makes_it_again_and_whose_it_is(world: Path) -> None:
    own, items = result(world / "network"), world / "items"
    body = json.loads((world / "tuned" / "tuned.json").read_text())
    record, card = body["tuned"], (world / "tuned" / "README.md").read_text()
    used = record["training"]
    assert (used["weight_decay"], used["warmup_epochs"], used["clip_norm"]) == (0.05, 0.5, 1.0)
    assert (used["batch_size"], used["accumulate"], used["epochs"]) == (8, 1, 1)
    assert record["n_judged"] == {part: one["n"] for part, one in own["parts"].items()}
    test = own["parts"]["test"]
    assert record["top1_interval"]["test"] == test["top1_interval"]
    assert record["items_sha256"] == sha256_of((items / "_items.json").read_bytes())
    assert f"| test | 9 | {percent(test['top1'])}" in card
    for said in ("- weight_decay: 0.05", "- clip_norm: 1.0", "license: mit", record["items_sha256"]):
        assert said in card, said
    assert f"Its own weights: `{body['weights_sha256']}`" in card


def test_what_a_backbone_inherits_is_known_of_what_was_tuned_from_it(world: Path) -> None:
    base, tuned = parse_spec("mini-dinov2"), parse_spec(str(world / "tuned"))
    assert base.licence == "MIT" and base.toy
    assert (tuned.licence, tuned.toy) == (base.licence, base.toy)


def test_before_it_learns_it_answers_as_the_probe_that_fit_learns(world: Path, tmp_path: Path) -> None:
    """Linear probing then fine-tuning: of the same frozen features, by the same classifier."""
    recipe = Recipe.model_validate({"backbone": "mini-dinov2", "augment": "none"})
    job = Job(
        name="begun",
        recipe=recipe,
        spec="mini-dinov2",
        items=world / "items",
        split=world / "split.parquet",
        labels="label",
    )
    made = begin(job, Running(RunOptions(depot=str(world / "depot"), device="cpu"), tmp_path))
    data = made.lesson.data
    made.made.task.model.eval()
    found = made.made.task.outputs(data.rows)
    answers, known = (
        np.load(world / "frozen-fit" / "logits.npy"),
        read_table(world / "frozen-fit" / "predictions.parquet"),
    )
    place = {item_id: row for row, item_id in enumerate(known["item_id"].to_pylist())}
    wanted = answers[[place[one] for one in data.examples.ids.tolist()]]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["network", "tuned-fit"])
def test_tuned_and_frozen_are_compared_on_what_both_answered(world: Path, name: str) -> None:
    for pair in ((name, "frozen-fit"), ("frozen-fit", name)):
        found = cli_world.done("compare", *(world / one for one in pair), "--json").json
        assert found["n"] == 9
        assert "Left out: 6 items that would test a backbone which was tuned on them." in found["notes"]


def test_captions_are_tested_as_fairly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more item of the first picture, with another caption, in the part `test`, and one of it to choose on."""
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DEPONIJ_THREADS", "1")
    monkeypatch.setenv("DEPONIJ_DEVICE", "cpu")
    told = told_pictures.make(tmp_path, copies={"test": 3, "val": 2})
    answer = cli_world.done(*told.asked("mini-siglip", "tuned", "--set", "augment=none"))
    record = json.loads((tmp_path / "tuned" / "tuned.json").read_text())["tuned"]
    assert (record["n_train"], record["n_val"]) == (22, 8)
    # Of the eight of `test`, all different: chance is one of eight.
    chance = {part: ways["image-to-text"]["recall@1"]["chance"] for part, ways in record["recalls"].items()}
    assert chance["test"] == chance["val"] == pytest.approx(1 / 8)
    assert "Left out: 3 items that would test a backbone which was tuned on them." in answer.err


def test_a_test_part_of_nothing_else_is_refused(world: Path, tmp_path: Path) -> None:
    items = Items(world / "items")
    n_of = Counter(items.keys)
    twice = [one for one, key in zip(items.ids, items.keys, strict=True) if n_of[key] > 1]
    seen: set[str | None] = set()
    parts = []
    for one, key in zip(items.ids, items.keys, strict=True):
        parts.append("test" if one in twice and key in seen else "train")
        seen.add(key)
    write_split(tmp_path / "split.parquet", items.ids, parts)
    where = ["--items", world / "items", "--split", tmp_path / "split.parquet", "--labels", "label"]
    answer = cli_world.call("tune", *where, "--backbone", "mini-dinov2", "--out", tmp_path / "tuned", *SHORT)
    assert answer.status == 1
    assert f"all {parts.count('test')} items of the test part too" in answer.err
    assert not (tmp_path / "tuned").exists()
