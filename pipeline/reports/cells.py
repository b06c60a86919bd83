"""Cells of the tables of results: one model with one head on one label set and split, over its seeds.

A cell is made of ranked answers, of one run or of several that differ in their seed alone, and has
the published figure beside it where there is one (`references/*.csv`). Shares are fractions of 1.
How cells are laid out as tables lives in `cell_tables`.

Shape letters: n items, S runs, C classes.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from deponij.pipeline.metrics.classification import Names, hits
from deponij.pipeline.metrics.clustered import Unit, mean_of_runs, unit_of
from deponij.pipeline.metrics.evaluation import Grouped, grouped
from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.record_lists import Record, RecordList

BASELINE: Final = "baseline"
ZERO_SHOT = "zero-shot"
MEMBERS_SEPARATOR = " + "
_REFERENCES = Path(__file__).parent / "references"

How = Literal["baseline", "single", "concat", "logits"]


class Reference(Record):
    """A published figure, as printed but as fractions of 1.

    Attributes:
        top1, top2, top3: shares.
        source: where it was published.
        note: what a reader must know of it; empty for nothing.
    """

    top1: float
    top2: float
    top3: float
    source: str
    note: str = ""


class Cell(Grouped):
    """One model with one head on one label set and split.

    Attributes:
        model: `chance`, `majority`, a backbone, `concat: a + b` (features side by side, one head) or
            `logits: a + b` (mean of the logits of heads learned apart).
        head: `baseline`, `zero-shot`, `zero-shot (PROMPT)`, or the kind of a learned head.
        labels, split: the label column, and the name of the split.
        how, members: what `model` says, for programs; baselines have no members.
        seeds, seed_values: how many runs there were, and their seeds (none where nothing is random).
        n: test items.
        n_classes: classes to choose from.
        top1, top2, top3: share of test items whose truth is among the k best answers, mean over runs.
        top1_std, top2_std, top3_std: standard deviation over runs (n - 1); null for a single run.
        top1_interval, top2_interval, top3_interval, balanced_interval: of what the mean would be over other groups
            and, of several runs, other seeds.
        balanced_accuracy, balanced_accuracy_std: mean recall over the test part's classes.
        reference: the published figure, or null.
        val_top1, n_val: top-1 on validation, mean over runs, by which one is chosen, and its items; null and 0
            for baselines.
        n_folds: of cross-validation, whose out-of-fold top-1 one is chosen by; 0 without.
        lr: learning rate; null where nothing was learned, and for `logits`, whose members have theirs.
        fingerprints: of the members' features.
        protocol: in words, what was learned from what and chosen on what.
    """

    model: str
    head: str
    labels: str
    split: str
    how: How
    members: tuple[str, ...] = ()
    seeds: int = 1
    seed_values: tuple[int, ...] = ()
    n: int
    n_classes: int
    top1: float
    top2: float
    top3: float
    top1_std: float | None = None
    top2_std: float | None = None
    top3_std: float | None = None
    top1_interval: Interval | None
    top2_interval: Interval | None
    top3_interval: Interval | None
    balanced_accuracy: float
    balanced_accuracy_std: float | None = None
    balanced_interval: Interval | None
    reference: Reference | None = None
    val_top1: float | None = None
    n_val: int = 0
    n_folds: int = 0
    lr: float | None = None
    fingerprints: tuple[str, ...] = ()
    protocol: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cell stands; its reference is found by this.

    Attributes:
        how, members, head, labels, split: as in `Cell`.
    """

    how: How
    members: tuple[str, ...]
    head: str
    labels: str
    split: str

    @property
    def model(self) -> str:
        """Its name for people and programs."""
        joined = MEMBERS_SEPARATOR.join(self.members)
        return joined if self.how in ("single", "baseline") else f"{self.how}: {joined}"


