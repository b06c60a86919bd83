"""Two results folders, item by item: is one better than the other by more than chance?

What `deponij compare` calls; this is no stage.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deponij.pipeline.metrics.agreement import agreement
from deponij.pipeline.metrics.classification import Names, per_class
from deponij.pipeline.metrics.clustered import Unit, clustered_means, unit_of
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.metrics.paired import paired_difference
from deponij.pipeline.metrics.predictions import Predictions
from deponij.project.frame.settings import Section
from deponij.project.learning.result_files import read_result
from deponij.store.errors import DataError, UsageError

# Below this chance of such a difference between equals, it is called more than chance.
LEVEL = 0.05


class Contestant(Section):
    """One of the two.

    Attributes:
        folder: its results.
        backbone, method, fingerprint: whose features, how it learned.
        n_right, top1, top1_interval: right answers, their share, its interval at 95 %; None for too few groups.
    """

    folder: str
    backbone: str
    method: str
    fingerprint: str
    n_right: int
    top1: float
    top1_interval: Interval | None


class Difference(Section):
    """Top-1 of A minus top-1 of B; see `deponij.pipeline.metrics.paired`.

    Attributes:
        value, interval: with 95 %; None for too few groups.
        only_a, only_b: items that only one of them has right.
        n_groups_apart: groups where one has more right.
        p: two-sided and exact.
        test: its name.
    """

    value: float
    interval: Interval | None
    only_a: int
    only_b: int
    n_groups_apart: int
    p: float
    test: str


class ClassChange(Section):
    """One class's recall by both; `difference` is A's minus B's, in items `n_difference`."""

    name: str
    support: int
    recall_a: float
    recall_b: float
    difference: float
    n_difference: int


class Consistency(Section):
    """Error consistency; see `deponij.pipeline.metrics.agreement.Agreement`."""

    observed_agreement: float
    expected_agreement: float
    kappa: float
    js_class: float | None
    js_inter: float | None


class Comparison(Section):
    """All of it.

    Attributes:
        labels, split, part, n: what both answered.
        n_groups, unit: of the items that are not independent, and what these are.
        classes: those that occur, A's largest gains (in items) first.
        is_more_than_chance: whether p is below 0.05.
        verdict: the same in a sentence.
        notes: what a reader must know.
    """

    labels: str
    split: str
    part: str
    n: int
    n_groups: int
    unit: Unit
    a: Contestant
    b: Contestant
    difference: Difference
    consistency: Consistency
    classes: tuple[ClassChange, ...]
    is_more_than_chance: bool
    verdict: str
    notes: tuple[str, ...]


def run(a: Path, b: Path, part: str = "test") -> Comparison:
    """Compare two classifiers on the same items; those are left out that one of them has learned from, tuned as it is.

    Args:
        a, b: results folders of the same labels and split.
        part: whose items are compared.

    Raises:
        DataError: the two answered different questions; the message names what differs.
        UsageError: there are no items of this part.
        StoreError: a folder holds no results, or damaged ones.
    """
    (result_a, found_a), (result_b, found_b) = read_result(a), read_result(b)
    _check_same_question(a, result_a, b, result_b)
    _check_same_parts(a, found_a, b, found_b)
    for folder, result in ((a, result_a), (b, result_b)):
        if part not in result.parts:
            raise UsageError(f"{folder} has no items of the part {part!r}; it has: {', '.join(result.parts)}")
    all_a, all_b = found_a.of(part), found_b.of(part)
    tested_a, tested_b = _fair(all_a, result_a, all_b, result_b)
    truth, answers_a, answers_b = _aligned(a, tested_a, b, tested_b)
    judged = Answered(truth, answers_a, answers_b, tested_a.groups)
    found = compared((a, result_a), (b, result_b), judged, part)
    n_unfair = len(all_a.ids) + len(all_b.ids) - 2 * found.n
    if not n_unfair:
        return found
    items = "1 item" if n_unfair == 1 else f"{n_unfair:,} items"
    told = f"Left out: {items} that would test a backbone which was tuned on them."
    return found.model_copy(update={"notes": (*found.notes, told)})


