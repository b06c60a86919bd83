"""`deponij fit`: any head on one or several views."""

from pathlib import Path

import numpy as np
import pytest
from learning_world import CLASSES, DIM, World, make_world, write_features, write_split

from deponij.pipeline.heads.registry import load_head
from deponij.project.learning.arguments import parse_arguments
from deponij.project.learning.learn import HeadParams, HeadResult
from deponij.project.learning.learn import learn as learn_head
from deponij.project.learning.result_files import read_judged
from deponij.store.errors import DeponijError, UsageError
from deponij.store.view import View


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def learn(world: World, head: str, out: Path | None = None, **arguments: object) -> HeadResult:
    params = HeadParams(head=head, arguments=arguments)
    return learn_head(
        params, features=[world.features], items=world.items, split=world.split, labels="label", out=out
    )


@pytest.mark.parametrize("head", ["linear", "mlp", "logistic", "knn", "centroid", "dino-linear"])
def test_every_head_that_learns_from_pictures(world: World, tmp_path: Path, head: str) -> None:
    quick = {"dino-linear": {"iterations": 200}, "linear": {"lr": 0.03}, "mlp": {"lr": 0.01}}.get(head, {})
    result = learn(world, head, tmp_path / "out", **quick)
    assert result.method == head and result.dim == DIM
    assert result.parts["test"].top1 > 2 / len(CLASSES)
    judged = read_judged(tmp_path / "out")
    rows = View(world.features).read(judged.predictions.ids.tolist())
    answers = load_head(tmp_path / "out").predict(rows)
    assert answers.tolist() == judged.predictions.top_labels[:, 0].tolist()


def test_several_views_are_concatenated(world: World, tmp_path: Path) -> None:
    view = View(world.features)
    second = tmp_path / "second.h5"
    other = np.random.default_rng(0).normal(size=(len(view), 3)).astype(np.float32)
    write_features(second, view.ids.tolist(), view.keys.tolist(), other, failures=view.failures)
    result = learn_head(
        HeadParams(head="centroid"),
        features=[world.features, second],
        items=world.items,
        split=world.split,
        labels="label",
        out=tmp_path / "out",
    )
    assert result.dim == DIM + 3
    assert len(load_head(tmp_path / "out").sources_) == 2
    assert "+" in result.backbone


def test_dinov2s_grid_takes_tokens_and_other_heads_do_not(world: World, tmp_path: Path) -> None:
    view, tokens = View(world.features), tmp_path / "tokens.h5"
    noise = np.random.default_rng(0).normal(size=(len(view), 2, 2, DIM)).astype(np.float32)
    noise[:, 1, 1] = view.embedding  # the last block's mean patch token
    write_features(
        tokens, view.ids.tolist(), view.keys.tolist(), noise, kind="tokens@2", failures=view.failures
    )
    inputs = {"features": [tokens], "items": world.items, "split": world.split, "labels": "label"}
    result = learn_head(HeadParams(head="dino-linear", arguments={"iterations": 200}), **inputs)
    assert result.dim == 4 * DIM
    # Without patch tokens there is only noise.
    assert result.parts["test"].top1 > 0.6
    with pytest.raises(UsageError, match="tokens@2"):
        learn_head(HeadParams(head="linear"), **inputs)


def test_arguments_are_read_as_json_or_text() -> None:
    parsed = parse_arguments(["lr=1e-3", "balance=class-weights", "cs=[0.1, 1]"])
    assert parsed == {"lr": 0.001, "balance": "class-weights", "cs": [0.1, 1]}
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_arguments(["lr"])


@pytest.mark.parametrize(
    ("head", "arguments", "told"),
    [
        ("lineer", {}, "Did you mean 'linear'"),
        ("linear", {"learning_rate": 1}, "has no argument learning_rate; it has lr"),
        ("linear", {"lr": -1}, "lr"),
        ("zero-shot", {}, "zero-shot"),
    ],
)
def test_wrong_wishes(world: World, head: str, arguments: dict[str, object], told: str) -> None:
    with pytest.raises(DeponijError, match=told):
        learn(world, head, **arguments)


def test_figures_of_what_chose_are_no_result(world: World, tmp_path: Path) -> None:
    """Without a test part every record says whose its figures are, and no temperature is shown on what it was fitted on."""
    write_split(
        tmp_path / "split.parquet", world.ids, ["val" if part == "test" else part for part in world.parts]
    )
    result = learn_head(
        HeadParams(head="logistic"),
        features=[world.features],
        items=world.items,
        split=tmp_path / "split.parquet",
        labels="label",
    )
    assert any(
        "There is no test part: these are val items, by which the classifiers were chosen" in note
        for note in result.notes
    )
    assert result.calibration is not None and result.calibration.part == "val"
    assert result.calibration.temperature is not None and result.calibration.ece_scaled is None
    assert not any("no test part" in note for note in learn(world, "logistic").notes)
