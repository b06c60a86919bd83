"""Zero-shot on a made-up world."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from learning_world import CLASSES, World, learned, make_world, write_features, write_split, write_texts

from deponij.project.learning.learn import HeadResult
from deponij.store.errors import DataError, IdentityError, StoreError, UsageError
from deponij.store.view import View


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def run(world: World, out: Path | None = None, **changes: object) -> HeadResult:
    return learned(world, "zero-shot", out, **{"texts": world.texts, **changes})


def test_scores_equal_cosines_by_hand(world: World, tmp_path: Path) -> None:
    result = run(world, out=tmp_path)
    table = pq.read_table(tmp_path / "predictions.parquet").to_pandas()
    view, texts = View(world.features), View(world.texts)
    units = texts.embedding / np.linalg.norm(texts.embedding, axis=1, keepdims=True)
    means = np.array([units[texts.columns["group"] == name].mean(axis=0) for name in CLASSES])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    answers = np.array(CLASSES)[(view.read(table.item_id.tolist()) @ means.T).argmax(axis=1)]
    assert answers.tolist() == table.prediction.tolist()
    test = table[table.part == "test"]
    assert result.parts["test"].top1 == (test.truth == test.prediction).mean()
    assert (result.method, result.texts.n_texts, result.texts.templates) == (
        "zero-shot",
        8,
        ("a photo of a {}", "{}"),
    )
    assert (result.n_outside_pool, result.n_without_label, result.n_without_features) == (4, 3, 2)


def test_files_come_back(world: World, tmp_path: Path) -> None:
    result = run(world, out=tmp_path)
    assert HeadResult.model_validate_json((tmp_path / "result.json").read_bytes()) == result


def test_classes_are_those_of_the_pool(world: World, tmp_path: Path) -> None:
    # Texts of a class that no item has must not be answers.
    write_texts(tmp_path / "texts.h5", [*CLASSES, "Whale"])
    result = run(world, texts=tmp_path / "texts.h5")
    assert result.classes == CLASSES
    assert result.texts.unused_groups == ("Whale",)
    parts = [part if label != "Lid" else None for part, label in zip(world.parts, world.labels, strict=True)]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    assert run(world, split=tmp_path / "split.parquet").classes == ("Bottle", "Can", "Cup")


def test_some_templates_only(world: World) -> None:
    result = run(world, templates=("{}",))
    assert (result.texts.n_texts, result.texts.templates) == (4, ("{}",))
    with pytest.raises(
        DataError, match=r"no texts of the templates \['no {}'\]; it has \['a photo of a {}', '{}'\]"
    ):
        run(world, templates=("no {}",))


def test_missing_texts_name_the_classes_and_the_command(world: World, tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.h5", CLASSES[:2])
    with pytest.raises(DataError) as error:
        run(world, texts=tmp_path / "texts.h5")
    message = str(error.value)
    assert "2 classes have no text vectors" in message
    assert "'Cup', 'Lid'" in message
    assert f"deponij extract-text --backbone tiny --items {world.items} --labels label --out" in message


def test_texts_of_another_model_are_refused(world: World, tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.h5", CLASSES, weights="other" * 8)
    with pytest.raises(IdentityError, match=r"different models: weights: wwww.* against otherother"):
        run(world, texts=tmp_path / "texts.h5")


def test_picture_features_are_no_texts(world: World) -> None:
    with pytest.raises(IdentityError, match="kind 'embedding'; texts must be"):
        run(world, texts=world.features)


def test_texts_without_classes_are_refused(world: World, tmp_path: Path) -> None:
    write_features(tmp_path / "captions.h5", ["0"], ["0" * 40], np.ones((1, 16), np.float32), kind="text")
    with pytest.raises(StoreError, match="no column 'group'"):
        run(world, texts=tmp_path / "captions.h5")


def test_an_absent_label_column_lists_those_there_are(world: World) -> None:
    with pytest.raises(UsageError, match=r"no column 'colour'.*label"):
        run(world, labels="colour")


def test_a_test_part_alone_is_enough(world: World, tmp_path: Path) -> None:
    write_split(tmp_path / "split.parquet", world.ids, ["test"] * len(world.ids))
    result = run(world, split=tmp_path / "split.parquet")
    assert list(result.parts) == ["test"]
