"""Figures of segmentation: label maps against label maps, from counts that are summed over a whole set of pictures.

Definitions:

- All figures come from one confusion matrix of the whole set, not from means over pictures. Pixels whose truth is void
  never count, whatever is said there.
- Accuracy: share of right pixels. Mean accuracy: mean recall of the classes. mIoU: mean over the classes of pixels in both
  truth and answer over pixels in either.
- A class that no truth shows is *absent*: it has no IoU and no recall, is in no mean, and is named. Where it is answered all
  the same, these pixels are misses of the classes that are there. torchmetrics and the usual scripts for CamVid give such a
  class an IoU of 0 and take it into the mean.
- Boundary IoU: the same as IoU of those pixels of each mask that lie within d of its contour (B. Cheng et al., Boundary IoU,
  CVPR 2021, equation 2), d = 2 % of the diagonal. The picture's edge is contour, as there. Before bands are taken the answer
  is void where the truth is.

Intervals draw groups of pictures anew: `resampling`.

Shape letters: n pictures, G groups of pictures, C classes, h rows and w columns of pixels, k sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.clustered import FEWEST, Unit
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.metrics.resampling import Draws, exchanged_p, expanded_percentile, sums_by_group
from deponij.pipeline.record_lists import Measured, Record
from deponij.store.label_maps import VOID, Labels

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Names = NDArray[np.str_]
# Of the picture's diagonal, as the paper has it.
BAND = 0.02


def confusion(truth: Labels, predicted: Labels, n_classes: int) -> Counts:
    """Counts [C, C] of pixels of one picture: rows truth, columns answers; both maps are [h, w].

    Raises:
        ValueError: shapes differ, or there is a number that is no class; void may stand in the truth alone.
    """
    counts = _counting(truth, predicted, n_classes)
    pairs = truth[counts].astype(np.intp) * n_classes + predicted[counts]
    return np.bincount(pairs, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def band_px(shape: tuple[int, ...], share: float = BAND) -> int:
    """Width of the boundary bands of a picture [h, w]: a share of its diagonal, at least one pixel."""
    return max(1, round(share * hypot(shape[0], shape[1])))


def boundary_counts(truth: Labels, predicted: Labels, n_classes: int, share: float = BAND) -> Counts:
    """Pixels [C, 2] of one picture in both boundary bands of a class, and in either; both maps are [h, w].

    A mask's band is what d erosions with a square of 3 x 3 take away, d = `share` of the diagonal.

    Raises:
        ValueError: as `confusion`.
    """
    counts = _counting(truth, predicted, n_classes)
    said: Labels = np.where(counts, predicted, np.uint8(VOID))
    width = band_px(truth.shape, share)
    bands = [_band(one, width) & counts for one in (truth, said)]
    both, of_truth, of_said = (
        np.bincount(one, minlength=n_classes)
        for one in (truth[bands[0] & bands[1] & (truth == said)], truth[bands[0]], said[bands[1]])
    )
    return np.stack([both, of_truth + of_said - both], axis=1)


def _band(labels: Labels, width_px: int) -> NDArray[np.bool_]:
    """Where another label, or no picture, lies within so many rows and columns; [h, w]."""
    from scipy.ndimage import maximum_filter, minimum_filter

    size = 2 * width_px + 1
    whole = labels.astype(np.int16)
    lowest = minimum_filter(whole, size, mode="constant", cval=-1)
    band: NDArray[np.bool_] = lowest != maximum_filter(whole, size, mode="constant", cval=-1)
    return band


def _counting(truth: Labels, predicted: Labels, n_classes: int) -> NDArray[np.bool_]:
    """Which pixels count, [h, w]."""
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise ValueError(f"need two label maps of one size [h, w], got {truth.shape} and {predicted.shape}")
    counts: NDArray[np.bool_] = truth != VOID
    for what, labels in (("truth", truth[counts]), ("answer", predicted[counts])):
        if labels.size and labels.max() >= n_classes:
            raise ValueError(
                f"the {what} holds {labels.max()}; classes are 0 to {n_classes - 1}, and void is {VOID}"
            )
    return counts


class ClassIou(Measured):
    """One class in one part.

    Attributes:
        n_pixels: of the truth.
        n_predicted: answered, void left out.
        n_correct: in both.
        n_pictures, n_groups: that show it.
        iou, recall, boundary_iou: None where no truth shows it, or no bands were counted.
        iou_interval: None for fewer than ten groups that show it too.
    """

    name: str
    n_pixels: int
    n_predicted: int
    n_correct: int
    n_pictures: int
    n_groups: int
    iou: float | None
    iou_interval: Interval | None
    recall: float | None
    boundary_iou: float | None


class SegmentationScores(Measured):
    """All classes in one part; intervals at 95 %, None for fewer than ten groups.

    Attributes:
        n_pictures, n_groups: counted, and groups of them that are not independent.
        unit: what these are.
        n_pixels: that count.
        n_classes: classes that a truth shows, whose means are taken.
        absent: the others.
        interval_kind: groups drawn anew (`bootstrap`), or `too few` of them.
        accuracy, mean_accuracy, miou, boundary_miou: see the module; the last is None where no bands were counted.
        majority: the most frequent class.
        majority_accuracy, majority_miou: of answering it everywhere.
        by_class: in the order of the classes.
    """

    n_pictures: int
    n_groups: int
    unit: Unit
    interval_kind: Literal["bootstrap", "too few"]
    n_pixels: int
    n_classes: int
    absent: tuple[str, ...]
    accuracy: float
    accuracy_interval: Interval | None
    mean_accuracy: float
    mean_accuracy_interval: Interval | None
    miou: float
    miou_interval: Interval | None
    boundary_miou: float | None
    boundary_miou_interval: Interval | None
    majority: str
    majority_accuracy: float
    majority_miou: float
    by_class: tuple[ClassIou, ...]


def scores(
    confusions: Counts,
    boundaries: Counts | None,
    classes: Sequence[str],
    groups: Names,
    unit: Unit = "groups",
) -> SegmentationScores:
    """Figures of n >= 1 pictures from confusions [n, C, C] and boundary counts [n, C, 2].

    Args:
        groups: [n]; pictures of one group, such as a film's, are not independent.
        unit: what groups are, where some have several pictures.

    Raises:
        ValueError: no pixel counts, or shapes differ.
    """
    n, n_classes = len(groups), len(classes)
    if confusions.shape != (n, n_classes, n_classes) or not confusions.any():
        raise ValueError(
            f"need confusions [n, C, C] with a pixel among them for {n} pictures and {n_classes} classes, "
            f"got {confusions.shape}"
        )
    shown = confusions.sum(axis=2) > 0  # [n, C]
    per_group = sums_by_group(margins(confusions, boundaries), groups)
    draws = Draws.of(per_group)
    figures = Figures(n_classes)
    whole = draws.whole[None]
    there = shown.any(axis=0)
    n_in_groups = (per_group[:, n_classes : 2 * n_classes] > 0).sum(axis=0)
    n_groups, has_bands = len(per_group), boundaries is not None
    share = figures.truth(whole)[0] / figures.truth(whole).sum()
    iou, recall, boundary = (one(whole)[0] for one in (figures.ious, figures.recalls, figures.boundary_ious))
    drawn_ious = figures.ious(draws.drawn)

    def by_class(c: int) -> ClassIou:
        _, true, said = (int(figures.part(whole, place)[0, c]) for place in range(3))
        return ClassIou(
            name=classes[c],
            n_pixels=true,
            n_predicted=said,
            n_correct=int(whole[0, c]),
            n_pictures=int(shown[:, c].sum()),
            n_groups=int(n_in_groups[c]),
            iou=float(iou[c]) if there[c] else None,
            iou_interval=expanded_percentile(drawn_ious[:, c], int(n_in_groups[c])),
            recall=float(recall[c]) if there[c] else None,
            boundary_iou=float(boundary[c]) if there[c] and has_bands else None,
        )

    return SegmentationScores(
        n_pictures=n,
        n_groups=n_groups,
        unit="photographs" if n_groups == n else unit,
        interval_kind="too few" if n_groups < FEWEST else "bootstrap",
        n_pixels=int(confusions.sum()),
        n_classes=int(there.sum()),
        absent=tuple(name for name, is_there in zip(classes, there, strict=True) if not is_there),
        accuracy=float(figures.accuracy(whole)[0]),
        accuracy_interval=draws.interval(figures.accuracy),
        mean_accuracy=float(figures.mean_accuracy(whole)[0]),
        mean_accuracy_interval=draws.interval(figures.mean_accuracy),
        miou=float(figures.miou(whole)[0]),
        miou_interval=draws.interval(figures.miou),
        boundary_miou=float(figures.boundary_miou(whole)[0]) if has_bands else None,
        boundary_miou_interval=draws.interval(figures.boundary_miou) if has_bands else None,
        majority=classes[int(share.argmax())],
        majority_accuracy=float(share.max()),
        majority_miou=float(share.max() / there.sum()),
        by_class=tuple(map(by_class, range(n_classes))),
    )


def margins(confusions: Counts, boundaries: Counts | None = None) -> Counts:
    """What figures are made of, of each picture: C counts of right pixels, of the truth's, of the answer's; with
    boundary counts also of those in both bands, and in either; [n, 3 C] or [n, 5 C].
    """
    parts = [np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(axis=2), confusions.sum(axis=1)]
    if boundaries is not None:
        parts += [boundaries[:, :, 0], boundaries[:, :, 1]]
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of sums of margins [k, 3 C or 5 C]; of each class [k, C], with NaN where no truth shows it."""

    n_classes: int

    def part(self, sums: Floats, place: int) -> Floats:
        return sums[:, place * self.n_classes : (place + 1) * self.n_classes]

    def truth(self, sums: Floats) -> Floats:
        """Pixels of the truth."""
        return self.part(sums, 1)

    def ious(self, sums: Floats) -> Floats:
        """Right pixels over those of truth or answer."""
        right, true, said = (self.part(sums, place) for place in range(3))
        return _ratio(right, true + said - right, true > 0)

    def recalls(self, sums: Floats) -> Floats:
        """Right pixels over those of the truth."""
        return _ratio(self.part(sums, 0), self.truth(sums), self.truth(sums) > 0)

    def boundary_ious(self, sums: Floats) -> Floats:
        """Pixels in both bands over those in either."""
        if sums.shape[1] < 5 * self.n_classes:
            return np.full((len(sums), self.n_classes), np.nan)
        return _ratio(self.part(sums, 3), self.part(sums, 4), self.truth(sums) > 0)

    def accuracy(self, sums: Floats) -> Floats:
        """[k]."""
        right, true = self.part(sums, 0).sum(axis=1), self.truth(sums).sum(axis=1)
        return _ratio(right, true, true > 0)

    def mean_accuracy(self, sums: Floats) -> Floats:
        """[k]."""
        return _mean(self.recalls(sums))

    def miou(self, sums: Floats) -> Floats:
        """[k]."""
        return _mean(self.ious(sums))

    def boundary_miou(self, sums: Floats) -> Floats:
        """[k]."""
        return _mean(self.boundary_ious(sums))


