"""A search index as queries and the server use it: its vectors joined with what is known of them. This is no stage.

    from deponij.project.indexes import Index
    index = Index.open("runs/sample/indexes/mini-openclip")
    hits = index.search(index.vectors(["000012.jpg#1"])[0], top=10, where="label = 'Can'")

`Index.of(View(…), Items(…))` searches a view that has no index. Shape letters: n rows, m live ones, d width.
"""

import datetime
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deponij.pipeline.likeness.folding import fold
from deponij.pipeline.likeness.pairs import Thresholds
from deponij.pipeline.retrieval.filters import Condition, Mask, RowFilter
from deponij.pipeline.retrieval.vector_index import VectorIndex
from deponij.project.bounded import BoundedCache
from deponij.store.atomic import read_texts
from deponij.store.errors import IdentityError, StoreError, UsageError
from deponij.store.identity import Identity
from deponij.store.index_folder import ROW, IndexFolder
from deponij.store.items import Items
from deponij.store.view import View

Record = dict[str, Any]
# Kept answers of filters: people leaf through results under one filter.
_KEPT_FILTERS = 32
# Data adapters give columns of these names others (`JOINED_COLUMNS`).
RESERVED = (ROW, "score", "folded")
_TEXT = "text"


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found.

    Attributes:
        score: cosine with the query.
        metadata: the item's other columns.
        folded: items that were folded into this one.
    """

    item_id: str
    key: str
    score: float
    metadata: Mapping[str, Any]
    folded: tuple[str, ...] = field(default=())

    def to_json(self, *, with_folded: bool = False) -> Record:
        """As scripts get it; a column of the items does not hide the first three."""
        record = {"item_id": self.item_id, "key": self.key, "score": self.score}
        record |= {name: value for name, value in self.metadata.items() if name not in record}
        return {**record, "folded": list(self.folded)} if with_folded else record


@dataclass(eq=False)
class Index:
    """Vectors of items, joined with what is known of them.

    Attributes:
        identity: of the features.
        backbone: what the view calls it.
        vector_index: the index over them.
        read_rows: reads the table of live rows, by `vector_row`.
        path: where it came from, for messages.
    """

    identity: Identity
    backbone: str
    vector_index: VectorIndex
    read_rows: Callable[[], pa.Table]
    path: Path
    _masks: BoundedCache[Mask] = field(default_factory=lambda: BoundedCache(_KEPT_FILTERS), init=False)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Map an index that `deponij index` made; vectors past 256 MiB are checked when they are first searched.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        card = (folder := IndexFolder(path)).card
        facts = (card.kind, card.settings, card.effort, folder.vectors_check())
        vectors = VectorIndex.open(folder.vectors_path, *facts)
        if (vectors.n_rows, vectors.dim) != (card.n_rows, card.dim):
            raise StoreError(
                f"{folder.vectors_path} holds {vectors.n_rows} x {vectors.dim} vectors instead of "
                f"{card.n_rows} x {card.dim}; make the index again"
            )
        if card.n_items < card.n_rows:
            live = folder.rows([ROW])[ROW].to_numpy()
            vectors.delete(np.setdiff1d(np.arange(card.n_rows), live))
        return cls(card.identity, card.backbone, vectors, folder.rows, folder.path)

    @classmethod
    def of(cls, view: View, items: Items | None = None, splits: Mapping[str, Path] | None = None) -> Self:
        """An exact index of a view, in memory.

        Raises:
            StoreError: the view was made from other items.
            UsageError: it holds no vectors, or none at all.
        """
        check_embedding(view)
        vectors = VectorIndex.build(view.embedding)
        order = np.arange(len(view))
        return cls(
            view.identity,
            view.backbone,
            vectors,
            lambda: rows_table(view, order, items, splits or {}),
            view.path,
        )

    def __len__(self) -> int:
        return len(self.vector_index)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows_of_ids

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}: {len(self)} x {self.backbone}, {self.vector_index.kind.name})"

    @cached_property
    def rows(self) -> pa.Table:
        """The table of live rows, by `vector_row`."""
        return self.read_rows()

    @cached_property
    def filter(self) -> RowFilter:
        """Chooses rows of the table."""
        return RowFilter(self.rows.drop_columns([ROW]))

    @cached_property
    def _vector_rows(self) -> NDArray[np.int64]:
        column = self.rows[ROW].combine_chunks()
        rows: NDArray[np.int64] = np.frombuffer(column.buffers()[1], np.int64, len(column), 8 * column.offset)
        return rows

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """Place in the table of each vector, [n]; -1 for deleted ones."""
        places = np.full(self.vector_index.n_rows, -1, np.int64)
        places[self._vector_rows] = np.arange(len(self._vector_rows))
        return places

    @cached_property
    def _rows_of_ids(self) -> dict[str, int]:
        return dict(zip(self.rows["item_id"].to_pylist(), self._vector_rows.tolist(), strict=True))

    def accept(self, identity: Identity, what: str = "the query") -> None:
        """Refuse vectors that cannot be compared with this index.

        Pictures must have been seen in exactly the same way; words must come from the same model.

        Raises:
            IdentityError: naming every difference.
        """
        compared = ("backbone", "weights") if identity.kind == _TEXT else ()
        differences = self.identity.differences(identity, compared)
        if differences:
            raise IdentityError(
                f"{what} was not encoded as the index {self.path} ({self.backbone}): "
                + "; ".join(differences)
            )

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of items, [len(ids), d].

        Raises:
            UsageError: an item is not in the index.
        """
        return self.vector_index.vectors(self.vector_rows(ids))

    def vector_rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Rows of items among the vectors, int64 [len(ids)].

        Raises:
            UsageError: an item is not in the index.
        """
        unknown = [item_id for item_id in ids if item_id not in self._rows_of_ids]
        if unknown:
            raise UsageError(f"there is no item {unknown[0]!r} in {self.path}{self._nearest(unknown[0])}")
        return np.array([self._rows_of_ids[item_id] for item_id in ids], np.int64)

    def _nearest(self, item_id: str) -> str:
        from difflib import get_close_matches

        first = [known for known in self._rows_of_ids if item_id[:4].lower() in known.lower()][:2000]
        close = get_close_matches(item_id, first or list(self._rows_of_ids)[:2000], 1, 0.5)
        return f"; did you mean {close[0]!r}?" if close else ""

    def search(
        self,
        vector: NDArray[np.floating],
        top: int = 10,
        *,
        where: str | None = None,
        conditions: Sequence[Condition] = (),
        unique: Thresholds | None = None,
        leave_out: Sequence[str] = (),
        identity: Identity | None = None,
    ) -> list[Hit]:
        """The items with the highest cosine to a vector, highest first; `top` of them where that many count.

        Args:
            vector: [d], of any length.
            where, conditions: which items count; see `RowFilter`.
            unique: fold near-duplicates.
            leave_out: items that do not count.
            identity: of the vector; None where its maker vouches for it.

        Raises:
            UsageError: a filter that cannot be used, an unknown item, or `top` below 1.
            IdentityError: the vector is of another model.
        """
        if identity is not None:
            self.accept(identity)
        among = self._among(where, tuple(conditions), leave_out)
        query = np.asarray(vector)[None]
        if unique is None:
            nearest = self.vector_index.search(query, top, among=among)
            return self._joined(nearest.rows[0], nearest.scores[0])
        n_asked = 4 * top
        while True:
            nearest = self.vector_index.search(query, n_asked, among=among)
            hits = self._joined(nearest.rows[0], nearest.scores[0])
            groups = self._folded(hits, nearest.rows[0], unique, top)
            if len(groups) >= top or len(hits) < n_asked:
                return groups
            n_asked *= 4

    def _folded(self, hits: list[Hit], rows: NDArray[np.int64], how: Thresholds, top: int) -> list[Hit]:
        if top < 1 or not hits:
            return []
        groups = fold(
            [hit.key for hit in hits],
            [hit.metadata.get("phash") for hit in hits],
            self.vector_index.vectors(rows),
            how=how,
            enough=top,
        )
        folded = []
        for group in groups:
            first, others = hits[group[0]], tuple(hits[i].item_id for i in group[1:])
            folded.append(Hit(first.item_id, first.key, first.score, first.metadata, others))
        return folded

    def _among(
        self, where: str | None, conditions: tuple[Condition, ...], leave_out: Sequence[str]
    ) -> Mask | None:
        """Which vectors count, [n]; None for all."""
        if where is None and not conditions and not leave_out:
            return None
        mask = self._chosen(where, conditions)
        if leave_out:
            mask = mask.copy()
            mask[self.vector_rows(leave_out)] = False
        return mask

    def _chosen(self, where: str | None, conditions: tuple[Condition, ...]) -> Mask:
        # Not the conditions themselves: lists of thousands of ids would be kept with them.
        name = hashlib.blake2b(repr((where, conditions)).encode("utf-8", "surrogatepass")).digest()
        return self._masks.made(name, lambda: self._made_mask(where, conditions))

    def _made_mask(self, where: str | None, conditions: tuple[Condition, ...]) -> Mask:
        live = np.ones(self.rows.num_rows, bool)
        if where is not None:
            live &= self.filter.where(where)
        if conditions:
            live &= self.filter.matching(conditions)
        mask = np.zeros(self.vector_index.n_rows, bool)
        mask[self._vector_rows[live]] = True
        return mask

    def listed(
        self, top: int, *, conditions: Sequence[Condition] = (), order: NDArray[np.int64] | None = None
    ) -> list[Hit]:
        """The first `top` items that count; nothing is compared, so their score is NaN.

        Args:
            order: vector rows in the order to take them (`vector_rows`); None: that of the table.

        Raises:
            UsageError: a filter that cannot be used.
        """
        among = self._among(None, tuple(conditions), ())
        rows = self._vector_rows if order is None else order
        rows = (rows if among is None else rows[among[rows]])[:top]
        return self._joined(rows, np.full(len(rows), np.nan, np.float32))

    def count(self, where: str | None = None, conditions: Sequence[Condition] = ()) -> int:
        """How many items a filter lets through."""
        mask = self._among(where, tuple(conditions), ())
        return len(self) if mask is None else int(mask.sum())

    def _joined(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Hit]:
        columns = self.rows.take(_numbers(self._places[rows])).drop_columns([ROW]).to_pydict()
        ids, keys = columns.pop("item_id"), columns.pop("key")
        names = list(columns)
        others = [[plain(value) for value in values] for values in columns.values()]
        metadata: list[Any] = list(zip(*others, strict=True)) if others else [()] * len(ids)
        return [
            Hit(item_id, key, score, dict(zip(names, values, strict=True)))
            for item_id, key, score, values in zip(
                ids, keys, np.asarray(scores, np.float64).tolist(), metadata, strict=True
            )
        ]


def _numbers(rows: NDArray[np.int64]) -> pa.Array:
    """For `take`. `pa.array` would import pandas where there is one, which takes longer than the whole query."""
    content = np.ascontiguousarray(rows)
    return pa.Array.from_buffers(pa.int64(), len(content), [None, pa.py_buffer(content)])


def plain(value: Any) -> Any:
    """A value of a table as JSON can hold it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


