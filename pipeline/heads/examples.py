"""Labelled examples: which items have a part, a label and features. Joined by id, never by position.

Under cross-validation every item is in the part `test` and in a fold. Fold k is tested by what the others teach, and
the fold after it (of the last one, the first) is what that is chosen on: so many ordinary splits, and every item is
tested once, chosen on once, and learned from in all the others.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from deponij.store.errors import DataError

if TYPE_CHECKING:
    from deponij.pipeline.metrics.clustered import Unit

Names = NDArray[np.str_]
# Why items are in no figure: fields of `Examples`.
LeftOut = Literal["n_without_features", "n_tuned_on"]


@dataclass(frozen=True, slots=True)
class Examples:
    """Items of the pool with a label and features, in item order.

    Attributes:
        ids, labels, parts: [n] strings; parts are `train`, `val` or `test`.
        groups: [n] strings; items of one group (crops of one photograph) are not independent.
        unit: what groups are.
        pool_classes: classes of the pool's labelled items, with and without features, sorted.
        n_items: rows of the items table.
        n_outside_pool: of these, rows that have no part.
        n_without_label: rows that have a part but no label.
        n_without_features: rows that have both but no features.
        n_tuned_on: rows to be tested that a backbone has learned from or was chosen on, so that they cannot test it.
        folds: [n], from 0; None where items are not cross-validated.
    """

    ids: Names
    labels: Names
    parts: Names
    groups: Names
    unit: "Unit"
    pool_classes: tuple[str, ...]
    n_items: int
    n_outside_pool: int
    n_without_label: int
    n_without_features: int
    folds: NDArray[np.int64] | None = None
    n_tuned_on: int = 0

    def rotations(self) -> "tuple[Examples, ...]":
        """The ordinary splits that these are, in the order of the folds: without folds, themselves.

        All hold the same items; their test rows, put together, are those of the whole.
        """
        if self.folds is None:
            return (self,)
        folds = np.unique(self.folds)
        return tuple(
            replace(self, folds=None, parts=_parts_of(self.folds, int(tested), int(chosen_on)))
            for tested, chosen_on in zip(folds, np.roll(folds, -1), strict=True)
        )

    def rows(self, part: str) -> NDArray[np.int64]:
        """Rows of one part."""
        return np.flatnonzero(self.parts == part)

    def only(self, kept: NDArray[np.bool_], counted: LeftOut = "n_without_features") -> "Examples":
        """Those that are kept [n]; the others count as what is `counted`. Not for folds."""
        arrays = {name: getattr(self, name)[kept] for name in ("ids", "labels", "parts", "groups")}
        return replace(self, **arrays, **{counted: getattr(self, counted) + int((~kept).sum())})

    def gaps(self) -> tuple[str, ...]:
        """Sentences on classes that a part has none of, or training one item alone; none where all is well."""
        parts = {part: self.labels[self.rows(part)] for part in ("train", "val", "test")}
        classes, counts = np.unique(parts["train"], return_counts=True)
        lacking = {"There is a single training item of": classes[counts == 1].tolist()}
        for part in ("val", "test"):
            if len(parts[part]):
                lacking[f"There is no {part} item of"] = sorted(
                    set(self.pool_classes) - set(parts[part].tolist())
                )
        return tuple(f"{told} {_listed(names)}." for told, names in lacking.items() if names)

    @property
    def majority_class(self) -> str:
        """Most frequent class of the training part, else of all; ties go to the one that sorts first."""
        train = self.labels[self.rows("train")]
        classes, counts = np.unique(train if len(train) else self.labels, return_counts=True)
        return str(classes[counts.argmax()])


def _parts_of(folds: NDArray[np.int64], tested: int, chosen_on: int) -> Names:
    """Parts [n] while one fold is tested."""
    parts = np.full(len(folds), "train", dtype="<U5")
    parts[folds == chosen_on] = "val"
    parts[folds == tested] = "test"
    return parts


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more classes" if len(names) > most else "")


def join_examples(
    labels: Mapping[str, str | None],
    parts: Mapping[str, str | None],
    groups: Mapping[str, str],
    with_features: Collection[str],
    unit: "Unit" = "photographs",
    folds: Mapping[str, int] | None = None,
    tuned_on: Collection[str] = (),
) -> Examples:
    """Join labels, parts and groups by item id; `with_features` are the ids that have a feature row.

    Args:
        folds: of the items that have a part; None where there are none.
        tuned_on: ids that a backbone of these features has learned from; where they would test it, they are left out.

    Raises:
        DataError: the split names unknown items, no item has a part, a label and features, or the backbone has
            learned from all that would test it.
    """
    strangers = [item_id for item_id in parts if item_id not in labels]
    if strangers:
        raise DataError(
            f"the split names {len(strangers)} items that the items table lacks; it was made for others. "
            f"The first: {strangers[0]!r}"
        )
    pool = [item_id for item_id in labels if parts.get(item_id) is not None]
    labelled = [(item_id, str(labels[item_id])) for item_id in pool if labels[item_id] is not None]
    featured = with_features if isinstance(with_features, Set) else set(with_features)
    chosen = [(item_id, label) for item_id, label in labelled if item_id in featured]
    if not chosen:
        raise DataError(
            f"no item can be used: of {len(labels)} items {len(pool)} have a part in the split, of these "
            f"{len(labelled)} have a label, and of these none has features"
        )
    n_featured = len(chosen)
    chosen = _fair(chosen, parts, set(tuned_on))
    chosen_folds = (
        None if folds is None else np.array([folds[item_id] for item_id, _ in chosen], dtype=np.int64)
    )
    return Examples(
        folds=chosen_folds,
        ids=np.array([item_id for item_id, _ in chosen], dtype=np.str_),
        labels=np.array([label for _, label in chosen], dtype=np.str_),
        parts=np.array([parts[item_id] for item_id, _ in chosen], dtype=np.str_),
        groups=np.array([groups[item_id] for item_id, _ in chosen], dtype=np.str_),
        unit=unit,
        pool_classes=tuple(sorted({label for _, label in labelled})),
        n_items=len(labels),
        n_outside_pool=len(labels) - len(pool),
        n_without_label=len(pool) - len(labelled),
        n_without_features=len(labelled) - n_featured,
        n_tuned_on=n_featured - len(chosen),
    )


def _fair(
    chosen: list[tuple[str, str]], parts: Mapping[str, str | None], tuned_on: set[str]
) -> list[tuple[str, str]]:
    """Without items that would test a backbone which has learned from them."""
    to_test = [item_id for item_id, _ in chosen if parts[item_id] == "test"]
    unfair = tuned_on.intersection(to_test)
    if unfair and len(unfair) == len(to_test):
        raise DataError(
            f"the backbone was tuned on all {len(to_test)} items that this split would test it by: take the split that it "
            "was tuned with, whose test part it has not seen, or other pictures"
        )
    return [one for one in chosen if one[0] not in unfair]


def count_by_class(labels: Names, classes: Sequence[str]) -> list[int]:
    """How many labels each class has, in the order of `classes`."""
    counts = Counter(labels.tolist())
    return [counts[name] for name in classes]
