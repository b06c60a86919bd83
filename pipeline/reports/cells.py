"""Cells of the tables of results: one model with one head on one label set and split, over its seeds.

A cell is made of ranked answers, of one run or of several that differ in their seed alone, and has
the published figure beside it where there is one (`references/*.csv`). Shares are fractions of 1.
How cells are laid out as tables lives in `cell_tables`.

Shape letters: n items, S runs, C classes.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from deponij.pipeline.metrics.classification import Names, balanced_accuracy, hits
from deponij.pipeline.metrics.evaluation import Interval
from deponij.pipeline.metrics.intervals import seed_mean
from deponij.pipeline.record_lists import RecordList

BASELINE: Final = "baseline"
ZERO_SHOT = "zero-shot"
MEMBERS_SEPARATOR = " + "
_REFERENCES = Path(__file__).parent / "references"

How = Literal["baseline", "single", "concat", "logits"]
IntervalKind = Literal["exact", "wilson", "bootstrap"]


class Reference(BaseModel):
    """A published figure, as printed but as fractions of 1.

    Attributes:
        top1, top2, top3: shares.
        source: where it was published.
        note: what a reader must know of it; empty for nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    top1: float
    top2: float
    top3: float
    source: str
    note: str = ""


class Cell(BaseModel):
    """One model with one head on one label set and split.

    Attributes:
        model: `chance`, `majority`, a backbone, `concat: a + b` (features side by side, one head) or
            `logits: a + b` (mean of the logits of heads learned apart).
        head: `baseline`, `zero-shot`, `zero-shot (PROMPT)`, or the kind of a learned head.
        labels, split: the label column, and the name of the split.
        how, members: what `model` says, for programs; baselines have no members.
        seeds, seed_values: how many runs there were, and their seeds (none where nothing is random).
        n: test items; n_classes: classes to choose from.
        top1, top2, top3: share of test items whose truth is among the k best answers, mean over runs.
        top1_std, top2_std, top3_std: standard deviation over runs (n - 1); null for a single run.
        top1_interval, top2_interval, top3_interval: at 95 %.
        interval_kind: of top-1's. `bootstrap` (test items resampled, of the runs' mean), `wilson` (a
            single run, or items that are all answered alike), or `exact` (chance: computed, not measured).
        balanced_accuracy, balanced_accuracy_std: mean recall over the test part's classes.
        reference: the published figure, or null.
        lr: learning rate; null where nothing was learned, and for `logits`, whose members have theirs.
        fingerprints: of the members' features.
        protocol: in words, what was learned from what and chosen on what.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    head: str
    labels: str
    split: str
    how: How
    members: tuple[str, ...]
    seeds: int
    seed_values: tuple[int, ...]
    n: int
    n_classes: int
    top1: float
    top2: float
    top3: float
    top1_std: float | None
    top2_std: float | None
    top3_std: float | None
    top1_interval: Interval
    top2_interval: Interval
    top3_interval: Interval
    interval_kind: IntervalKind
    balanced_accuracy: float
    balanced_accuracy_std: float | None
    reference: Reference | None
    lr: float | None
    fingerprints: tuple[str, ...]
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
    *,
    n_classes: int,
    seed_values: Sequence[int] = (),
    lr: float | None = None,
    fingerprints: Sequence[str] = (),
    protocol: str,
) -> Cell:
    """A cell from ranked answers.

    Args:
        truth: class names [n] of n >= 1 test items.
        runs: S >= 1 arrays of ranked class names [n, >= min(3, C)].

    Raises:
        ValueError: no runs, no items, or lengths that differ.
    """
    top1, top2, top3 = (seed_mean([hits(truth, ranked[:, :k]) for ranked in runs]) for k in (1, 2, 3))
    balanced = [balanced_accuracy(truth, ranked[:, 0]) for ranked in runs]
    return Cell(
        model=place.model,
        head=place.head,
        labels=place.labels,
        split=place.split,
        how=place.how,
        members=() if place.how == BASELINE else place.members,
        seeds=len(runs),
        seed_values=tuple(seed_values),
        n=len(truth),
        n_classes=n_classes,
        top1=top1.mean,
        top2=top2.mean,
        top3=top3.mean,
        top1_std=top1.std,
        top2_std=top2.std,
        top3_std=top3.std,
        top1_interval=top1.interval,
        top2_interval=top2.interval,
        top3_interval=top3.interval,
        interval_kind=top1.kind,
        balanced_accuracy=mean(balanced),
        balanced_accuracy_std=stdev(balanced) if len(balanced) > 1 else None,
        reference=reference(place),
        lr=lr,
        fingerprints=tuple(fingerprints),
        protocol=protocol,
    )


def chance_cell(labels: str, split: str, n: int, n_classes: int) -> Cell:
    """What guessing reaches on average: k / C, exactly."""
    top1, top2, top3 = (min(1.0, k / n_classes) for k in (1, 2, 3))
    return Cell(
        model="chance",
        head=BASELINE,
        labels=labels,
        split=split,
        how=BASELINE,
        members=(),
        seeds=1,
        seed_values=(),
        n=n,
        n_classes=n_classes,
        top1=top1,
        top2=top2,
        top3=top3,
        top1_std=None,
        top2_std=None,
        top3_std=None,
        top1_interval=(top1, top1),
        top2_interval=(top2, top2),
        top3_interval=(top3, top3),
        interval_kind="exact",
        balanced_accuracy=1 / n_classes,
        balanced_accuracy_std=None,
        reference=None,
        lr=None,
        fingerprints=(),
        protocol="every class equally often, whatever the picture",
    )


def majority_cell(labels: str, split: str, train: Names, truth: Names, n_classes: int) -> Cell:
    """What the training part's most frequent classes reach, always answered in that order.

    Args:
        train, truth: class names of the training and of the test part.
    """
    names, counts = np.unique(train, return_counts=True)
    order = names[np.argsort(-counts, kind="stable")][:3]
    place = Place(BASELINE, ("majority",), BASELINE, labels, split)
    protocol = f"always {', then '.join(order.tolist())}: the most frequent classes of training"
    ranked = np.tile(order, (len(truth), 1))
    return measured_cell(place, truth, [ranked], n_classes=n_classes, protocol=protocol)


def reference(place: Place) -> Reference | None:
    """The published figure for a place; the order of members does not matter."""
    return _references().get(_key(place.how, place.members, place.head, place.labels, place.split))


_Key = tuple[str, frozenset[str], str, str, str]


def _key(how: str, members: Sequence[str], head: str, labels: str, split: str) -> _Key:
    return how, frozenset(members), head, labels, split


@cache
def _references() -> Mapping[_Key, Reference]:
    """All published figures. A file's percentages stand as printed; its name says where."""
    found: dict[_Key, Reference] = {}
    for path in sorted(_REFERENCES.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                members = row["members"].split(MEMBERS_SEPARATOR)
                key = _key(row["how"], members, row["head"], row["labels"], row["split"])
                found[key] = Reference(
                    # Of 70.50 the fraction is 0.705; division alone would give 0.7050000000000001.
                    top1=round(float(row["top1"]) / 100, 6),
                    top2=round(float(row["top2"]) / 100, 6),
                    top3=round(float(row["top3"]) / 100, 6),
                    source=row["source"],
                    note=row["note"],
                )
    return found


CELLS = RecordList(Cell)
