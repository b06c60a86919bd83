"""What the learning stages choose, one after the other in one run: labels of the test part touch none of it."""

import json
import shutil
from pathlib import Path

import pytest
from dealt_anew import choices, dealt_anew, top1_of_test
from learning_world import World, make_world

from deponij.pipeline.curves import CURVES
from deponij.pipeline.reports.cell_tables import cell_tables
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.report.summary import results_table
from deponij.stages import curves, ensembles, heads, tables

SECTIONS = {
    "backbones": {"tiny": {}},
    "text_backbones": ["tiny"],
    "splits": {"split": {}},
    "labels": ["label"],
}
QUICK = {
    heads: {
        "heads": {
            "kinds": {"zero_shot": {}, "logistic": {}, "knn": {"ks": [1, 3, 5, 10, 20]}},
            "per_class": [1, 2, 3, 5, 8],
            "tries": 3,
        }
    },
    tables: {"tables": {"seeds": 2, "candidates": [1e-3, 1e-2], "epochs": 8}},
    ensembles: {},
    curves: {"curves": {"per_class": [1, 3], "tries": 2}},
}


def learn_all(world: World, root: Path) -> Layout:
    """The stages as `deponij run` and DVC run them."""
    at = Layout(root)
    for source, target in (
        (world.split, at.split("split")),
        (world.features, at.view("tiny")),
        (world.texts, at.texts("tiny")),
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    shutil.copytree(world.items, at.items)
    for stage, section in QUICK.items():
        sections = {name: SECTIONS[name] for name in stage.Params.model_fields if name in SECTIONS}
        stage.main(stage.Params.model_validate(sections | section), at, RunOptions(threads=1))
    return at


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, Layout]:
    """Of a world, and of the same with the labels of its test part dealt anew."""
    world = make_world(tmp_path_factory.mktemp("world"), n=240, noise=0.6)
    other = dealt_anew(world, tmp_path_factory.mktemp("anew"))
    return learn_all(world, tmp_path_factory.mktemp("a")), learn_all(other, tmp_path_factory.mktemp("b"))


def test_results_of_heads_tables_and_ensembles(runs: tuple[Layout, Layout]) -> None:
    first, second = ([*at.results(), *at.ensemble_results()] for at in runs)
    assert len(first) == len(second) == 3 + 2 + 6
    for one, other in zip(first, second, strict=True):
        assert choices(one) == choices(other), one
    assert sum(map(top1_of_test, first)) > sum(map(top1_of_test, second)) + 0.2 * len(first)
    for at in runs:
        (group,) = results_table([*at.results(), *at.ensemble_results()])
        assert group.chosen is not None
    names = [
        [(row.backbone, row.method, row.val_top1, row.is_chosen) for row in results_table(found)[0].rows[2:]]
        for found in (first, second)
    ]
    assert names[0] == names[1]


def test_cells(runs: tuple[Layout, Layout]) -> None:
    first, second = (tables.read(at.tables) for at in runs)
    learned = (
        "model",
        "head",
        "lr",
        "seed_values",
        "val_top1",
        "n_val",
        "protocol",
        "fingerprints",
        "members",
    )
    for one, other in zip(first, second, strict=True):
        assert [getattr(one, name) for name in learned] == [getattr(other, name) for name in learned]
    marked = [
        [
            (row.model, row.head)
            for row in cell_tables(cells)[0].rows
            if cell_tables(cells)[0].is_chosen(row.cells[0])
        ]
        for cells in (first, second)
    ]
    assert marked[0] == marked[1] and len(marked[0]) == 1
    assert any(one.top1 != other.top1 for one, other in zip(first, second, strict=True))


def test_penalties_of_learning_curves(runs: tuple[Layout, Layout]) -> None:
    first, second = (CURVES.load(at.curves("tiny").read_bytes(), "") for at in runs)
    assert [one.c for one in first] == [one.c for one in second]
    assert any(one.c for one in first)
    assert all(one.top1 > other.top1 for one, other in zip(first, second, strict=True))


def test_numbers_that_are_compared_between_runs(runs: tuple[Layout, Layout]) -> None:
    """`dvc exp show` shows validation to choose by; it is the same."""
    first, second = (json.loads(at.metrics("heads").read_text()) for at in runs)
    assert {kind: found["tiny"]["split"]["label"]["val"] for kind, found in first.items()} == {
        kind: found["tiny"]["split"]["label"]["val"] for kind, found in second.items()
    }
