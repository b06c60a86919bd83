"""The linear probe on a made-up world: joins, counts, files, refusals."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from learning_world import (
    CLASSES,
    World,
    learned,
    make_world,
    picture,
    vectors,
    write_features,
    write_items,
    write_split,
)

from deponij.pipeline.heads.registry import load_head
from deponij.project.learning.learn import HeadParams, HeadResult, learn
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.keys import key_of_bytes
from deponij.store.view import View


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def run(
    world: World, out: Path | None = None, arguments: dict[str, object] | None = None, **changes: object
) -> HeadResult:
    return learned(world, "logistic", out, arguments, **changes)


def refused(paths: dict[str, Path]) -> None:
    learn(HeadParams(head="logistic"), **{**paths, "features": [paths["features"]]}, labels="label")


def test_counts_and_scores(world: World) -> None:
    result = run(world)
    usable = [
        (part, label)
        for item_id, label, part in zip(world.ids, world.labels, world.parts, strict=True)
        if part and label and item_id not in world.failed
    ]
    assert result.n_items == len(world.ids) == 120
    assert (result.n_outside_pool, result.n_without_label, result.n_without_features) == (4, 3, 2)
    for part in ("train", "val", "test"):
        assert result.parts[part].n == sum(p == part for p, _ in usable)
    assert result.classes == CLASSES
    assert result.chance == 0.25
    test, train = ([label for p, label in usable if p == part] for part in ("test", "train"))
    assert result.majority_class == max(sorted(set(train)), key=train.count)
    assert result.parts["test"].majority == test.count(result.majority_class) / len(test)
    assert result.parts["test"].top1 > 0.9
    assert result.learned["chosen_on"] == "validation"
    assert len(result.learned["trials"]) == 9
    # Shares of validation's items, not of training's.
    n_right = np.array([trial["top1"] for trial in result.learned["trials"]]) * result.parts["val"].n
    np.testing.assert_allclose(n_right, np.round(n_right), atol=1e-9)
    assert 0 < min(n_right) < result.parts["val"].n


def test_joined_by_id_whatever_the_order(world: World, tmp_path: Path) -> None:
    # The view of `make_world` is shuffled already; a shuffled split changes nothing either.
    order = np.random.default_rng(0).permutation(len(world.ids))
    write_split(tmp_path / "split.parquet", [world.ids[i] for i in order], [world.parts[i] for i in order])
    assert run(world, split=tmp_path / "split.parquet") == run(world)


def test_files_of_a_result(world: World, tmp_path: Path) -> None:
    result = run(world, out=tmp_path)
    assert HeadResult.model_validate_json((tmp_path / "result.json").read_bytes()) == result
    table = pq.read_table(tmp_path / "predictions.parquet").to_pandas()
    assert len(table) == sum(scores.n for scores in result.parts.values())
    test = table[table.part == "test"]
    assert (test.truth == test.prediction).mean() == result.parts["test"].top1
    assert all(len(labels) == 4 for labels in table.top_labels)
    truth = dict(zip(world.ids, world.labels, strict=True))
    assert all(truth[row.item_id] == row.truth for row in table.itertuples())
    lines = (tmp_path / "confusion.csv").read_text().splitlines()
    assert lines[0] == "truth,prediction"
    assert len(lines) == result.parts["test"].n + 1
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test"]["top1"] == pytest.approx(result.parts["test"].top1, abs=1e-6)
    assert (tmp_path / "per_class.csv").read_text().startswith("part,class,support,groups,predicted,correct")


def test_saved_head_gives_the_predictions(world: World, tmp_path: Path) -> None:
    run(world, out=tmp_path)
    head, view = load_head(tmp_path), View(world.features)
    assert head.sources_[0].fingerprint == view.fingerprint
    assert head.sources_[0].identity["weights"] == view.identity.weights
    table = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    assert head.predict(view.read(table["item_id"])).tolist() == table["prediction"]


def test_same_inputs_same_bytes(world: World, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(world, out=tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 8
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_json_has_the_promised_fields(world: World) -> None:
    document = json.loads(run(world).model_dump_json())
    assert document["backbone"] == "tiny"
    assert document["labels"] == "label"
    assert {"n", "top1", "top2", "top3", "balanced_accuracy", "top1_interval"} <= set(
        document["parts"]["test"]
    )
    low, high = document["parts"]["test"]["top1_interval"]
    assert 0 <= low <= document["parts"]["test"]["top1"] <= high <= 1


def test_a_class_without_training_items_counts_as_wrong(world: World, tmp_path: Path) -> None:
    lids = {item_id for item_id, label in zip(world.ids, world.labels, strict=True) if label == "Lid"}
    parts = [
        None if item_id in lids and part != "test" else part
        for item_id, part in zip(world.ids, world.parts, strict=True)
    ]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    result = run(world, split=tmp_path / "split.parquet")
    assert result.classes == ("Bottle", "Can", "Cup")
    assert result.unseen_classes == ("Lid",)
    test = result.parts["test"]
    assert test.n == run(world).parts["test"].n
    assert test.n_unseen_class > 0
    assert test.top3 == pytest.approx(1 - test.n_unseen_class / test.n)


def test_without_validation_or_test_part(world: World, tmp_path: Path) -> None:
    parts = ["train" if part else None for part in world.parts]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    result = run(world, split=tmp_path / "split.parquet", out=tmp_path / "out")
    assert list(result.parts) == ["train"]
    assert "held-out" in result.learned["chosen_on"]
    assert len((tmp_path / "out" / "confusion.csv").read_text().splitlines()) == result.parts["train"].n + 1


def test_parameters_reach_the_head(world: World) -> None:
    result = run(world, arguments={"cs": [0.25]})
    assert (result.learned["c"], result.learned["trials"], result.learned["chosen_on"]) == (
        0.25,
        [],
        "nothing",
    )
    assert not run(world, arguments={"cs": [1.0], "max_iter": 1}).learned["converged"]
    weighed = run(world, arguments={"cs": [0.25], "balance": "class-weights"})
    assert "classes weighed equally" in weighed.protocol


def test_dinov2_s_penalties_by_name(world: World) -> None:
    # 45 from 1e-6 to 1e5, evenly in the exponent, as its `eval/log_regression.py` has them.
    trials = run(world, arguments={"cs": "dinov2"}).learned["trials"]
    assert len(trials) == 45
    assert (trials[0]["c"], trials[-1]["c"]) == pytest.approx((1e-6, 1e5))
    assert trials[1]["c"] / trials[0]["c"] == pytest.approx(10**0.25)


def test_an_absent_label_column_lists_those_there_are(world: World) -> None:
    with pytest.raises(UsageError, match=r"no column 'colour'.*label"):
        run(world, labels="colour")


def test_a_column_of_measures_is_no_label(world: World) -> None:
    with pytest.raises(UsageError, match="'area' holds float"):
        run(world, labels="area")


def test_an_empty_train_part_is_refused(world: World, tmp_path: Path) -> None:
    parts = ["test" if part == "train" else part for part in world.parts]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    with pytest.raises(DataError, match="its train part has no items"):
        run(world, split=tmp_path / "split.parquet")


def test_a_split_of_other_items_is_refused(world: World, tmp_path: Path) -> None:
    write_split(tmp_path / "split.parquet", ["stranger.jpg"], ["train"])
    with pytest.raises(DataError, match=r"stranger\.jpg"):
        run(world, split=tmp_path / "split.parquet")


def test_odd_splits_are_refused(world: World, tmp_path: Path) -> None:
    write_split(tmp_path / "a.parquet", world.ids[:2], ["train", "training"])
    with pytest.raises(DataError, match="training"):
        run(world, split=tmp_path / "a.parquet")
    write_split(tmp_path / "b.parquet", [world.ids[0]] * 2, ["train", "test"])
    with pytest.raises(DataError, match="1 item ids occur more than once"):
        run(world, split=tmp_path / "b.parquet")
    with pytest.raises(StoreError, match="no table at"):
        run(world, split=tmp_path / "absent.parquet")


def small(root: Path, n: int = 12, first_value: float = 0.0) -> dict[str, Path]:
    """Twelve items of three classes, all of them well."""
    ids = [f"i{i}" for i in range(n)]
    labels = [CLASSES[i % 3] for i in range(n)]
    write_items(root / "items", [(ids[i], picture(i), labels[i]) for i in range(n)])
    write_split(root / "split.parquet", ids, ["train"] * 9 + ["test"] * 3)
    embedding = vectors(labels, 0.1, seed=0)
    embedding[0, 0] += np.float32(first_value)
    write_features(root / "view.h5", ids, [key_of_bytes(picture(i)) for i in range(n)], embedding)
    return {"features": root / "view.h5", "items": root / "items", "split": root / "split.parquet"}


def test_a_view_of_other_items_is_refused(tmp_path: Path) -> None:
    paths = small(tmp_path)
    ids = [f"i{i}" for i in range(11)]
    keys = [key_of_bytes(picture(i)) for i in range(11)]
    write_features(tmp_path / "short.h5", ids, keys, np.zeros((11, 4), np.float32))
    with pytest.raises(StoreError, match="lacks 1 of 12 items that did not fail, the first: 'i11'"):
        refused({**paths, "features": tmp_path / "short.h5"})


def test_a_view_of_other_pictures_is_refused(tmp_path: Path) -> None:
    paths = small(tmp_path)
    ids, keys = [f"i{i}" for i in range(12)], [key_of_bytes(picture(i + (i == 7) * 50)) for i in range(12)]
    write_features(tmp_path / "old.h5", ids, keys, np.zeros((12, 4), np.float32))
    with pytest.raises(StoreError, match=r"saw other pictures.*for 1 items, the first: 'i7'"):
        refused({**paths, "features": tmp_path / "old.h5"})


def test_features_that_are_not_finite_are_named(tmp_path: Path) -> None:
    paths = small(tmp_path, first_value=np.inf)
    with pytest.raises(StoreError, match="the features of 1 items are NaN or infinite, the first: 'i0'"):
        refused(paths)


def test_constant_features_are_refused(tmp_path: Path) -> None:
    paths = small(tmp_path)
    keys = [key_of_bytes(picture(i)) for i in range(12)]
    write_features(tmp_path / "same.h5", [f"i{i}" for i in range(12)], keys, np.ones((12, 4), np.float32))
    with pytest.raises(DataError, match="constant"):
        refused({**paths, "features": tmp_path / "same.h5"})


def test_text_views_are_no_picture_features(world: World) -> None:
    with pytest.raises(UsageError, match="kind 'text'"):
        run(world, features=world.texts)


def test_the_stage_imports_no_torch_and_sklearn_late() -> None:
    code = (
        "import sys, deponij.project.learning.learn\n"
        "assert not {'torch', 'sklearn', 'pandas', 'matplotlib', 'open_clip'} & set(sys.modules)\n"
        "import deponij.pipeline.heads.logistic\n"
        "assert not {'torch', 'open_clip', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