@dataclass(frozen=True, slots=True)
class Answered:
    """The same n items as both answered them.

    Attributes:
        truth, answers_a, answers_b: names, [n].
        groups: of items that are not independent, [n].
    """

    truth: Names
    answers_a: Names
    answers_b: Names
    groups: Names


def compared(
    one: tuple[Path, Evaluation], other: tuple[Path, Evaluation], items: Answered, part: str
) -> Comparison:
    """The comparison of two classifiers' answers to the same items."""
    (a, result_a), (b, result_b) = one, other
    truth, answers_a, answers_b = items.truth, items.answers_a, items.answers_b
    right_a, right_b = answers_a == truth, answers_b == truth
    paired = paired_difference(right_a, right_b, items.groups)
    unit = unit_of(result_b.parts[part].unit, paired.n_groups, paired.n)
    consistent = agreement(truth, answers_a, answers_b)
    difference = Difference(
        value=paired.difference,
        interval=paired.interval,
        only_a=paired.only_a,
        only_b=paired.only_b,
        n_groups_apart=paired.n_groups_apart,
        p=paired.p,
        test="McNemar" if unit == "items" else f"whole {unit} exchanged",
    )
    return Comparison(
        labels=result_b.labels,
        split=result_b.split,
        part=part,
        n=paired.n,
        n_groups=paired.n_groups,
        unit=unit,
        a=_contestant(a, result_a, right_a, items.groups),
        b=_contestant(b, result_b, right_b, items.groups),
        difference=difference,
        consistency=Consistency.model_validate(consistent, from_attributes=True),
        classes=_changes(truth, answers_a, answers_b),
        is_more_than_chance=paired.p < LEVEL,
        verdict=_verdict(difference, paired.n),
        notes=_notes(part, result_a, result_b),
    )


def _check_same_question(a: Path, result_a: Evaluation, b: Path, result_b: Evaluation) -> None:
    differing = [
        f"{what}: {getattr(result_a, what)!r} against {getattr(result_b, what)!r}"
        for what in ("labels", "split")
        if getattr(result_a, what) != getattr(result_b, what)
    ]
    if differing:
        raise DataError(
            f"{a} and {b} cannot be compared: {'; '.join(differing)}; choose results of the same question"
        )


def _check_same_parts(a: Path, found_a: Predictions, b: Path, found_b: Predictions) -> None:
    """Two splits may have one name; an item that one learned from must not be tested by the other."""
    parts_a = dict(zip(found_a.ids.tolist(), found_a.parts.tolist(), strict=True))
    pairs = zip(found_b.ids.tolist(), found_b.parts.tolist(), strict=True)
    moved = [(item, part) for item, part in pairs if parts_a.get(item, part) != part]
    if moved:
        item, part = moved[0]
        raise DataError(
            f"{a} and {b} cannot be compared: their splits have one name but put {len(moved)} items in other "
            f"parts, the first: {item!r} in {parts_a[item]!r} against {part!r}; run both on the same split"
        )


def _fair(
    found_a: Predictions, result_a: Evaluation, found_b: Predictions, result_b: Evaluation
) -> tuple[Predictions, Predictions]:
    """Answers to what both answered, where what is in one alone can be what tests the other's backbone unfairly."""
    is_in_b, is_in_a = np.isin(found_a.ids, found_b.ids), np.isin(found_b.ids, found_a.ids)
    n_only_a, n_only_b = int((~is_in_b).sum()), int((~is_in_a).sum())
    if not is_in_b.any() or n_only_a > result_b.n_tuned_on or n_only_b > result_a.n_tuned_on:
        return found_a, found_b
    return found_a.only(is_in_b), found_b.only(is_in_a)