def check_embedding(view: View) -> None:
    """Refuse a view without one vector an item.

    Raises:
        UsageError: of another kind, or empty.
    """
    if view.kind not in ("embedding", _TEXT):
        raise UsageError(f"{view.path} holds features of kind {view.kind!r}; an index needs `embedding`")
    if not len(view):
        raise UsageError(f"{view.path} holds no items; there is nothing to search")


def rows_table(
    view: View, order: NDArray[np.int64], items: Items | None, splits: Mapping[str, Path]
) -> pa.Table:
    """What the vectors `view[order]` stand for: `vector_row`, item_id, key, the items' columns, `split_NAME`.

    Raises:
        StoreError: the view was made from other items or other pictures.
        UsageError: the items have a column of a reserved name.
    """
    base = pa.table(
        {
            ROW: pa.array(np.arange(len(order), dtype=np.int64)),
            "item_id": pa.array(view.ids[order].tolist(), pa.string()),
            "key": pa.array(view.keys[order].tolist(), pa.string()),
        }
    )
    if items is not None:
        base = _with_items(base, view, items)
    for name, path in splits.items():
        part_of = dict(zip(*read_texts(path, ["item_id", "part"]), strict=True))
        column = pa.array([part_of.get(item_id) for item_id in base["item_id"].to_pylist()], pa.string())
        if f"split_{name}" in base.column_names:
            raise UsageError(
                f"the items have a column 'split_{name}' already; name the split's file otherwise"
            )
        base = base.append_column(f"split_{name}", column)
    return base


def _with_items(base: pa.Table, view: View, items: Items) -> pa.Table:
    taken = sorted(set(RESERVED) & set(items.column_names))
    if taken:
        raise UsageError(f"the items have columns {taken}, which an index needs for itself; rename them")
    ids, keys = base["item_id"].to_pylist(), base["key"].to_pylist()
    if strangers := items.strangers(ids, keys):
        missing = [item_id for item_id in strangers if item_id not in items.places]
        what, told = ("items that are not in", missing) if missing else ("other pictures than", strangers)
        raise StoreError(
            f"{view.path} saw {what} {items.path} ({len(told)}, the first: {told[0]!r}); extract again"
        )
    chosen = [n for n in items.column_names if n not in ("item_id", "key", "failure")]
    table = items.table(chosen).take(pa.array([items.places[item_id] for item_id in ids], pa.int64()))
    for name in chosen:
        base = base.append_column(name, table[name])
    return base
