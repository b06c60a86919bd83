"""Zero-shot answers as the page shows them: each class with how often it was the answer and its surest pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deponij.pipeline.reports.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture, its answer and how sure that is; the second answer beside it."""

    item_id: str
    answer: str
    confidence: float
    second: str
    second_confidence: float


@dataclass(frozen=True, slots=True)
class AnsweredClass:
    """A class, how many pictures were answered with it, and the surest of them."""

    name: str
    n: int
    surest: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What one backbone answered.

    Attributes:
        protocol: how, in words.
        table: where all answers lie, as CSV.
        n: pictures that were answered.
        median: of the confidences.
        of_items: the answer by item id.
        classes: by falling number of answers.
        unsure: the pictures whose answer is the least sure.
    """

    backbone: str
    protocol: str
    table: str
    n: int
    median: float
    of_items: Mapping[str, str]
    classes: tuple[AnsweredClass, ...]
    unsure: tuple[Shown, ...]
    source: Provenance

    @property
    def item_ids(self) -> set[str]:
        """Items whose pictures are shown."""
        shown = [one for each in self.classes for one in each.surest]
        return {one.item_id for one in (*shown, *self.unsure)}


def answer_facts(
    rows: Sequence[Shown],
    classes: Sequence[str],
    n_shown: int,
    *,
    backbone: str,
    protocol: str,
    table: str,
    source: Provenance,
) -> AnswerFacts:
    """Of all answers those that are shown: n_shown of each class, and as many that are unsure."""
    ranked = sorted(rows, key=lambda one: (-one.confidence, one.item_id))
    each = [
        AnsweredClass(name, len(of_class), tuple(of_class[:n_shown]))
        for name in classes
        for of_class in [[one for one in ranked if one.answer == name]]
    ]
    return AnswerFacts(
        backbone=backbone,
        protocol=protocol,
        table=table,
        n=len(rows),
        median=float(np.median([one.confidence for one in rows])) if rows else 0.0,
        of_items={one.item_id: one.answer for one in rows},
        classes=tuple(sorted(each, key=lambda one: (-one.n, one.name))),
        unsure=tuple(ranked[::-1][:n_shown]),
        source=source,
    )
