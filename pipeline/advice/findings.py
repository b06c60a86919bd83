"""Findings from what stages brought out: each function makes one finding, or None where there is nothing to find.

In which order they stand is `ordered`'s business; reading what they are made from, and the commands that act on them, is
`deponij.project.advice`'s. What a person has marked as right is proposed no more.
"""

from collections.abc import Collection, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.advice.quality import MAX_SHARPNESS, Fault, Look
from deponij.pipeline.advice.records import Finding, Kind, Subject
from deponij.pipeline.likeness.groups import group_alike
from deponij.pipeline.likeness.pairs import Alike, Evidence, Likeness, Rows
from deponij.pipeline.metrics.intervals import wilson
from deponij.pipeline.mistakes.records import MistakesReport
from deponij.pipeline.reports.wording import clipped
from deponij.store.texts import in_percent

Names = NDArray[np.str_]
# Subjects that a finding lists; all are counted.
MOST = 500
# Share of the labels that prediction must agree with for all of its doubts to count.
TRUSTED = 0.8
# Below it those count whose label has at most the first probability, and another class at least the second.
_SURE = (0.05, 0.7)
# Of features, that confirms what hashes propose.
_SURE_COSINE = 0.9
# A recall that is known no better than this, from end to end of its interval, says little.
WIDEST = 0.4
# From which share and number of a class being taken for another one is no accident.
_LEAST_SHARE, _LEAST_N = 0.1, 3
_MOST_PAIRS, _MOST_CLASSES = 5, 8
_NAME_CHARS = 14
# What stays of near-duplicates: a test item does, a training item gives way.
_KEPT_FIRST = {"test": 0, "val": 1, "train": 2}
_FAULTS: Mapping[Fault, tuple[str, str, str]] = {
    "blurred": (
        "picture is blurred",
        "pictures are blurred",
        "What cannot be seen teaches nothing, and is scored as if it could.",
    ),
    "dark": (
        "picture is very dark",
        "pictures are very dark",
        "Little can be seen in them; a brighter copy or none serves better.",
    ),
    "flat": ("picture is of one colour", "pictures are of one colour", "There is nothing to see in them."),
    "tiny": (
        "picture is tiny",
        "pictures are tiny",
        "They are enlarged for the backbone, which then sees blur.",
    ),
    "odd-shape": (
        "picture has an odd shape",
        "pictures have an odd shape",
        "The backbone sees a square: of a strip it sees a part, or all of it squeezed.",
    ),
}


ORDER: tuple[Kind, ...] = (
    "labels",
    "duplicates",
    "unreadable",
    "small-classes",
    *_FAULTS,
    "confused",
    "unlabelled",
)


def ordered(findings: Sequence[Finding | None]) -> tuple[Finding, ...]:
    """The findings that there are, the most urgent first.

    What makes figures wrong comes first (labels, copies, pictures that are missing), then what makes them vague, then
    what spoils single pictures, then where to go on.
    """
    there = [one for one in findings if one is not None]
    return tuple(sorted(there, key=lambda one: ORDER.index(one.kind)))


def wrong_labels(report: MistakesReport, right: Set[str]) -> Finding | None:
    """Labels that out-of-fold prediction speaks against.

    Where it agrees with few of the labels, most doubts are its own mistakes, and only those of which it is sure count:
    of 374 pictures of CIFAR-10 with 14 wrong labels it doubted 79, and of the 13 sure doubts 10 were right.

    Args:
        right: items whose label a person has found right.
    """
    is_trusted = report.accuracy >= TRUSTED
    doubted = [
        one
        for one in report.suspects
        if one.item_id not in right
        and (is_trusted or (one.prob_label <= _SURE[0] and one.prob_suggested >= _SURE[1]))
    ]
    agrees = f"Prediction agrees with {in_percent(report.accuracy)} of the labels"
    return _finding(
        "labels",
        len(doubted),
        "label is probably wrong" if is_trusted else "label may be wrong",
        "labels are probably wrong" if is_trusted else "labels may be wrong",
        f"{agrees} and is sure against these; wrong ones teach wrong and score wrong."
        if is_trusted
        else f"{agrees} only, but is sure against these (of {report.n_suspects:,} doubts): look before you take one.",
        [
            Subject(
                item_id=one.item_id,
                do="relabel",
                label=one.suggested,
                was=one.label,
                note=f"{one.suggested} {in_percent(one.prob_suggested)}, {one.label} {in_percent(one.prob_label)}",
            )
            for one in doubted
        ],
        column=report.labels,
    )


