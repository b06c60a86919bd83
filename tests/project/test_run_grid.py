"""What a learning stage leaves for DVC: numbers of every pair, confusion and reliability of the first."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from deponij.project.learning.grid import run_grid

from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.frame.layout import Layout
from deponij.project.learning.results import judge, write_results

CLASSES = ("Bottle", "Can", "Cup")


def result(split: Path, labels: str, out: Path) -> Evaluation:
    """Answers that get better with the length of the split's name, so that each pair is told apart."""
    rng = np.random.default_rng(len(split.stem))
    codes = np.arange(90) % 3
    examples = Examples(
        ids=np.array([f"i{n}" for n in range(90)]),
        labels=np.array(CLASSES)[codes],
        parts=np.array(["train", "val", "test"])[np.arange(90) // 30],
        pool_classes=CLASSES,
        n_items=90,
        n_outside_pool=0,
        n_without_label=0,
        n_without_features=0,
    )
    logits = rng.normal(size=(90, 3)) + 0.3 * len(split.stem) * np.eye(3)[codes]
    names = dict.fromkeys(("method", "title", "protocol", "backbone", "fingerprint"), "x")
    judged = judge(logits, CLASSES, examples, **names, labels=labels, split=split.stem)
    write_results(out, judged.evaluation, judged.predictions, judged.logits)
    return judged.evaluation


@pytest.fixture
def at(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    stale = made.result("probe", "tiny") / "gone-label"
    stale.mkdir(parents=True)
    run_grid(made, "probe", "tiny", ["random", "image-grouped"], ["label", "other"], result)
    return made


def test_numbers_of_every_split_and_label_set(at: Layout) -> None:
    numbers = json.loads(at.metrics("probe", "tiny").read_text())
    assert {split: set(by_labels) for split, by_labels in numbers.items()} == {
        "random": {"label", "other"},
        "image-grouped": {"label", "other"},
    }
    folder = at.result("probe", "tiny") / "image-grouped-label"
    expected = Evaluation.model_validate_json((folder / "result.json").read_bytes())
    test = numbers["image-grouped"]["label"]["test"]
    assert test["top1"] == pytest.approx(expected.parts["test"].top1, abs=1e-6)
    assert test["ece"] == pytest.approx(expected.calibration.ece, abs=1e-6)
    assert json.loads((folder / "metrics.json").read_text()) == numbers["image-grouped"]["label"]


def test_plots_are_of_the_first_pair(at: Layout) -> None:
    first = at.result("probe", "tiny") / "random-label"
    assert at.plot("probe", "tiny").read_text() == (first / "confusion.csv").read_text()
    with at.reliability("probe", "tiny").open() as file:
        rows = list(csv.DictReader(file))
    expected = Evaluation.model_validate_json((first / "result.json").read_bytes()).calibration
    filled = [one for one in expected.bins if one.n]
    assert [int(row["n"]) for row in rows] == [one.n for one in filled]
    assert sum(int(row["n"]) for row in rows) == 30
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(
        [one.accuracy for one in filled], abs=1e-6
    )
    assert [float(row["confidence"]) for row in rows] == sorted(float(row["confidence"]) for row in rows)


def test_results_of_a_pair_that_is_gone_go_too(at: Layout) -> None:
    names = sorted(path.name for path in at.result("probe", "tiny").iterdir())
    assert names == ["image-grouped-label", "image-grouped-other", "random-label", "random-other"]
