"""The table of results: one row for each backbone, method, label set and split, baselines beside them."""

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from deponij.pipeline.metrics.choice import Preference, chosen, cross_fitted, preference
from deponij.pipeline.metrics.clustered import Unit
from deponij.pipeline.metrics.evaluation import Evaluation, shown_part
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.metrics.predictions import Predictions
from deponij.pipeline.reports.provenance import JOINED, is_toy

CHANCE = "chance"
MAJORITY = "majority class"
# What a row has of the scores of its part.
_GROUPED = ("n", "n_groups", "unit", "design_effect")
_SCORES = (
    *_GROUPED,
    "balanced_accuracy",
    "balanced_interval",
    *(f"top{k}{of}" for of in ("", "_interval") for k in (1, 2, 3)),
)


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One classifier (or baseline) on one part of a split; shares are fractions of 1.

    Attributes:
        labels, split, part: what was answered where.
        backbone: empty for baselines.
        method: its name for people.
        n, n_classes: items, and classes to choose from.
        n_groups, unit, design_effect: of items that are not independent, as in `Grouped`.
        top1, top2, top3, balanced_accuracy: None where a baseline has none.
        top1_interval, top2_interval, top3_interval, balanced_interval: at 95 %; None for too few groups, and for
            baselines.
        is_baseline: chance or majority class, from no features.
        is_toy: its backbone, or one of several, knows drawn pictures only and these are others.
        val_top1, n_val: top-1 on validation, by which one is chosen, and its items; None and 0 without.
        n_folds: of cross-validation; 0 without. There `top1` is what one is chosen by.
        is_chosen: of its group it is the one that is chosen.
        n_candidates, fair_top1, fair_interval: of a chosen one of cross-validation: among how many it was chosen, and
            what choosing is worth (`cross_fitted`); None where the answers themselves were not given.
    """

    labels: str
    split: str
    part: str
    backbone: str
    method: str
    n: int
    n_groups: int
    unit: Unit
    n_classes: int
    top1: float
    top2: float | None = None
    top3: float | None = None
    balanced_accuracy: float | None = None
    top1_interval: Interval | None = None
    top2_interval: Interval | None = None
    top3_interval: Interval | None = None
    balanced_interval: Interval | None = None
    design_effect: float | None = None
    is_baseline: bool = False
    is_toy: bool = False
    val_top1: float | None = None
    n_val: int = 0
    n_folds: int = 0
    is_chosen: bool = False
    n_candidates: int = 0
    fair_top1: float | None = None
    fair_interval: Interval | None = None

    @property
    def judged_top1(self) -> float | None:
        """What one is chosen by; None where nothing but the test part judges."""
        return self.top1 if self.n_folds else self.val_top1

    @property
    def worth(self) -> tuple[float, Interval | None]:
        """Top-1 with its interval as it may be told of the chosen one: of folds what choosing is worth."""
        return (
            (self.top1, self.top1_interval)
            if self.fair_top1 is None
            else (self.fair_top1, self.fair_interval)
        )

    @property
    def preference(self) -> Preference:
        """By which one of its group is chosen."""
        n_backbones = len(self.backbone.split(JOINED))
        return preference(is_toy=self.is_toy, judged_top1=self.judged_top1, n_backbones=n_backbones)

    @property
    def rank(self) -> tuple[Preference, float]:
        """Sorts classifiers as they are chosen; those without validation by falling top-1 of the part that is shown."""
        return self.preference, -self.top1 if self.judged_top1 is None else 0.0

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ResultGroup:
    """Rows that may be compared: the same labels on the same split. Baselines come first."""

    labels: str
    split: str
    rows: tuple[ResultRow, ...]

    @property
    def chosen(self) -> ResultRow | None:
        """The one to take, a toy only where all are toys; None where nothing but the test part judges."""
        return next((row for row in self.rows if row.is_chosen), None)

    @property
    def order(self) -> str:
        """By what its classifiers are sorted, in words."""
        if self.chosen is not None:
            return "in order of out-of-fold top-1" if self.chosen.n_folds else "in order of validation"
        return f"sorted by the figures of {self.rows[0].part}, which flatters the first; there is no validation part"


def by_rank(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Baselines as they are, then classifiers by their rank; of equals the first stays first."""
    return sorted(rows, key=lambda row: (not row.is_baseline, () if row.is_baseline else row.rank))


