"""Figures of segmentation: torchmetrics' on drawn maps, values computed by hand, erosions by SciPy, void, absent classes."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from deponij.pipeline.metrics.segmentation import (
    Figures,
    band_px,
    boundary_counts,
    confusion,
    margins,
    paired,
    scores,
)
from deponij.store.label_maps import VOID

NAMES = list("abcde")


def drawn(n: int = 12, seed: int = 0, n_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Truths with void and answers that are right in most places, [n, 20, 30]."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, (n, 20, 30), dtype=np.uint8)
    said = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, n_classes, truth.shape))
    truth = np.where(rng.random(truth.shape) < 0.1, VOID, truth)
    return truth.astype(np.uint8), said.astype(np.uint8)


def scores_of(truth: np.ndarray, said: np.ndarray, groups: object = None, n_classes: int = 5):  # type: ignore[no-untyped-def]
    pairs = list(zip(truth, said, strict=True))
    names = np.arange(len(truth)).astype(str) if groups is None else np.asarray(groups).astype(str)
    return scores(
        np.stack([confusion(*pair, n_classes) for pair in pairs]),
        np.stack([boundary_counts(*pair, n_classes) for pair in pairs]),
        NAMES[:n_classes],
        names,
    )


def torch_figure(metric: type, truth: np.ndarray, said: np.ndarray, average: str, n_classes: int = 5):  # type: ignore[no-untyped-def]
    one = metric(num_classes=n_classes, average=average, ignore_index=VOID)
    return one(torch.from_numpy(said.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_torchmetrics(seed: int) -> None:
    truth, said = drawn(seed=seed)
    found = scores_of(truth, said)
    expected = {
        "miou": torch_figure(MulticlassJaccardIndex, truth, said, "macro"),
        "accuracy": torch_figure(MulticlassAccuracy, truth, said, "micro"),
        "mean_accuracy": torch_figure(MulticlassAccuracy, truth, said, "macro"),
    }
    # Records keep six digits.
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-5)
    by_class = torch_figure(MulticlassJaccardIndex, truth, said, "none")
    assert [one.iou for one in found.by_class] == pytest.approx(by_class, rel=1e-5)


def test_by_hand() -> None:
    """Truth 0 0 1 1 and void, answer 0 1 1 1 and 0: IoU 1/2 and 2/3, recalls 1/2 and 1, three of four pixels right."""
    truth, said = np.array([[0, 0, 1, 1, VOID]], np.uint8), np.array([[0, 1, 1, 1, 0]], np.uint8)
    assert confusion(truth, said, 2).tolist() == [[1, 1], [0, 2]]
    found = scores_of(truth[None], said[None], n_classes=2)
    assert [one.iou for one in found.by_class] == pytest.approx([1 / 2, 2 / 3], abs=1e-6)
    assert found.miou == pytest.approx(7 / 12, abs=1e-6)
    assert (found.mean_accuracy, found.accuracy, found.n_pixels) == (0.75, 0.75, 4)
    assert (found.majority, found.majority_accuracy, found.majority_miou) == ("a", 0.5, 0.25)
    assert (found.interval_kind, found.miou_interval) == ("too few", None)


def test_one_matrix_of_the_whole_set_and_not_a_mean_over_pictures() -> None:
    """A picture of 9 pixels, all right, and one of 1, wrong: 9/10 of the pixels, not one half of the pictures."""
    confusions = np.array([[[9, 0], [0, 0]], [[0, 0], [1, 0]]])
    assert scores(confusions, None, ["a", "b"], np.array(["x", "y"])).accuracy == 0.9


def test_whatever_is_said_where_the_truth_is_void_never_counts() -> None:
    truth, said = drawn()
    others = said.copy()
    others[truth == VOID] = np.random.default_rng(1).integers(0, 256, (truth == VOID).sum())
    assert scores_of(truth, others) == scores_of(truth, said)


def test_a_class_that_no_truth_shows_is_left_out_and_named() -> None:
    """By hand: of class c nothing is there, but one pixel of b is called c, which is a miss of b.

    IoU of a is 2/2 and of b 1/2, so that the mean over what is there is 3/4. torchmetrics and the usual scripts for CamVid
    (trace over row, column and diagonal, a mean over all rows) give c an IoU of 0 and the mean (1 + 1/2 + 0) / 3.
    """
    truth, said = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 0, 1, 2]], np.uint8)
    found = scores_of(truth[None], said[None], n_classes=3)
    assert (found.absent, found.n_classes) == (("c",), 2)
    assert found.miou == pytest.approx(0.75) and found.mean_accuracy == pytest.approx(0.75)
    assert (found.by_class[2].iou, found.by_class[2].recall, found.by_class[2].boundary_iou) == (None,) * 3
    assert found.by_class[2].n_predicted == 1
    assert torch_figure(MulticlassJaccardIndex, truth[None], said[None], "macro", 3) == pytest.approx(0.5)
    counts = confusion(truth, said, 3)
    usual = np.diag(counts) / (counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts))
    assert usual.mean() == pytest.approx(0.5)


def test_a_class_that_neither_shows_is_no_part_of_any_convention() -> None:
    """torchmetrics leaves such a class out as we do; a script that divides gets NaN of it."""
    truth, said = drawn(n_classes=4)
    found = scores_of(truth, said)
    assert found.absent == ("e",)
    assert found.miou == pytest.approx(torch_figure(MulticlassJaccardIndex, truth, said, "macro"), rel=1e-5)
    assert all(
        np.isfinite(value)
        for value in found.model_dump(exclude={"by_class"}).values()
        if type(value) is float
    )


def test_numbers_that_are_no_class_are_refused() -> None:
    truth, said = np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="the answer holds 255; classes are 0 to 1, and void is 255"):
        confusion(truth, np.full((2, 3), VOID, np.uint8), 2)
    with pytest.raises(ValueError, match="the truth holds 7"):
        confusion(truth + np.uint8(7), said, 2)
    with pytest.raises(ValueError, match="one size"):
        boundary_counts(truth, said.T, 2)
    with pytest.raises(ValueError, match="with a pixel among them"):
        scores(np.zeros((1, 2, 2), np.int64), None, ["a", "b"], np.array(["x"]))


def eroded(mask: np.ndarray, width_px: int) -> np.ndarray:
    """The band of one mask as the paper's code takes it: the picture's edge is contour."""
    inner = binary_erosion(mask, np.ones((3, 3)), iterations=width_px, border_value=0)
    return mask & ~inner


@pytest.mark.parametrize("with_void", [False, True])
def test_bands_are_what_erosions_of_each_mask_take_away(with_void: bool) -> None:
    rng = np.random.default_rng(0)
    truth, said = (np.kron(rng.integers(0, 3, (5, 6)), np.ones((16, 14))).astype(np.uint8) for _ in range(2))
    said = np.where(rng.random(truth.shape) < 0.9, truth, said).astype(np.uint8)
    if with_void:
        truth[20:40, 30:50] = VOID
    expected = []
    for c in range(3):
        one, other = (
            eroded(labels == c, band_px(truth.shape))
            for labels in (truth, np.where(truth == VOID, VOID, said))
        )
        expected.append([(one & other).sum(), (one | other).sum()])
    assert band_px(truth.shape) == 2
    assert boundary_counts(truth, said, 3).tolist() == expected


def test_boundary_iou_by_hand() -> None:
    """A square of 4 in a picture of 8, answered one pixel too far right; bands of one pixel have 12 pixels each.

    Truth and answer share the upper and lower row without its end, 3 pixels each, and no column: 6 of 18.
    """
    truth, said = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    truth[2:6, 2:6], said[2:6, 3:7] = 1, 1
    assert boundary_counts(truth, said, 2)[1].tolist() == [6, 18]


def test_a_shift_costs_more_at_the_boundary() -> None:
    truth = np.kron(np.arange(4).reshape(2, 2), np.ones((40, 40))).astype(np.uint8)
    found = scores_of(truth[None], np.roll(truth, 2, axis=1)[None], n_classes=4)
    assert found.boundary_miou is not None and found.boundary_miou < found.miou < 1
    assert scores_of(truth[None], truth[None], n_classes=4).boundary_miou == 1


def test_the_answer_is_better_by_what_was_made_better() -> None:
    truth, said = drawn(40)
    better = np.where(np.random.default_rng(5).random(truth.shape) < 0.3, np.minimum(truth, 4), said)
    a, b = (np.stack([confusion(t, s, 5) for t, s in zip(truth, one, strict=True)]) for one in (better, said))
    found = paired(a, b, np.arange(40).astype(str))
    miou = [Figures(5).miou(margins(one).sum(axis=0)[None].astype(float))[0] for one in (a, b)]
    assert found.miou.difference == pytest.approx(miou[0] - miou[1])
    assert found.miou.interval is not None and 0 < found.miou.interval[0] < found.miou.difference
    assert found.miou.p == 1 / 10_000
    back = paired(b, a, np.arange(40).astype(str))
    assert back.miou.difference == -found.miou.difference
    same = paired(a, a, np.arange(40).astype(str))
    assert (same.miou.difference, same.miou.interval, same.miou.p) == (0, (0, 0), 1)


def test_of_few_groups_p_counts_every_way() -> None:
    """Three groups, A all right and B all wrong: of the eight ways of exchanging two are as far apart."""
    a, b = np.array([[[4, 0], [0, 4]]] * 3), np.array([[[0, 4], [4, 0]]] * 3)
    found = paired(a, b, np.array(list("xyz")))
    assert (found.accuracy.p, found.miou.p) == (0.25, 0.25)
    assert found.miou.interval is None


def test_other_pictures_are_refused() -> None:
    a, b = np.array([[[4, 0], [0, 4]]]), np.array([[[4, 0], [1, 4]]])
    with pytest.raises(ValueError, match="truth of some pictures differs"):
        paired(a, b, np.array(["x"]))
