"""Items with their features, labelled or not, and which of the latter to label first. This is no stage."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.head import Head, softmax
from deponij.pipeline.heads.registry import head_class, load_head
from deponij.pipeline.likeness.pairs import Evidence, Likeness
from deponij.pipeline.likeness.suggesting import doubts, doubts_between, suggest
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.pipeline.reports.provenance import JOINED
from deponij.pipeline.reports.table import result_row
from deponij.project.frame.layout import Layout
from deponij.project.frame.toys import toys_of
from deponij.project.learning.result_files import read_result
from deponij.project.learning.results import require_finite
from deponij.store.errors import UsageError
from deponij.store.items import Items
from deponij.store.texts import in_percent
from deponij.store.view import View

_CARD = "head.json"


@dataclass(frozen=True)
class Pool:
    """Some items of a view.

    Attributes:
        ids, keys, phashes: [m].
        vectors: [m, d].
    """

    ids: list[str]
    keys: list[str]
    phashes: list[str | None]
    vectors: NDArray[np.floating]

    @classmethod
    def of(cls, view: View, items: Items, item_ids: Collection[str]) -> "Pool":
        """Those of the wanted items that have features, in the order of the view.

        Raises:
            StoreError: features that are not finite, or of other items or pictures.
        """
        view.require_pictures_of(items)
        some = set(item_ids)
        ids = [one for one in view.ids.tolist() if one in some and one in items.places]
        vectors = view.read(ids).reshape(len(ids), -1) if ids else np.zeros((0, 1), np.float32)
        require_finite(vectors, ids, f"{view.path}: the features", "extract with precision fp32")
        keys, phashes = items.keys, items.column("phash")
        rows = [items.places[one] for one in ids]
        return cls(ids, [str(keys[row]) for row in rows], [phashes[row] for row in rows], vectors)

    def without(self, ids: Collection[str]) -> "Pool":
        """Without these items."""
        gone = set(ids)
        rows = [row for row, one in enumerate(self.ids) if one not in gone]
        return Pool(
            [self.ids[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.phashes[row] for row in rows],
            self.vectors[rows],
        )

    @property
    def evidence(self) -> Evidence:
        """What is known of their looks."""
        return Evidence(self.keys, self.phashes, self.vectors)


@dataclass(frozen=True, slots=True)
class Suggested:
    """One picture to label.

    Attributes:
        doubt: 0 to 1; None without a classifier.
        answers: its likeliest classes with their probabilities.
    """

    item_id: str
    doubt: float | None
    answers: tuple[tuple[str, float], ...]

    @property
    def note(self) -> str:
        """Why, in a few words."""
        return " or ".join(f"{name} {in_percent(prob)}" for name, prob in self.answers) or "unlike the others"


def suggested(
    pool: Pool, known: Pool | None, head: Head | None, n_wanted: int, seed: int, between: Sequence[str] = ()
) -> list[Suggested]:
    """Which of a pool to label first.

    Args:
        known: items that have a label.
        head: learned from features like the pool's; None: coverage alone counts.
        between: two classes that only are of interest.

    Raises:
        UsageError: classes that the head does not know.
    """
    if not pool.ids:
        return []
    classes: list[str] = [] if head is None else head.classes_.tolist()
    probs = None if head is None else softmax(head.decision_function(pool.vectors))
    if strangers := [one for one in between if one not in classes]:
        raise UsageError(
            f"the classifier has no class {strangers[0]!r}; it has {', '.join(map(repr, classes))}"
        )
    doubt = (
        None
        if probs is None
        else doubts_between(probs, *map(classes.index, between))
        if between
        else doubts(probs)
    )
    evidence = pool.evidence
    with_known = None if known is None or not known.ids else Likeness(evidence, known.evidence)
    rows = suggest(Likeness(evidence), with_known, doubt, n_wanted, seed).tolist()
    if probs is None or doubt is None:
        return [Suggested(pool.ids[row], None, ()) for row in rows]
    return [Suggested(pool.ids[row], float(doubt[row]), _best(probs[row], classes)) for row in rows]


def _best(probs: NDArray[np.floating], classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The two likeliest of C classes."""
    order = np.argsort(-probs, kind="stable")[:2].tolist()
    return tuple((classes[i], float(probs[i])) for i in order)


def chosen_result(
    at: Layout, labels: str, split: str | None = None, backbone: str | None = None
) -> tuple[Path, Evaluation] | None:
    """The head of one backbone that validation chooses; without validation the first by the part that is shown.

    Heads that read maps are left out: pools have vectors.

    Args:
        split, backbone: names; None for any.
    """
    toys = toys_of(at.weights)
    results = [(folder, read_result(folder)[0]) for folder in at.results() if (folder / _CARD).is_file()]
    fitting = [
        (folder, one)
        for folder, one in results
        if one.labels == labels
        and split in (None, one.split)
        and backbone in (None, one.backbone)
        and JOINED not in one.backbone
        and head_class(one.method).reads == "vectors"
    ]
    return min(fitting, key=lambda pair: (result_row(pair[1], toys).rank, str(pair[0])), default=None)


def head_of(folder: Path) -> Head:
    """The head of a results folder."""
    return load_head(folder)
