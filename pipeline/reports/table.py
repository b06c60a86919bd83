"""The table of results: one row for each backbone, method, label set and split, baselines beside them."""

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace

from deponij.pipeline.metrics.clustered import Unit
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.pipeline.metrics.intervals import Interval
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

    @property
    def rank(self) -> tuple[bool, float]:
        """Sorts classifiers, the best first: what is real before all toys, then by falling top-1."""
        return self.is_toy, -self.top1

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
    def best(self) -> ResultRow:
        """Highest top-1, of a toy only where all classifiers are toys; of equals the first."""
        real = [row for row in self.rows if not row.is_toy]
        rows = self.rows if all(row.is_baseline for row in real) else real
        return max(rows, key=lambda row: row.top1)


def by_score(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Baselines as they are, then classifiers by their rank; of equals the first stays first."""
    return sorted(rows, key=lambda row: (not row.is_baseline, () if row.is_baseline else row.rank))


def worth_details(rows: Sequence[ResultRow], n: int) -> list[int]:
    """Places of at most n classifiers to be shown in detail, the best first.

    Chosen are the best of all, each backbone's best, and the next best, until there are n. Joined
    backbones (`a+b`) count as none of their own, for there may be as many as combinations.
    """
    ranked = sorted((i for i, row in enumerate(rows) if not row.is_baseline), key=lambda i: rows[i].rank)
    first_of: dict[str, int] = {}
    for place in ranked:
        if JOINED not in rows[place].backbone:
            first_of.setdefault(rows[place].backbone, place)
    chosen = dict.fromkeys([*ranked[:1], *first_of.values(), *ranked])
    return sorted(list(chosen)[:n], key=ranked.index)


def shown_part(evaluation: Evaluation) -> str:
    """The part that results are read from: test, else the last one that has items."""
    return "test" if "test" in evaluation.parts else list(evaluation.parts)[-1]


def result_groups(evaluations: Sequence[Evaluation], toys: Set[str] = frozenset()) -> list[ResultGroup]:
    """Group evaluations by split and labels, in the order in which these first occur; toys are marked."""
    pairs = list(dict.fromkeys((evaluation.split, evaluation.labels) for evaluation in evaluations))
    groups = []
    for split, labels in pairs:
        members = [e for e in evaluations if (e.split, e.labels) == (split, labels)]
        rows = (*_baselines(members), *(result_row(evaluation, toys) for evaluation in members))
        groups.append(ResultGroup(labels, split, rows))
    return groups


def result_row(evaluation: Evaluation, toys: Set[str] = frozenset()) -> ResultRow:
    """An evaluation's row, of the part that results are read from."""
    part = shown_part(evaluation)
    scores = evaluation.parts[part]
    return ResultRow(
        labels=evaluation.labels,
        split=evaluation.split,
        part=part,
        backbone=evaluation.backbone,
        method=evaluation.title,
        n_classes=evaluation.n_classes,
        **{name: getattr(scores, name) for name in _SCORES},
        is_toy=is_toy(evaluation.backbone, toys),
    )


def _baselines(members: Sequence[Evaluation]) -> tuple[ResultRow, ResultRow]:
    """What no features reach. The widest choice of classes stands for all (a probe may lack a rare one)."""
    widest = max(members, key=lambda evaluation: evaluation.n_classes)
    part, n_classes = shown_part(widest), widest.n_classes
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