def _aligned(a: Path, found_a: Predictions, b: Path, found_b: Predictions) -> tuple[Names, Names, Names]:
    """Truths and first answers of both, in A's order."""
    rows_b = {item: row for row, item in enumerate(found_b.ids.tolist())}
    only_a = [item for item in found_a.ids.tolist() if item not in rows_b]
    only_b = sorted(set(rows_b) - set(found_a.ids.tolist()))
    if only_a or only_b:
        first = (only_a or only_b)[0]
        raise DataError(
            f"{a} and {b} cannot be compared: {len(only_a)} items are only in the first and {len(only_b)} only in "
            f"the second, such as {first!r}; extract what failed or make both from the same items"
        )
    order = [rows_b[item] for item in found_a.ids.tolist()]
    truth = found_b.truth[order]
    if (differs := np.flatnonzero(found_a.truth != truth)).size:
        row = differs[0]
        raise DataError(
            f"{a} and {b} cannot be compared: the truth of {len(differs)} items differs, the first: "
            f"{str(found_a.ids[row])!r} is {str(found_a.truth[row])!r} against {str(truth[row])!r}; run the older one again"
        )
    if (found_a.groups != found_b.groups[order]).any():
        raise DataError(
            f"{a} and {b} cannot be compared: their splits have one name but group the items differently; run both "
            "on the same split"
        )
    return truth, found_a.top_labels[:, 0], found_b.top_labels[order, 0]


def _contestant(folder: Path, result: Evaluation, right: np.ndarray, groups: Names) -> Contestant:
    (top1,) = clustered_means(right[:, None], groups, np.zeros(len(right))).micro
    return Contestant(
        folder=str(folder),
        backbone=result.backbone,
        method=result.title,
        fingerprint=result.fingerprint,
        n_right=int(right.sum()),
        top1=top1.value,
        top1_interval=top1.interval,
    )


def _changes(truth: Names, answers_a: Names, answers_b: Names) -> tuple[ClassChange, ...]:
    names = sorted({*truth.tolist(), *answers_a.tolist(), *answers_b.tolist()})
    pairs = zip(per_class(truth, answers_a, names), per_class(truth, answers_b, names), strict=True)
    changes = [
        ClassChange(
            name=one.name,
            support=one.n_support,
            recall_a=one.n_correct / one.n_support,
            recall_b=other.n_correct / one.n_support,
            difference=(one.n_correct - other.n_correct) / one.n_support,
            n_difference=one.n_correct - other.n_correct,
        )
        for one, other in pairs
        if one.n_support
    ]
    return tuple(sorted(changes, key=lambda change: (-change.n_difference, -change.difference, change.name)))


def _verdict(difference: Difference, n: int) -> str:
    if difference.only_a + difference.only_b == 0:
        return f"A and B have exactly the same {n} items right and wrong."
    points = f"{100 * abs(difference.value):.1f} percentage points"
    shown = f"{difference.test}, " + ("p < 0.001" if difference.p < 0.001 else f"p = {difference.p:.3f}")
    if difference.p < LEVEL:
        better, worse = ("A", "B") if difference.value > 0 else ("B", "A")
        return f"{better} beats {worse} by {points}, which is more than chance explains ({shown})."
    if difference.value == 0:
        return f"A and B have equally many of {n} items right, though not the same ones."
    leader = "A" if difference.value > 0 else "B"
    return f"{leader} is ahead by {points}, which may be chance ({shown})."


def _notes(part: str, result_a: Evaluation, result_b: Evaluation) -> tuple[str, ...]:
    notes = ["p is of this one comparison; of twenty comparisons of equals one falls below 0.05 by chance."]
    if part != "test":
        notes.append(f"The part {part!r} was used for learning or choosing; it says little about new items.")
    for name, result in (("A", result_a), ("B", result_b)):
        if part in result.parts and result.parts[part].n_unseen_class:
            n = result.parts[part].n_unseen_class
            notes.append(f"{name} cannot answer the classes of {n} items; they count as wrong.")
    return tuple(notes)