def _ratio(over: Floats, under: Floats, where: NDArray[np.bool_]) -> Floats:
    ratios: Floats = np.divide(over, under, out=np.full(under.shape, np.nan), where=where)
    return ratios


def _mean(values: Floats) -> Floats:
    """[k] over the classes that are known of [k, C]."""
    known = np.isfinite(values)
    n_known = known.sum(axis=1)
    return _ratio(np.where(known, values, 0.0).sum(axis=1), n_known.astype(np.float64), n_known > 0)


class FigureDifference(Record):
    """A figure of A minus that of B, with its 95 % and p; an interval of None is of fewer than ten groups."""

    a: float
    b: float
    difference: float
    interval: Interval | None
    p: float


class ClassDifference(Record):
    """IoU of one class by A minus that by B; an interval of None is of fewer than ten groups that show it.

    Attributes:
        place: number of the class.
    """

    place: int
    iou_a: float
    iou_b: float
    difference: float
    interval: Interval | None


class SegmentationDifference(Record):
    """Two approaches on the same pictures.

    Attributes:
        n_pictures, n_groups: compared.
        miou, accuracy: of the whole set.
        classes: those that a truth shows.
    """

    n_pictures: int
    n_groups: int
    miou: FigureDifference
    accuracy: FigureDifference
    classes: tuple[ClassDifference, ...]


