"""Cells by hand: means, deviations, baselines, and the published figures at the right places."""

import csv
from pathlib import Path

import numpy as np
import pytest

from deponij.pipeline.metrics.clustered import mean_of_runs
from deponij.pipeline.reports import cells as module
from deponij.pipeline.reports.cells import Cell, Place, chance_cell, majority_cell, measured_cell, reference

TRUTH = np.array(["a", "a", "b", "c"])
# The first run has two hits at once, three within two ranks and all within three; the second one
# more at once.
FIRST = np.array([["a", "b", "c"], ["b", "a", "c"], ["b", "a", "c"], ["a", "b", "c"]])
SECOND = np.array([["a", "b", "c"], ["a", "b", "c"], ["b", "a", "c"], ["a", "b", "c"]])
GROUPS = np.array(["p", "q", "r", "r"])
PLACE = Place("single", ("tiny",), "linear", "label", "group")


def made(*runs: np.ndarray, place: Place = PLACE) -> Cell:
    seeds = tuple(range(len(runs))) if len(runs) > 1 else ()
    return measured_cell(
        place, TRUTH, runs, GROUPS, unit="photographs", n_classes=3, seed_values=seeds, protocol="by hand"
    )


def test_means_and_deviations_by_hand() -> None:
    cell = made(FIRST, SECOND)
    assert (cell.n, cell.n_classes, cell.seeds, cell.seed_values) == (4, 3, 2, (0, 1))
    assert (cell.top1, cell.top2, cell.top3) == (0.625, 0.75, 1.0)
    # Of 0.5 and 0.75 with n - 1: 0.25 / sqrt(2).
    assert cell.top1_std == pytest.approx(0.25 / 2**0.5)
    assert (cell.top2_std, cell.top3_std) == (0, 0)
    # Recalls of a, b, c: (1/2, 1, 0) and (1, 1, 0).
    assert cell.balanced_accuracy == pytest.approx((0.5 + 2 / 3) / 2)
    assert cell.balanced_accuracy_std == pytest.approx((2 / 3 - 0.5) / 2**0.5)


def test_intervals_take_whole_photographs_and_runs() -> None:
    """Twelve times the four items, of 36 photographs: what `clustered` says of these hits."""
    truth, groups = np.tile(TRUTH, 12), np.array([f"{i // 4}{GROUPS[i % 4]}" for i in range(48)])
    runs = [np.tile(one, (12, 1)) for one in (FIRST, SECOND)]
    cell = measured_cell(PLACE, truth, runs, groups, unit="photographs", n_classes=3, protocol="by hand")
    assert (cell.n, cell.n_groups, cell.unit, cell.interval_kind) == (48, 36, "photographs", "clustered")
    for k in (1, 2, 3):
        hits = [(one[:, :k] == truth[:, None]).any(axis=1) for one in runs]
        assert getattr(cell, f"top{k}_interval") == mean_of_runs(hits, groups, truth)[0].interval
    top1, balanced = mean_of_runs([one[:, 0] == truth for one in runs], groups, truth)
    assert (cell.balanced_interval, cell.design_effect) == (balanced.interval, top1.design_effect)


def test_a_single_run_has_no_deviation_and_few_photographs_no_interval() -> None:
    cell = made(FIRST)
    assert (cell.interval_kind, cell.seeds, cell.seed_values) == ("too few", 1, ())
    assert (cell.n_groups, cell.top1_interval, cell.balanced_interval) == (3, None, None)
    assert (cell.top1_std, cell.balanced_accuracy_std) == (None, None)


def test_validation_is_the_mean_over_runs_and_baselines_have_none() -> None:
    val = (TRUTH[:2], [FIRST[:2], SECOND[:2]])
    cell = measured_cell(
        PLACE, TRUTH, [FIRST, SECOND], GROUPS, unit="photographs", n_classes=3, val=val, protocol="by hand"
    )
    # One of two is right in the first run, both in the second.
    assert (cell.val_top1, cell.n_val, cell.top1) == (0.75, 2, 0.625)
    assert (chance_cell("l", "s", GROUPS, 3, "photographs").val_top1, made(FIRST).val_top1) == (None, None)


def test_two_classes_have_no_third_answer() -> None:
    ranked = np.array([["a", "b"], ["b", "a"]])
    cell = measured_cell(
        PLACE, np.array(["a", "a"]), [ranked], ["p", "q"], unit="groups", n_classes=2, protocol="by hand"
    )
    assert (cell.top1, cell.top2, cell.top3) == (0.5, 1.0, 1.0)


