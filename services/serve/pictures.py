"""Pictures as the server hands them out: items, and the photographs that they were cut from. This is no stage.

No path comes from a request: an id is looked up in the items' table, and what that names is read inside the folder
of the photographs alone.
"""

import hashlib
import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image

from deponij.pipeline.data.inside import Links, read_inside
from deponij.pipeline.pictures import Route, decode, upright_size_px
from deponij.project.bounded import BoundedCache
from deponij.store.errors import DataError, PictureError, StoreError, UsageError
from deponij.store.items import Items

_KEPT_BYTES = 64 << 20
_KEPT_SIZES = 10_000
_QUALITY = 88
# Every browser shows these, by their first bytes.
_SHOWN_AS_THEY_ARE = {b"\x89PNG\r\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
Box = tuple[float, float, float, float]


class UnknownItemError(UsageError):
    """There is no such item."""


class NoPhotographError(UsageError):
    """The photograph of an item is not here, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture for a browser; etag: of these very bytes' origin and size."""

    content: bytes
    media_type: str
    etag: str


class Pictures:
    """Pictures of items and photographs, smaller where that is asked for; what was made lately is kept.

    Args:
        items: table with the pictures.
        images: folder of the photographs, or None.
    """

    def __init__(self, items: Items, images: Path | None) -> None:
        self.items = items
        self._images = None if images is None else images.resolve()
        self._links = Links() if images is None else Links.of(images)
        self._kept: BoundedCache[Encoded] = BoundedCache(_KEPT_BYTES, lambda one: len(one.content))
        self._sizes: BoundedCache[tuple[int, int]] = BoundedCache(_KEPT_SIZES)
        # A Parquet file is read by one thread at a time.
        self._lock = Lock()

    @property
    def has_photographs(self) -> bool:
        """Whether items can be shown where they were found."""
        return self._images is not None or not self.are_crops

    @cached_property
    def are_crops(self) -> bool:
        """Whether items have boxes in photographs; otherwise each is a photograph."""
        return set(_BOX) <= set(self.items.column_names)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Row of each item that has a picture."""
        keys = self.items.keys
        return {item_id: row for item_id, row in self.items.places.items() if keys[row] is not None}

    @cached_property
    def _facts(self) -> list[dict[str, Any]]:
        wanted = ["item_id", "key", "image_id", *_BOX, "image_width_px", "image_height_px"]
        rows: list[dict[str, Any]] = self.items.table(
            [name for name in wanted if name in self.items.column_names]
        ).to_pylist()
        return rows

    @cached_property
    def _by_photograph(self) -> Mapping[str, list[int]]:
        found = defaultdict(list)
        for row in self.rows.values():
            found[self._facts[row]["image_id"]].append(row)
        return found

    def warm(self) -> None:
        """Read the tables now."""
        _ = self.rows, self._by_photograph, self._facts

    def thumbnail(self, item_id: str, side_px: int) -> Encoded:
        """An item's picture, upright; its longest side at most this.

        Raises:
            UnknownItemError: there is no such item. PictureError: it cannot be decoded.
        """
        row = self._row(item_id)
        etag = f'"{self._facts[row]["key"]}-{side_px}"'
        return self._kept.made(("item", row, side_px), lambda: _within(self._content(row), side_px, etag))

    def photograph(self, item_id: str, side_px: int) -> Encoded:
        """The photograph of an item, upright; its longest side at most this.

        Raises:
            UnknownItemError: there is no such item.
            NoPhotographError: it is not here, or cannot be read.
        """
        row = self._row(item_id)
        image_id = str(self._facts[row]["image_id"])
        if not self.are_crops:
            return self.thumbnail(item_id, side_px)
        etag = f'"{hashlib.blake2b(image_id.encode(), digest_size=12).hexdigest()}-{side_px}"'
        try:
            return self._kept.made(
                ("photograph", image_id, side_px), lambda: _within(self._file(image_id), side_px, etag)
            )
        except DataError as error:
            raise NoPhotographError(f"the photograph {image_id!r} cannot be shown: {error}") from error

    def size_px(self, item_id: str) -> tuple[int, int] | None:
        """(width, height) of an item's photograph; None where it is not here or cannot be read."""
        row = self._row(item_id)
        facts = self._facts[row]
        if self.are_crops and facts.get("image_width_px") and facts.get("image_height_px"):
            return int(facts["image_width_px"]), int(facts["image_height_px"])
        try:
            return self._sizes.made(
                facts["image_id"],
                lambda: upright_size_px(
                    self._file(str(facts["image_id"])) if self.are_crops else self._content(row)
                ),
            )
        except (DataError, NoPhotographError):
            return None

    def box(self, item_id: str) -> Box | None:
        """[x, y, w, h] of an item in its photograph, in pixels; None where it is all of it."""
        if not self.are_crops:
            return None
        facts = self._facts[self._row(item_id)]
        values = [facts[name] for name in _BOX]
        if any(value is None for value in values):
            return None
        x, y, w, h = map(float, values)
        return x, y, w, h

    def image_id(self, item_id: str) -> str:
        """Of the photograph that an item was cut from."""
        return str(self._facts[self._row(item_id)]["image_id"])

    def others(self, item_id: str) -> list[str]:
        """Items of the same photograph."""
        rows = self._by_photograph[self._facts[self._row(item_id)]["image_id"]]
        return [other for row in rows if (other := str(self._facts[row]["item_id"])) != item_id]

    def _row(self, item_id: str) -> int:
        row = self.rows.get(item_id)
        if row is None:
            raise UnknownItemError(f"there is no item {item_id!r} here")
        return row

    def _content(self, row: int) -> bytes:
        with self._lock:
            found = next(self.items.found([row], only_there=True), None)
        if found is None:
            raise PictureError(f"{self.items.ids[row]!r} has no picture: these items were made without any")
        if isinstance(found[1], StoreError):
            raise NoPhotographError(str(found[1]))
        return found[1]

    def _file(self, image_id: str) -> bytes:
        if self._images is None:
            raise DataError("the photographs are not here; name their folder with --images DIR")
        return read_inside(self._images, image_id, self._links)


def _within(content: bytes, side_px: int, etag: str) -> Encoded:
    """A picture whose longest side is at most this; unchanged where it is small and browsers can show it."""
    kind = next((kind for magic, kind in _SHOWN_AS_THEY_ARE.items() if content.startswith(magic)), None)
    if kind is not None and max(upright_size_px(content)) <= side_px:
        return Encoded(content, kind, etag)
    # `draft` keeps both sides at twice of what it is given.
    image = decode(content, route=Route.DRAFT, input_px=(side_px, side_px))
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return Encoded(file.getvalue(), "image/jpeg", etag)
