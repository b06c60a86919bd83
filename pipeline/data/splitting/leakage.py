"""How much the parts of a split know of each other: shared photographs, and pictures whose perceptual hashes are near.

Splits are made before there are features, so that what hashes propose is possible and not sure; with features
`deponij duplicates` says which of it is so. Arrays in, a frozen report out. What lives elsewhere: the hashes and the
search for near pairs (`deponij.pipeline.likeness.phash`); making splits (`deponij.pipeline.data.splitting.strategies`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.pairs import MAX_BITS_ALONE
from deponij.pipeline.likeness.phash import HASH_BITS, near_pairs
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.store.errors import UsageError
from deponij.store.texts import in_percent

MAX_LISTED = 50


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two items of different parts that look alike."""

    item_id_a: str
    part_a: str
    item_id_b: str
    part_b: str
    distance_bits: int
    same_group: bool


@dataclass(frozen=True, slots=True)
class Leakage:
    """What one part could know of another.

    Attributes:
        n_train, n_val, n_test: items by part.
        n_test_sharing: test items whose group (photograph) also has training items.
        n_val_sharing: the same for val.
        n_groups_shared: groups with items in more than one part.
        n_near_pairs: pairs across parts whose hashes differ in at most `max_distance_bits` bits.
        n_test_near_train: test items in at least one such pair with a training item.
        n_unhashed: items of a part without a hash, which were not compared.
        max_distance_bits: of 64.
        near_pairs: the nearest of the pairs, at most as many as were asked for.
    """

    n_train: int
    n_val: int
    n_test: int
    n_test_sharing: int
    n_val_sharing: int
    n_groups_shared: int
    n_near_pairs: int
    n_test_near_train: int
    n_unhashed: int
    max_distance_bits: int
    near_pairs: tuple[NearPair, ...]

    @property
    def test_sharing_share(self) -> float:
        """Share of the test items whose photograph also has training items; 0 without test items."""
        return self.n_test_sharing / self.n_test if self.n_test else 0.0

    @property
    def summary(self) -> str:
        """Sentences for a person."""
        near = f"perceptual hashes at most {self.max_distance_bits} of {HASH_BITS} bits apart"
        confirm = (
            " Once there are features, `deponij duplicates` tells which are so." if self.n_near_pairs else ""
        )
        return (
            f"{self.n_test_sharing:,} of {self.n_test:,} test items ({in_percent(self.test_sharing_share)}) share a "
            f"photograph with training items. {self.n_near_pairs:,} pairs across parts are possible near-duplicates "
            f"({near}); {self.n_test_near_train:,} test items have one in train.{confirm}"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {**asdict(self), "test_sharing_share": self.test_sharing_share}


def leakage_report(
    item_ids: Sequence[str],
    parts: Sequence[str | None] | NDArray[np.object_],
    groups: Sequence[object],
    phashes: Sequence[str | None],
    max_distance: int = MAX_BITS_ALONE,
    *,
    max_listed: int = MAX_LISTED,
) -> Leakage:
    """Count what train, val and test share. Items outside the pool (part None) are left out.

    Args:
        item_ids: [n] unique names.
        parts: [n] of `train`, `val`, `test` or None.
        groups: [n] name of the photograph; None is shared with nobody.
        phashes: [n] 64-bit hashes as 16 hexadecimal characters, or None.
        max_distance: bits that two hashes may differ in to count as near.
        max_listed: longest list of pairs; all are counted.

    Raises:
        UsageError: the columns differ in length.
        DataError: a hash is not 16 hexadecimal characters.
    """
    if not len(item_ids) == len(parts) == len(groups) == len(phashes):
        lengths = len(item_ids), len(parts), len(groups), len(phashes)
        raise UsageError(f"item_ids, parts, groups and phashes must have one length; got {lengths}")
    rows = {name: [row for row, part in enumerate(parts) if part == name] for name in PARTS}
    held = {name: {groups[row] for row in rows[name]} - {None} for name in PARTS}
    shared = [held[a] & held[b] for a, b in combinations(PARTS, 2)]
    rows_a, rows_b, bits = _pairs_across(rows, phashes, max_distance)
    return Leakage(
        n_train=len(rows["train"]),
        n_val=len(rows["val"]),
        n_test=len(rows["test"]),
        n_test_sharing=sum(groups[row] in held["train"] for row in rows["test"]),
        n_val_sharing=sum(groups[row] in held["train"] for row in rows["val"]),
        n_groups_shared=len(set().union(*shared)),
        n_near_pairs=len(bits),
        n_test_near_train=len(set(rows_b[np.isin(rows_a, rows["train"])].tolist()) & set(rows["test"])),
        n_unhashed=sum(phashes[row] is None for name in PARTS for row in rows[name]),
        max_distance_bits=max_distance,
        near_pairs=tuple(
            NearPair(
                item_id_a=item_ids[i],
                part_a=str(parts[i]),
                item_id_b=item_ids[j],
                part_b=str(parts[j]),
                distance_bits=distance,
                same_group=groups[i] is not None and groups[i] == groups[j],
            )
            for i, j, distance in zip(
                rows_a[:max_listed].tolist(),
                rows_b[:max_listed].tolist(),
                bits[:max_listed].tolist(),
                strict=True,
            )
        ),
    )


def _pairs_across(
    rows: dict[str, list[int]], phashes: Sequence[str | None], max_distance: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(row, row, distance) of all near pairs across parts, each [n_pairs], nearest first.

    The first row is of the part that comes first in `PARTS`.
    """
    columns: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for a, b in combinations(PARTS, 2):
        near = near_pairs([phashes[row] for row in rows[a]], [phashes[row] for row in rows[b]], max_distance)
        columns[0].append(np.asarray(rows[a], dtype=np.int64)[near.row_a])
        columns[1].append(np.asarray(rows[b], dtype=np.int64)[near.row_b])
        columns[2].append(near.distance)
    rows_a, rows_b, bits = (np.concatenate(column) for column in columns)
    order = np.lexsort((rows_b, rows_a, bits))
    return rows_a[order], rows_b[order], bits[order]
