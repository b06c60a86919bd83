"""k-NN on a made-up world: every k, few-shot, refusals."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from learning_world import CLASSES, World, learned, make_world, write_split
from sklearn.neighbors import KNeighborsClassifier

from deponij.pipeline.heads.few_shot import draw
from deponij.pipeline.heads.registry import load_head
from deponij.pipeline.metrics.clustered import mean_of_runs
from deponij.project.learning.learn import HeadResult
from deponij.project.learning.result_files import read_logits
from deponij.project.learning.results import read_examples
from deponij.store.errors import DataError, StoreError
from deponij.store.items import Items
from deponij.store.view import View

ARGUMENTS = {"ks": [1, 5, 20, 200]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    # Noise that leaves something to choose.
    return make_world(tmp_path_factory.mktemp("world"), n=240, noise=0.6)


def run(world: World, out: Path | None = None, **changes: object) -> HeadResult:
    return learned(world, "knn", out, ARGUMENTS, per_class=(1, 3), tries=4, **changes)


@pytest.fixture(scope="module")
def result(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[HeadResult, Path]:
    out = tmp_path_factory.mktemp("out")
    return run(world, out), out


def test_every_k_equals_scikit_learn(world: World, result: tuple[HeadResult, Path]) -> None:
    examples, vectors = read_examples(View(world.features), Items(world.items), world.split, "label")
    train, test = examples.rows("train"), examples.rows("test")
    assert [one["k"] for one in result[0].learned["every_k"]] == [1, 5, 20, len(train)]
    for one in result[0].learned["every_k"]:
        peer = KNeighborsClassifier(one["k"], weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine")
        peer.fit(vectors[train], examples.labels[train])
        assert one["parts"]["test"]["top1"] == peer.score(vectors[test], examples.labels[test])


def test_the_result_is_that_of_the_k_chosen_on_validation(result: tuple[HeadResult, Path]) -> None:
    found, out = result
    by_k = {one["k"]: one["parts"] for one in found.learned["every_k"]}
    k = found.learned["k"]
    assert by_k[k] == {part: scores.model_dump(mode="json") for part, scores in found.parts.items()}
    assert found.parts["val"].top1 == max(parts["val"]["top1"] for parts in by_k.values())
    assert (found.method, found.title, found.dim) == ("knn", "k-NN", 16)
    assert found.classes == CLASSES
    assert f"k = {k} of 4 by top-1 on validation" in found.protocol
    assert any("say nothing" in note for note in found.notes)
    assert HeadResult.model_validate_json((out / "result.json").read_bytes()) == found
    head = load_head(out)
    assert head.protocol == found.protocol
    assert read_logits(out).shape == (sum(scores.n for scores in found.parts.values()), 4)


def test_few_shot_is_the_mean_over_seeded_draws(world: World, result: tuple[HeadResult, Path]) -> None:
    few = [SimpleNamespace(**one) for one in result[0].learned["few_shot"]]
    assert {(one.per_class, one.k) for one in few} == {(1, 1), (1, 4), (3, 1), (3, 5), (3, 12)}
    assert {(one.per_class, one.n_train, one.tries) for one in few} == {(1, 4, 4), (3, 12, 4)}
    assert [sum(one.chosen for one in few if one.per_class == n) for n in (1, 3)] == [1, 1]
    examples, vectors = read_examples(View(world.features), Items(world.items), world.split, "label")
    train, test = examples.rows("train"), examples.rows("test")
    right = []
    for seed in range(4):
        rows = train[draw(examples.labels[train], 3, seed)]
        peer = KNeighborsClassifier(5, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine")
        answers = peer.fit(vectors[rows], examples.labels[rows]).predict(vectors[test])
        right.append(answers == examples.labels[test])
    scores = np.mean(right, axis=1)
    one = next(one for one in few if (one.per_class, one.k) == (3, 5))
    assert one.top1 == pytest.approx(np.mean(scores))
    assert one.top1_std == pytest.approx(np.std(scores, ddof=1))
    assert one.n_test == len(test)
    top1, balanced = mean_of_runs(right, examples.groups[test], examples.labels[test])
    assert one.n_groups == len(set(examples.groups[test].tolist())) < len(test)
    assert one.top1_interval == pytest.approx(top1.interval)
    assert one.balanced_interval == pytest.approx(balanced.interval)
    best = {n: max(each.top1 for each in few if each.per_class == n) for n in (1, 3)}
    assert best[3] > best[1]


def test_few_shot_s_k_is_chosen_on_validation(world: World, result: tuple[HeadResult, Path]) -> None:
    examples, vectors = read_examples(View(world.features), Items(world.items), world.split, "label")
    train, val = examples.rows("train"), examples.rows("val")
    on_val: dict[int, list[float]] = {}
    for seed in range(4):
        rows = train[draw(examples.labels[train], 3, seed)]
        for k in (1, 5, 12):
            peer = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine")
            peer.fit(vectors[rows], examples.labels[rows])
            on_val.setdefault(k, []).append(peer.score(vectors[val], examples.labels[val]))
    means = {k: float(np.mean(found)) for k, found in on_val.items()}
    assert max(means.values()) > min(means.values()), "otherwise the test shows nothing"
    (chosen,) = (one for one in result[0].learned["few_shot"] if one["per_class"] == 3 and one["chosen"])
    assert means[chosen["k"]] == max(means.values())


def test_the_same_inputs_give_the_same_bytes(
    world: World, result: tuple[HeadResult, Path], tmp_path: Path
) -> None:
    run(world, tmp_path)
    for path in result[1].iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_without_validation_k_is_the_usual_one(world: World, tmp_path: Path) -> None:
    parts = ["train" if part == "val" else part for part in world.parts]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    found = run(world, split=tmp_path / "split.parquet")
    assert found.learned["k"] == 20
    assert "no validation" in found.protocol
    assert sum(one["chosen"] for one in found.learned["few_shot"]) == 2


def test_a_class_with_one_example_and_one_that_only_test_has(world: World, tmp_path: Path) -> None:
    cups = [
        i
        for i, (name, part) in enumerate(zip(world.labels, world.parts, strict=True))
        if name == "Cup" and part
    ]
    parts = [
        ("train" if i == cups[0] else "test") if part and name in ("Cup", "Lid") else part
        for i, (name, part) in enumerate(zip(world.labels, world.parts, strict=True))
    ]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    found = run(world, split=tmp_path / "split.parquet")
    assert found.classes == ("Bottle", "Can", "Cup")
    assert found.unseen_classes == ("Lid",)
    assert {one["n_train"] for one in found.learned["few_shot"]} == {3, 7}
    mean = learned(world, "centroid", split=tmp_path / "split.parquet")
    assert mean.classes == found.classes
    assert "mean of 1 to " in mean.protocol


def test_nearest_class_mean(world: World, tmp_path: Path) -> None:
    found = learned(world, "centroid", tmp_path)
    examples, vectors = read_examples(View(world.features), Items(world.items), world.split, "label")
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    train, test = examples.rows("train"), examples.rows("test")
    means = np.array([units[train][examples.labels[train] == name].mean(axis=0) for name in CLASSES])
    nearest = np.square(units[test][:, None] - means).sum(axis=2).argmin(axis=1)
    assert found.parts["test"].top1 == (np.array(CLASSES)[nearest] == examples.labels[test]).mean()
    assert (load_head(tmp_path).kind, found.method) == ("centroid", "centroid")


def test_refusals(world: World, tmp_path: Path) -> None:
    write_split(tmp_path / "split.parquet", world.ids, ["test"] * len(world.ids))
    for head in ("knn", "centroid"):
        with pytest.raises(DataError, match="train part has no items"):
            learned(world, head, split=tmp_path / "split.parquet")
    other = make_world(tmp_path / "other", n=60)
    with pytest.raises(StoreError, match=r"made from other items|saw other pictures"):
        run(world, features=other.features)
