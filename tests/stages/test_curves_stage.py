"""The stage and command of learning curves on a made-up world: joins, files, refusals."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from cli_world import call, done
from learning_world import CLASSES, World, make_world, write_features, write_split
from under_dvc import under_dvc

from deponij.pipeline.curves import CURVES, CurveRow
from deponij.project.frame.layout import Layout
from deponij.project.learning.learn import HeadParams, learn
from deponij.stages import curves
from deponij.stages.curves import CurveParams
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.items import Items
from deponij.store.view import View

QUICK = CurveParams(per_class=(1, 3, 1000), tries=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def run(world: World, out: Path | None = None, **changes: Path | str) -> list[CurveRow]:
    arguments = {"features": world.features, "items": world.items, "split": world.split, "labels": "label"}
    return curves.run(QUICK, **{**arguments, **changes}, out=out)  # type: ignore[arg-type]


def flags(world: World) -> list[object]:
    return ["--features", world.features, "--items", world.items, "--split", world.split, "--labels", "label"]


def usable(world: World, part: str) -> list[str]:
    """Labels of a part's items that have one, and features."""
    rows = zip(world.ids, world.labels, world.parts, strict=True)
    return [label for item, label, found in rows if label and found == part and item not in world.failed]


def test_rows_say_what_they_are_of(world: World) -> None:
    rows = run(world)
    assert [(row.head, row.per_class) for row in rows] == [
        (head, size) for head in ("logistic", "centroid") for size in (1, 3, None)
    ]
    assert {(row.backbone, row.labels, row.split) for row in rows} == {("tiny", "label", "split")}
    assert {row.fingerprint for row in rows} == {View(world.features).fingerprint}
    assert {row.n_test for row in rows} == {len(usable(world, "test"))}
    assert [row.n_train for row in rows[:3]] == [4, 12, len(usable(world, "train"))]
    # Four classes at noise 0.3 of centres 1.4 apart.
    assert rows[2].top1 > 0.9 > rows[0].top1 > 0.25


@pytest.mark.parametrize("kind", ["logistic", "centroid"])
def test_a_curve_ends_where_the_head_of_its_name_is(world: World, kind: str) -> None:
    inputs = {"items": world.items, "split": world.split, "labels": "label"}
    head = learn(HeadParams(head=kind), features=[world.features], **inputs)  # type: ignore[arg-type]
    last = next(row for row in run(world) if row.head == kind and row.per_class is None)
    assert (last.top1, last.top1_interval) == (
        head.parts["test"].top1,
        head.parts["test"].top1_interval,
    )


def test_joined_by_id_whatever_the_order(world: World, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(world.ids))
    write_split(tmp_path / "split.parquet", [world.ids[i] for i in order], [world.parts[i] for i in order])
    assert run(world, split=tmp_path / "split.parquet") == run(world)


def test_the_file_is_what_is_returned_and_the_same_each_time(world: World, tmp_path: Path) -> None:
    rows = run(world, out=tmp_path / "a.json")
    assert CURVES.load((tmp_path / "a.json").read_bytes(), "a.json") == rows
    run(world, out=tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_under_dvc_every_split_and_label_set(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Layout.of("tiny")
    monkeypatch.chdir(tmp_path)
    at.split("one").parent.mkdir(parents=True)
    at.view("b").parent.mkdir(parents=True)
    at.items.symlink_to(world.items)
    for backbone in ("b", "c"):
        at.view(backbone).symlink_to(world.features)
    for name in ("one", "two"):
        at.split(name).symlink_to(world.split)
    Path("params.yaml").write_text(
        "profile: tiny\nbackbones: {b: {}, c: {}}\nsplits: {one: {}, two: {}}\nlabels: [label]\n"
        "curves: {per_class: [2], tries: 2}\n"
    )
    under_dvc(curves)
    assert at.curves("c").read_bytes() == at.curves("b").read_bytes()
    assert sorted(path.name for path in at.plots("curves").iterdir()) == ["b.csv", "c.csv"]
    rows = CURVES.load(at.curves("b").read_bytes(), "")
    assert {(row.split, row.labels) for row in rows} == {("one", "label"), ("two", "label")}
    table = list(csv.DictReader((at.plots("curves") / "b.csv").open()))
    first = [row for row in rows if row.split == "one" and row.head == "logistic"]
    assert [float(line["top1"]) for line in table] == pytest.approx([row.top1 for row in first], abs=1e-6)
    # On average: two of each of four classes, and all training items over four.
    assert [float(line["items_per_class"]) for line in table] == [2, len(usable(world, "train")) / 4]


def test_command(world: World, tmp_path: Path) -> None:
    answer = done("curve", *flags(world), "--tries", 2, "--json", "--out", tmp_path / "c.json")
    assert answer.json == json.loads((tmp_path / "c.json").read_text())["records"]
    assert {row["tries"] for row in answer.json if row["per_class"]} == {2}
    shown = done("curve", *flags(world), "--tries", 2).out
    assert "of each class" in shown
    assert "Twice the pictures (" in shown
    assert f"n = {len(usable(world, 'test'))}" in shown
    assert call("curve", *flags(world), "--tries", 0).status == 2


def test_bad_input_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'colour'"):
        run(world, labels="colour")
    for part in ("train", "test"):
        write_split(tmp_path / "s.parquet", world.ids, ["val" if p == part else p for p in world.parts])
        with pytest.raises(DataError, match=f"the split's {part} part has none"):
            run(world, split=tmp_path / "s.parquet")
    write_split(tmp_path / "none.parquet", world.ids, [None] * len(world.ids))
    with pytest.raises(DataError, match="0 have a part in the split"):
        run(world, split=tmp_path / "none.parquet")
    for name, value, error, message in (
        ("nan", np.nan, StoreError, "NaN or infinite"),
        ("constant", 1.0, DataError, r"the same \(constant\) features"),
    ):
        view = View(world.features)
        keys = dict(zip(Items(world.items).ids, Items(world.items).keys, strict=True))
        ids = view.ids.tolist()
        write_features(
            tmp_path / f"{name}.h5",
            ids,
            [str(keys[item]) for item in ids],
            np.full((len(ids), 4), value, np.float32),
            failures=view.failures,
        )
        with pytest.raises(error, match=message):
            run(world, features=tmp_path / f"{name}.h5")


def test_a_split_without_a_class_and_a_class_with_one_item(world: World, tmp_path: Path) -> None:
    lids = [item for item, label in zip(world.ids, world.labels, strict=True) if label == CLASSES[-1]]
    parts = [
        "val" if item in lids and part == "train" else part
        for item, part in zip(world.ids, world.parts, strict=True)
    ]
    write_split(tmp_path / "s.parquet", world.ids, parts)
    last = run(world, split=tmp_path / "s.parquet")[2]
    assert last.n_classes == 3
    # Lids cannot be answered.
    assert last.top1 <= 1 - usable(world, "test").count(CLASSES[-1]) / last.n_test
    first = next(
        item for item, part in zip(world.ids, world.parts, strict=True) if item in lids and part == "train"
    )
    parts[world.ids.index(first)] = "train"
    write_split(tmp_path / "s.parquet", world.ids, parts)
    rows = run(world, split=tmp_path / "s.parquet")
    assert (rows[1].n_classes, rows[1].n_short_classes, rows[1].n_train) == (4, 1, 10)