def measured_cell(
    place: Place,
    truth: Names,
    runs: Sequence[Names],
    groups: ArrayLike,
    *,
    unit: Unit,
    n_classes: int,
    val: tuple[Names, Sequence[Names]] | None = None,
    n_folds: int = 0,
    seed_values: Sequence[int] = (),
    lr: float | None = None,
    fingerprints: Sequence[str] = (),
    protocol: str,
) -> Cell:
    """A cell from ranked answers.

    Args:
        truth: class names [n] of n >= 1 test items.
        runs: S >= 1 arrays of ranked class names [n, >= min(3, C)].
        groups: [n]; items of one group are not independent.
        unit: what groups are.
        val: the same of the validation items, by which one is chosen.
        n_folds: see `Cell`.

    Raises:
        ValueError: no runs, no items, or lengths that differ.
    """
    tops = {
        k: mean_of_runs([hits(truth, ranked[:, :k]) for ranked in runs], groups, truth) for k in (1, 2, 3)
    }
    first, balanced = tops[1]
    fields: dict[str, Any] = asdict(place)
    for k, (top, _) in tops.items():
        fields |= {f"top{k}": top.value, f"top{k}_std": top.std, f"top{k}_interval": top.interval}
    if place.how == BASELINE:
        del fields["members"]
    if val is not None:
        on_val = [float(hits(val[0], ranked[:, :1]).mean()) for ranked in val[1]]
        fields |= {"val_top1": fmean(on_val), "n_val": len(val[0])}
    return Cell(
        **fields,
        model=place.model,
        seeds=len(runs),
        seed_values=tuple(seed_values),
        **grouped(first, len(truth), unit),
        n=len(truth),
        n_classes=n_classes,
        n_folds=n_folds,
        balanced_accuracy=balanced.value,
        balanced_accuracy_std=balanced.std,
        balanced_interval=balanced.interval,
        reference=reference(place),
        lr=lr,
        fingerprints=tuple(fingerprints),
        protocol=protocol,
    )


def chance_cell(labels: str, split: str, groups: ArrayLike, n_classes: int, unit: Unit) -> Cell:
    """What guessing reaches on average: k / C, exactly."""
    n, n_groups = np.size(groups), len(np.unique(np.asarray(groups)))
    top1, top2, top3 = (min(1.0, k / n_classes) for k in (1, 2, 3))
    return Cell(
        model="chance",
        head=BASELINE,
        labels=labels,
        split=split,
        how=BASELINE,
        n=n,
        n_groups=n_groups,
        unit=unit_of(unit, n_groups, n),
        n_classes=n_classes,
        top1=top1,
        top2=top2,
        top3=top3,
        top1_interval=(top1, top1),
        top2_interval=(top2, top2),
        top3_interval=(top3, top3),
        interval_kind="exact",
        design_effect=None,
        balanced_accuracy=1 / n_classes,
        balanced_interval=(1 / n_classes, 1 / n_classes),
        protocol="every class equally often, whatever the picture",
    )


def majority_cell(
    labels: str, split: str, train: Names, truth: Names, groups: ArrayLike, n_classes: int, unit: Unit
) -> Cell:
    """What the training part's most frequent classes reach, always answered in that order.

    Args:
        train, truth: class names of the training and of the test part.
        groups: of the latter.
    """
    names, counts = np.unique(train, return_counts=True)
    order = names[np.argsort(-counts, kind="stable")][:3]
    place = Place(BASELINE, ("majority",), BASELINE, labels, split)
    protocol = f"always {', then '.join(order.tolist())}: the most frequent classes of training"
    ranked = np.tile(order, (len(truth), 1))
    return measured_cell(place, truth, [ranked], groups, unit=unit, n_classes=n_classes, protocol=protocol)


def reference(place: Place) -> Reference | None:
    """The published figure for a place; the order of members does not matter."""
    return _references().get(_key(**asdict(place)))


_Key = tuple[str, frozenset[str], str, str, str]


def _key(*, how: str, members: Sequence[str], head: str, labels: str, split: str) -> _Key:
    return how, frozenset(members), head, labels, split


@cache
def _references() -> Mapping[_Key, Reference]:
    """All published figures. A file's percentages stand as printed; its name says where."""
    references: dict[_Key, Reference] = {}
    for path in sorted(_REFERENCES.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                place = {name: row[name] for name in ("how", "head", "labels", "split")}
                key = _key(**place, members=row["members"].split(MEMBERS_SEPARATOR))
                # Of 70.50 the fraction is 0.705; division alone would give 0.7050000000000001.
                tops = {f"top{k}": round(float(row[f"top{k}"]) / 100, 6) for k in (1, 2, 3)}
                references[key] = Reference(**tops, source=row["source"], note=row["note"])
    return references


CELLS = RecordList(Cell)