def paired(a: Counts, b: Counts, groups: Names) -> SegmentationDifference:
    """Compare two approaches' confusions [n, C, C] on the same pictures of these groups [n].

    Intervals draw the same groups for both; p comes from exchanging both in whole groups.

    Raises:
        ValueError: no pixel counts, or these are not the same pictures.
    """
    if a.shape != b.shape or len(a) != len(groups) or not a.any():
        raise ValueError(f"need confusions [n, C, C] of the same n pictures, got {a.shape} and {b.shape}")
    if (a.sum(axis=2) != b.sum(axis=2)).any():
        raise ValueError("the truth of some pictures differs")
    n_classes = a.shape[1]
    sums_a, sums_b = (sums_by_group(margins(one), groups) for one in (a, b))
    both, figures = Draws.of(np.concatenate([sums_a, sums_b], axis=1)), Figures(n_classes)

    def of_two(figure: Callable[[Floats], Floats], sums: Floats) -> tuple[Floats, Floats]:
        return figure(sums[:, : 3 * n_classes]), figure(sums[:, 3 * n_classes :])

    def compared(figure: Callable[[Floats], Floats]) -> FigureDifference:
        of_a, of_b = (float(one[0]) for one in of_two(figure, both.whole[None]))
        return FigureDifference(
            a=of_a,
            b=of_b,
            difference=of_a - of_b,
            interval=both.interval(lambda sums: np.subtract(*of_two(figure, sums))),
            p=exchanged_p(sums_a, sums_b, figure),
        )

    ious_a, ious_b = of_two(figures.ious, both.whole[None])
    drawn: Floats = np.subtract(*of_two(figures.ious, both.drawn))
    n_in_groups = (figures.truth(sums_a.astype(np.float64)) > 0).sum(axis=0)
    return SegmentationDifference(
        n_pictures=len(a),
        n_groups=len(sums_a),
        miou=compared(figures.miou),
        accuracy=compared(figures.accuracy),
        classes=tuple(
            ClassDifference(
                place=c,
                iou_a=float(ious_a[0, c]),
                iou_b=float(ious_b[0, c]),
                difference=float(ious_a[0, c] - ious_b[0, c]),
                interval=expanded_percentile(drawn[:, c], int(n_in_groups[c])),
            )
            for c in np.flatnonzero(n_in_groups).tolist()
        ),
    )
