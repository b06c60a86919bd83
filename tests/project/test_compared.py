"""The few numbers that DVC compares: percent of right answers, counted from the answers themselves."""

import json
from pathlib import Path

import pytest
from learning_world import learned, make_world

from deponij.project.frame.layout import Layout
from deponij.project.learning.result_files import read_judged
from deponij.project.report.compared import compared, metrics_bytes, probes_of
from deponij.project.report.summary import results_table


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Results of a probe and of nearest class means."""
    root = tmp_path_factory.mktemp("compared")
    world = make_world(root)
    at = Layout(root)
    for kind in ("logistic", "centroid"):
        learned(world, kind, at.result(kind, "tiny") / "split-label")
    return at


def right_percent(folder: Path, part: str) -> float:
    found = read_judged(folder).predictions.of(part)
    return round(100 * float((found.truth == found.top_labels[:, 0]).mean()), 1)


def test_the_chosen_and_the_probes_in_percent(at: Layout) -> None:
    (group,) = results_table(at.results(["tiny"]))
    numbers = compared(group, probes_of(at, ["tiny", "gone"], group))
    assert group.chosen is not None
    kind = "logistic" if "logistic" in group.chosen.method else "centroid"
    folder = at.result(kind, "tiny") / "split-label"
    assert numbers == {
        "test": right_percent(folder, "test"),
        "val": right_percent(folder, "val"),
        "probe": {"tiny": right_percent(at.result("logistic", "tiny") / "split-label", "test")},
    }
    assert json.loads(metrics_bytes(numbers)) == numbers


def test_what_there_is_not_is_left_out(at: Layout) -> None:
    (group,) = results_table([at.result("centroid", "tiny") / "split-label"])
    assert set(compared(group, [])) == {"test", "val"}