class SureLikeness(Likeness):
    """Alike is what has equal content, and what looks and features both speak for: one alone errs too often for advice."""

    def tile(self, rows_a: Rows | slice, rows_b: Rows | slice) -> Alike:
        """Which of these are alike."""
        alike, cosines = super().tile(rows_a, rows_b), self.cosines(rows_a, rows_b)
        if alike.phash is None or cosines is None:
            return alike
        both = alike.phash & (cosines >= _SURE_COSINE)
        return Alike(alike.picture, both, both)


def near_duplicates(
    evidence: Evidence,
    ids: Sequence[str],
    labels: Sequence[str | None],
    parts: Sequence[str | None],
    right: Set[str],
    column: str = "",
) -> Finding | None:
    """Groups of one picture that lie in several parts of the split, or have several labels.

    Of a group across parts all but one can go, the test item staying; which of two labels is right only a person can
    tell.

    Args:
        evidence: of n items.
        ids, labels, parts: [n]; a part is that of the split, or its fold.
    """
    subjects: list[Subject] = []
    n_apart = n_differ = 0
    order = np.array(
        sorted(range(len(ids)), key=lambda row: (_KEPT_FIRST.get(str(parts[row]), 9), ids[row])), np.int64
    )
    for group in group_alike(SureLikeness(evidence), order):
        rows = group.rows
        names = {labels[row] for row in rows} - {None}
        places = {parts[row] for row in rows} - {None}
        if all(ids[row] in right for row in rows if row != group.first):
            continue
        if len(names) > 1:
            n_differ += 1
            subjects += [
                _twin(row, group.first if row != group.first else rows[1], ids, labels) for row in rows
            ]
        elif len(places) > 1:
            n_apart += 1
            subjects += [
                Subject(
                    item_id=ids[row],
                    do="leave-out",
                    was=labels[row] or "",
                    note=f"in {parts[row]}, the same in {parts[group.first]}",
                    beside=ids[group.first],
                )
                for row in rows
                if row != group.first and ids[row] not in right
            ]
    said = [f"{n_apart:,} across parts"] * bool(n_apart) + [f"{n_differ:,} with different labels"] * bool(
        n_differ
    )
    return _finding(
        "duplicates",
        n_apart + n_differ,
        f"group of near-duplicates is {said[0].removeprefix('1 ') if said else ''}",
        f"groups of near-duplicates: {', '.join(said)}",
        "What is learned by heart scores as if it were understood; of two labels of one picture one is wrong.",
        subjects,
        column=column,
    )


def _twin(row: int, other: int, ids: Sequence[str], labels: Sequence[str | None]) -> Subject:
    note = f"the same picture is {labels[other] or 'without a label'} elsewhere"
    return Subject(item_id=ids[row], was=labels[row] or "", note=note, beside=ids[other])


def unreadable(failures: Sequence[tuple[str, str]]) -> Finding | None:
    """Items without pixels or features, with the reasons."""
    subjects = [
        Subject(item_id=item_id, do="leave-out", note=reason) for item_id, reason in dict(failures).items()
    ]
    return _finding(
        "unreadable",
        len(subjects),
        "picture could not be read",
        "pictures could not be read",
        "They are in no figure: mend or convert them, or leave them out.",
        subjects,
    )