def test_chance_is_exact_and_clamped() -> None:
    cell = chance_cell("label", "group", np.arange(20) // 2, 2, "photographs")
    assert (cell.model, cell.head, cell.n, cell.n_groups) == ("chance", "baseline", 20, 10)
    assert (cell.top1, cell.top2, cell.top3) == (0.5, 1.0, 1.0)
    assert (cell.top1_interval, cell.interval_kind) == ((0.5, 0.5), "exact")
    assert cell.balanced_accuracy == 0.5


def test_majority_answers_the_classes_of_training_by_frequency() -> None:
    # Training: b three times, a twice, d and c once (c sorts first).
    train = np.array(["b", "a", "d", "b", "c", "a", "b"])
    cell = majority_cell("label", "group", train, TRUTH, GROUPS, 4, "photographs")
    assert (cell.model, cell.head) == ("majority", "baseline")
    assert (cell.top1, cell.top2, cell.top3) == (0.25, 0.75, 1.0)
    assert cell.balanced_accuracy == pytest.approx(1 / 3)
    assert "always b, then a, then c" in cell.protocol


def test_names_of_models() -> None:
    pair = ("x", "y")
    assert PLACE.model == "tiny"
    assert made(FIRST, place=Place("concat", pair, "mlp", "l", "s")).model == "concat: x + y"
    cell = made(FIRST, place=Place("logits", pair, "mlp", "l", "s"))
    assert (cell.model, cell.how, cell.members) == ("logits: x + y", "logits", pair)


OPENCLIP, SIGLIP, DINOV2 = "openclip-vit-b-16", "siglip-base-16", "dinov2-base"


# Figures of tables 8.1 to 8.3 of the publication that docs/taco.md names, typed here a second time.
@pytest.mark.parametrize(
    ("how", "members", "head", "labels", "percent"),
    [
        ("single", (OPENCLIP,), "zero-shot", "taco10", (35.36, 48.95, 57.74)),
        ("single", (SIGLIP,), "zero-shot", "taco56", (23.22, 35.98, 43.31)),
        ("single", (OPENCLIP,), "linear", "taco56", (58.37, 73.85, 81.38)),
        ("single", (OPENCLIP,), "mlp", "taco10", (71.76, 91.21, 96.03)),
        ("single", (DINOV2,), "linear", "taco10", (77.41, 91.00, 95.61)),
        ("single", (DINOV2,), "mlp", "taco56", (67.78, 79.29, 85.15)),
        ("concat", (OPENCLIP, DINOV2), "mlp", "taco10", (80.75, 93.31, 97.70)),
        ("concat", (DINOV2, OPENCLIP), "linear", "taco56", (66.53, 79.29, 85.77)),
        ("logits", (OPENCLIP, DINOV2), "mlp", "taco56", (67.36, 81.38, 87.45)),
        ("logits", (OPENCLIP, DINOV2), "linear", "taco10", (79.08, 93.31, 97.07)),
    ],
)
def test_published_figures(
    how: module.How, members: tuple[str, ...], head: str, labels: str, percent: tuple[float, ...]
) -> None:
    found = reference(Place(how, members, head, labels, "instance"))
    assert found is not None
    assert (found.top1, found.top2, found.top3) == pytest.approx([value / 100 for value in percent])
    assert "8." in found.source


def test_a_figure_stands_beside_its_cell_alone() -> None:
    assert made(FIRST, place=Place("single", (DINOV2,), "linear", "taco10", "instance")).reference is not None
    for place in (
        Place("single", (DINOV2,), "linear", "taco10", "group"),
        Place("single", (DINOV2,), "linear", "category", "instance"),
        Place("single", (SIGLIP,), "linear", "taco10", "instance"),
        Place("single", (OPENCLIP,), "zero-shot (name)", "taco10", "instance"),
        Place("concat", (OPENCLIP, SIGLIP, DINOV2), "linear", "taco10", "instance"),
        Place("logits", (OPENCLIP, SIGLIP), "mlp", "taco10", "instance"),
    ):
        assert made(FIRST, place=place).reference is None


def test_the_misprint_stays_as_printed_with_a_remark() -> None:
    found = reference(Place("concat", (OPENCLIP, DINOV2), "linear", "taco10", "instance"))
    assert found is not None
    assert found.top2 == 0.9223
    assert "92.26" in found.note


def test_all_other_published_figures_are_counts_of_478_items() -> None:
    # 60 accuracies; 35.36 % of 478 is 169 items, 35.355…
    path = Path(module.__file__).parent / "references" / "taco.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = [float(row[name]) for row in rows for name in ("top1", "top2", "top3")]
    assert len(values) == 60
    odd = [value for value in values if abs(round(value / 100 * 478) / 478 * 100 - value) > 0.005001]
    assert odd == [92.23]
