"""Blends of text and pictures on a made-up world, and zero-shot by descriptions of each class."""

from pathlib import Path

import numpy as np
import pytest
from learning_world import (
    CLASSES,
    World,
    learned,
    make_world,
    vectors,
    write_features,
    write_split,
    write_texts,
)

from deponij.pipeline.heads.registry import load_head
from deponij.project.learning.learn import HeadResult
from deponij.project.learning.result_files import read_logits
from deponij.store.errors import DataError, IdentityError, StoreError
from deponij.store.keys import key_of_text
from deponij.store.view import View

METHODS = ("wise-ft", "tip-adapter")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), n=240, noise=0.5)


@pytest.fixture(scope="module")
def off_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text vectors off the pictures', so that there is something to learn."""
    path = tmp_path_factory.mktemp("texts") / "texts.h5"
    write_descriptions(path, list(CLASSES) * 2, noise=0.4)
    return path


def write_descriptions(path: Path, groups: list[str], noise: float) -> None:
    texts = [f"{group}, described {i}" for i, group in enumerate(groups)]
    write_features(
        path,
        [str(i) for i in range(len(groups))],
        [key_of_text(text) for text in texts],
        vectors(groups, noise=noise, seed=5),
        kind="text",
        columns={"text": texts, "group": groups, "template": ["{}"] * len(groups)},
    )


def run(world: World, method: str = "wise-ft", out: Path | None = None, **changes: object) -> HeadResult:
    return learned(world, method, out, **{"texts": world.texts, **changes})


def run_zero_shot(world: World, texts: Path, out: Path | None = None) -> HeadResult:
    return learned(world, "zero-shot", out, texts=texts)


@pytest.mark.parametrize("method", METHODS)
def test_chosen_on_validation_and_better_than_zero_shot(
    world: World, off_texts: Path, method: str, tmp_path: Path
) -> None:
    found = run(world, method, texts=off_texts, out=tmp_path)
    alone = run_zero_shot(world, off_texts)
    assert (
        found.parts["val"].top1
        == max(trial["top1"] for trial in found.learned["trials"])
        >= alone.parts["val"].top1
    )
    assert found.parts["test"].top1 > alone.parts["test"].top1
    # At alpha 0 a blend is zero-shot.
    assert {trial["top1"] for trial in found.learned["trials"] if trial["alpha"] == 0} == {
        alone.parts["val"].top1
    }
    assert (found.method, found.classes, found.texts.n_texts) == (method, CLASSES, 8)
    assert found.texts.fingerprint == View(off_texts).fingerprint
    assert ("beta" in found.learned, "c" in found.learned) == (method == "tip-adapter", method == "wise-ft")
    assert HeadResult.model_validate_json((tmp_path / "result.json").read_bytes()) == found
    head = load_head(tmp_path)
    assert (head.kind, head.protocol) == (method, found.protocol)
    assert read_logits(tmp_path).shape[1] == 4


@pytest.mark.parametrize("method", METHODS)
def test_the_same_inputs_give_the_same_bytes(world: World, method: str, tmp_path: Path) -> None:
    for name in "ab":
        run(world, method, out=tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("method", METHODS)
def test_a_class_without_training_items_is_answered_by_its_text(
    world: World, method: str, tmp_path: Path
) -> None:
    parts = [
        "test" if label == "Lid" and part else part
        for label, part in zip(world.labels, world.parts, strict=True)
    ]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    found = run(world, method, split=tmp_path / "split.parquet")
    assert found.classes == CLASSES
    assert found.unseen_classes == ()
    assert found.parts["test"].n_unseen_class == 0


@pytest.mark.parametrize("method", METHODS)
def test_without_validation(world: World, method: str, tmp_path: Path) -> None:
    parts = [None if part == "val" else part for part in world.parts]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    found = run(world, method, split=tmp_path / "split.parquet")
    assert found.learned["trials"] == []
    assert found.learned["alpha"] == {"wise-ft": 0.5, "tip-adapter": 1.0}[method]
    assert "without validation" in found.protocol


def test_missing_texts_name_the_command(world: World, tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.h5", CLASSES[:3])
    command = f"deponij extract-text --backbone tiny --items {world.items} --labels label --out"
    with pytest.raises(DataError, match="1 classes have no text vectors") as error:
        run(world, texts=tmp_path / "texts.h5")
    assert command in str(error.value)
    for call in (run, lambda _, texts: run_zero_shot(world, texts)):
        with pytest.raises(StoreError, match="there are no text vectors of tiny") as absent:
            call(world, texts=tmp_path / "none.h5")
        assert command in str(absent.value)


def test_refusals(world: World, tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.h5", CLASSES, weights="other" * 8)
    with pytest.raises(IdentityError, match="different models"):
        run(world, texts=tmp_path / "texts.h5")
    write_split(tmp_path / "split.parquet", world.ids, ["test"] * len(world.ids))
    with pytest.raises(DataError, match="train part has no items"):
        run(world, split=tmp_path / "split.parquet")


def test_zero_shot_by_any_number_of_descriptions_a_class(world: World, tmp_path: Path) -> None:
    groups = ["Bottle"] * 3 + ["Can"] + ["Cup"] * 2 + ["Lid"] * 5
    write_descriptions(tmp_path / "texts.h5", groups, noise=0.1)
    found = run_zero_shot(world, tmp_path / "texts.h5", tmp_path / "out")
    assert found.texts.n_texts == 11
    assert "mean of 1 to 5 text vectors a class" in found.protocol
    texts = View(tmp_path / "texts.h5").embedding
    units = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    means = np.array([units[np.array(groups) == name].mean(axis=0) for name in CLASSES])
    head = load_head(tmp_path / "out")
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(head._tensors()["weight"], expected, atol=1e-6)