def small_classes(truth: Names, answers: Names, part: str, column: str) -> Finding | None:
    """Classes with too few scored items to say how well they are recognised.

    Args:
        truth, answers: [n] of the part that results are read from.
    """
    facts = []
    classes, counts = np.unique(truth, return_counts=True)
    for number in np.argsort(counts, kind="stable").tolist():
        name, n = str(classes[number]), int(counts[number])
        share = float((answers[truth == name] == name).mean())
        low, high = wilson(share, n)
        if high - low > WIDEST:
            facts.append(
                f"{name}: {n} {part} item{'s' if n > 1 else ''}, recall {in_percent(low)} to {in_percent(high)}"
            )
    shown = (
        facts
        if len(facts) <= _MOST_CLASSES
        else [*facts[:_MOST_CLASSES], f"and {len(facts) - _MOST_CLASSES} more"]
    )
    which = f"All {len(classes)}" if len(facts) == len(classes) else f"{len(facts)} of {len(classes)}"
    return _finding(
        "small-classes",
        len(facts),
        f"{which} classes is too small to judge",
        f"{which} classes are too small to judge",
        f"Their recall is known no better than within {WIDEST * 100:.0f} points; some 25 scored items a class are enough.",
        [],
        facts=tuple(shown),
        column=column,
    )


def spoilt(
    fault: Fault, rows: Sequence[int], ids: Sequence[str], looks: Sequence[Look], right: Set[str]
) -> Finding | None:
    """Pictures with one fault, the worst first."""
    singular, plural, why = _FAULTS[fault]
    subjects = [
        Subject(item_id=ids[row], do="leave-out", note=_measured(fault, looks[row]))
        for row in rows
        if ids[row] not in right
    ]
    return _finding(fault, len(subjects), singular, plural, why, subjects)


def _measured(fault: Fault, one: Look) -> str:
    if fault in ("tiny", "odd-shape"):
        return f"{one.width_px} x {one.height_px} px"
    if fault == "blurred":
        return f"sharpness {one.sharpness or 0:.1f}, sharp above {MAX_SHARPNESS}".replace("-", "−")
    return f"grey up to {one.bright:.0f} of 255" if fault == "dark" else f"contrast {one.contrast:.1f} of 255"


def confused(report: MistakesReport) -> Finding | None:
    """Pairs of classes of which one is often taken for the other."""
    pairs = [one for one in report.confused if one.n >= _LEAST_N and one.n / one.n_truth >= _LEAST_SHARE]
    pairs = sorted(pairs, key=lambda one: -one.n / one.n_truth)[:_MOST_PAIRS]
    if not pairs:
        return None
    first = pairs[0]
    most = f"{clipped(first.truth, _NAME_CHARS)} taken for {clipped(first.answer, _NAME_CHARS)}"
    share = f"{in_percent(first.n / first.n_truth)}"
    return _finding(
        "confused",
        len(pairs),
        f"pair of classes is confused: {most} ({share})",
        f"pairs of classes are confused, {most} ({share}) most",
        "Look whether they differ to the eye: if not, join them; if so, more examples of these two help most.",
        [
            Subject(item_id=item_id, label=pair.answer, was=pair.truth, note=f"taken for {pair.answer}")
            for pair in pairs
            for item_id in pair.item_ids
        ],
        facts=tuple(f"{one.truth} taken for {one.answer}: {one.n} of {one.n_truth}" for one in pairs),
        column=report.labels,
    )


def unlabelled(n: int, first: Sequence[tuple[str, str]], column: str) -> Finding | None:
    """Pictures without a label, those that are worth one most first.

    Args:
        first: item ids and why.
    """
    return _finding(
        "unlabelled",
        n,
        "picture has no label",
        "pictures have no label",
        "Labels of those that the classifier doubts most, and that differ from each other, teach most.",
        [Subject(item_id=item_id, note=note) for item_id, note in first],
        column=column,
    )


def _finding(
    kind: Kind,
    n: int,
    singular: str,
    plural: str,
    why: str,
    subjects: Collection[Subject],
    *,
    facts: tuple[str, ...] = (),
    column: str = "",
) -> Finding | None:
    if not n:
        return None
    counted = "" if kind == "small-classes" else f"{n:,} "
    return Finding(
        kind=kind,
        title=f"{counted}{singular if n == 1 else plural}",
        why=why,
        n=n,
        column=column,
        facts=facts,
        subjects=tuple(subjects)[:MOST],
    )
