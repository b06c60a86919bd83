"""What looking after embeddings starts from: items, features, labels and parts of one set, joined. This is no stage."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.pairs import Evidence, codes_of
from deponij.project.frame.settings import Section
from deponij.project.in_force import run_of
from deponij.project.indexes import check_embedding, rows_table
from deponij.project.learning.item_columns import read_labels, read_parts
from deponij.project.learning.results import require_finite
from deponij.project.meant import run_meant
from deponij.project.record_files import by_name
from deponij.project.thumbnails import images_of
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items
from deponij.store.view import View

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Where:
    """What a set is made from; features or items may be lacking.

    Attributes:
        splits: by name.
        labels: a column of the items.
        said: in one line, which run's these are; None where they were named.
    """

    features: str | Path | None = None
    items: str | Path | None = None
    splits: Mapping[str, Path] = field(default_factory=dict)
    labels: str | None = None
    said: str | None = None


def choose(
    features: Path | None,
    items: Path | None,
    splits: Sequence[Path],
    labels: str | None,
    backbone: str | None,
    of_run: Path | None = None,
) -> Where:
    """What was named, beside a run's view also its items and splits; where nothing was, what the run that is meant has.

    Args:
        backbone: of the run; None: the chosen one's with features.
        of_run: the run's folder; None: the last one's (`deponij.project.meant`).

    Raises:
        UsageError: nothing was named and nothing says which run is meant, or it has no such backbone.
    """
    named = by_name(splits)
    if features is not None or items is not None:
        if backbone is not None or of_run is not None:
            raise UsageError("--backbone and --run choose within a run; leave them out where files are named")
        run = None if features is None else run_of(features)
        if run is not None:
            items = items or run.items
            named = named or {path.stem: path for path in sorted(run.root.glob("splits/*.parquet"))}
        if items is None and labels is not None:
            raise UsageError("--labels names a column of the items; name their folder too (--items)")
        return Where(features, items, named, labels)
    meant = run_meant(of_run)
    view = meant.view(backbone)
    said = meant.said(f"features of {view.stem}")
    return Where(view, meant.at.items, named or meant.splits, labels or meant.labels, said)


class SetReport(Section):
    """What every report on one set begins with.

    Attributes:
        source: the set, in words.
        backbone: whose features were compared; None for none.
        fingerprint: of their identity.
        labels: column that was looked at.
        n: items looked at.
        n_left_out: items without a picture or features.
        notes: what must be known of it.
    """

    source: str
    backbone: str | None
    fingerprint: str | None
    labels: str | None
    n: int
    n_left_out: int
    notes: tuple[str, ...]


class Gathered:
    """The items of one set that can be looked at.

    With features: those of the view, in its order. Without: all items with a picture.

    Attributes:
        ids, keys: [n].
        table: the items' columns, [n] rows; None where no items were named.

    Raises:
        DeponijError: files that are damaged or do not belong together; nothing to look at.
    """

    def __init__(self, where: Where) -> None:
        if where.features is None and where.items is None:
            raise UsageError("name --features VIEW or --items ITEMS or both")
        self.where = where
        self.view = None if where.features is None else View(where.features)
        self.items = None if where.items is None else Items(where.items)
        if self.view is not None:
            check_embedding(self.view)
            table = rows_table(self.view, np.arange(len(self.view)), self.items, {})
        else:
            assert self.items is not None
            everything = self.items.table()
            table = everything.filter(everything["key"].is_valid())
        self.ids: list[str] = table["item_id"].to_pylist()
        self.keys: list[str] = table["key"].to_pylist()
        self.table = None if self.items is None else table
        if not self.ids:
            raise DataError(f"{where.items} holds no pictures; there is nothing to look at")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_left_out(self) -> int:
        """Items without a picture, or without features where there are features."""
        return 0 if self.items is None else len(self.items) - len(self)

    @property
    def source(self) -> str:
        """In words, for the top of a page."""
        of = "" if self.view is None else f"; features: {self.view.backbone}, {self.view.fingerprint}"
        return f"{self.where.features or self.where.items}, n = {len(self):,}{of}"

    def facts(self, notes: Sequence[str]) -> dict[str, Any]:
        """What a `SetReport` says of the set."""
        return {
            "source": self.source,
            "backbone": None if self.view is None else self.view.backbone,
            "fingerprint": None if self.view is None else self.view.fingerprint,
            "labels": self.where.labels,
            "n": len(self),
            "n_left_out": self.n_left_out,
            "notes": tuple(notes),
        }

    @cached_property
    def evidence(self) -> Evidence:
        """What is known of the looks.

        Raises:
            StoreError: features that are not finite.
            DataError: a damaged hash.
        """
        vectors = None if self.view is None else self.view.embedding
        if self.view is not None and vectors is not None:
            what = f"{self.view.path}: the features"
            require_finite(vectors, self.ids, what, "extract with precision fp32")
        return Evidence(self.keys, self._column("phash"), vectors)

    @cached_property
    def photos(self) -> list[str | None] | None:
        """The photograph of each, [n]."""
        return self._column("image_id")

    @cached_property
    def photo_codes(self) -> NDArray[np.int32]:
        """Its number, [n]; an item of no known photograph is one by itself."""
        return codes_of(self.photos or [None] * len(self))

    @cached_property
    def n_pixels(self) -> NDArray[np.int64]:
        """Of each picture, [n]; 0 where that is not known."""
        sides = [self._column(name) or [0] * len(self) for name in ("width_px", "height_px")]
        pairs = zip(*sides, strict=True)
        return np.array([(width or 0) * (height or 0) for width, height in pairs], np.int64)

    @cached_property
    def labels(self) -> list[str | None] | None:
        """The label of each, [n]; None where no column was named.

        Raises:
            UsageError: there is no such column, or it holds no names.
        """
        name = self.where.labels
        if name is None:
            return None
        if self.table is None or self.items is None:
            raise UsageError(f"labels ({name!r}) are a column of the items; name their folder too (--items)")
        of_item = read_labels(self.items, name)
        return [of_item[item_id] for item_id in self.ids]

    @cached_property
    def parts(self) -> dict[str, list[str | None]]:
        """By split the part of each, [n]; None outside the pool.

        Raises:
            StoreError: a table is damaged.
            DataError: it is the split of other items, or has unknown parts.
        """
        parts = {}
        for name, path in self.where.splits.items():
            part_of = read_parts(path)
            if not part_of.keys() & set(self.ids):
                raise DataError(f"{path} divides other items: not one of these {len(self):,} is in it")
            parts[name] = [part_of.get(item_id) for item_id in self.ids]
        return parts

    def check_names(self) -> None:
        """See that labels and splits can be had, before the long work begins.

        Raises:
            UsageError, StoreError, DataError: as `labels` and `parts`.
        """
        _ = self.labels, self.parts

    def require_items(self) -> Items:
        """Where the pictures are.

        Raises:
            UsageError: no items were named.
        """
        if self.items is None:
            raise UsageError("pictures are with the items; name their folder with --items ITEMS")
        return self.items

    def images(self, ids: Collection[str]) -> "dict[str, Image.Image]":
        """Thumbnails by item id; of those that cannot be read there is none.

        Raises:
            UsageError: no items were named.
        """
        return images_of(self.require_items(), ids)

    def _column(self, name: str) -> list[Any] | None:
        if self.table is None or name not in self.table.column_names:
            return None
        values: list[Any] = self.table[name].to_pylist()
        return values