def worth_details(rows: Sequence[ResultRow], n: int) -> list[int]:
    """Places of at most n classifiers to be shown in detail, by their rank.

    Taken are the first of all, each backbone's first, and the next ones, until there are n. Joined
    backbones (`a+b`) count as none of their own, for there may be as many as combinations.
    """
    ranked = sorted((i for i, row in enumerate(rows) if not row.is_baseline), key=lambda i: rows[i].rank)
    first_of: dict[str, int] = {}
    for place in ranked:
        if JOINED not in rows[place].backbone:
            first_of.setdefault(rows[place].backbone, place)
    taken = dict.fromkeys([*ranked[:1], *first_of.values(), *ranked])
    return sorted(list(taken)[:n], key=ranked.index)


def result_groups(
    evaluations: Sequence[Evaluation],
    toys: Set[str] = frozenset(),
    answers: Sequence[Predictions] | None = None,
) -> list[ResultGroup]:
    """Group evaluations by split and labels, in the order in which these first occur; toys are marked.

    Args:
        answers: of each evaluation, for what choosing is worth under cross-validation.
    """
    pairs = list(dict.fromkeys((evaluation.split, evaluation.labels) for evaluation in evaluations))
    groups = []
    for split, labels in pairs:
        members = [e for e in evaluations if (e.split, e.labels) == (split, labels)]
        rows = [result_row(evaluation, toys) for evaluation in members]
        first = chosen(rows, lambda row: row.preference)
        fair = {}
        if first is not None and first.n_folds and answers is not None:
            fair = _fair(
                rows,
                [
                    one
                    for e, one in zip(evaluations, answers, strict=True)
                    if (e.split, e.labels) == (split, labels)
                ],
            )
        rows = [replace(row, is_chosen=True, **fair) if row is first else row for row in rows]
        groups.append(ResultGroup(labels, split, (*_baselines(members), *rows)))
    return groups


def result_row(evaluation: Evaluation, toys: Set[str] = frozenset()) -> ResultRow:
    """An evaluation's row, of the part that results are read from."""
    part = shown_part(evaluation.parts)
    scores, val = evaluation.parts[part], evaluation.parts.get("val")
    return ResultRow(
        labels=evaluation.labels,
        split=evaluation.split,
        part=part,
        backbone=evaluation.backbone,
        method=evaluation.title,
        n_classes=evaluation.n_classes,
        **{name: getattr(scores, name) for name in _SCORES},
        is_toy=is_toy(evaluation.backbone, toys),
        val_top1=None if val is None else val.top1,
        n_val=0 if val is None else val.n,
        n_folds=evaluation.n_folds,
    )


def _fair(rows: Sequence[ResultRow], answers: Sequence[Predictions]) -> dict[str, Any]:
    """What choosing among the real ones (the toys where there are no others) is worth, out of fold."""
    pairs = sorted(zip(rows, answers, strict=True), key=lambda pair: pair[0].preference)
    first_row, first = pairs[0]
    if first.folds is None:
        return {}
    alike = [
        one
        for row, one in pairs
        if row.is_toy == first_row.is_toy
        and one.folds is not None
        and np.array_equal(one.ids, first.ids)
        and np.array_equal(one.folds, first.folds)
    ]
    right = np.stack([one.top_labels[:, 0] == one.truth for one in alike])
    estimate = cross_fitted(right, first.folds, first.groups, first.truth)
    return {"n_candidates": len(alike), "fair_top1": estimate.value, "fair_interval": estimate.interval}


def _baselines(members: Sequence[Evaluation]) -> tuple[ResultRow, ResultRow]:
    """What no features reach. The widest choice of classes stands for all (a probe may lack a rare one)."""
    widest = max(members, key=lambda evaluation: evaluation.n_classes)
    part, n_classes = shown_part(widest.parts), widest.n_classes
    scores, majority = widest.parts[part], widest.parts[part].majority
    chances = [min(1.0, k / n_classes) for k in (1, 2, 3)]
    chance = ResultRow(
        widest.labels,
        widest.split,
        part,
        backbone="",
        method=CHANCE,
        n=scores.n,
        n_groups=scores.n_groups,
        unit=scores.unit,
        n_classes=n_classes,
        top1=chances[0],
        top2=chances[1],
        top3=chances[2],
        balanced_accuracy=1 / n_classes,
        is_baseline=True,
    )
    most_frequent = replace(
        chance,
        method=f"{MAJORITY} ({widest.majority_class})",
        top1=majority,
        top2=None,
        top3=None,
        # All of one class are right, if that class occurs here, and none of the others.
        balanced_accuracy=(majority > 0) / scores.n_classes,
    )
    return chance, most_frequent
