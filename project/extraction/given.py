"""Embeddings that the user gives, brought to the items of a run as a view. No model makes them, and none is known.

Rows find their items by id, never by position. The view's identity says whose they are: family `given`, the name, the
width, and the hash of all that was given, so that different embeddings never pass for each other. They are no rows of
the depot, which keeps what was computed. This is no stage.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import BaseModel

from deponij.pipeline.backbones.kinds import KindName
from deponij.pipeline.given.vectors import GivenVectors
from deponij.store.errors import DataError, IdentityError
from deponij.store.identity import Identity
from deponij.store.items import Items
from deponij.store.shard import row_checksums
from deponij.store.view import write_view

FAMILY = "given"
_NAMED = 3


class GivenResult(BaseModel):
    """What became of given embeddings.

    Attributes:
        n_items: items of the run.
        n_given: rows that were given.
        n_matched: items that have a row.
        n_by_path: of them, by a path that ends like the item's, or like its photograph's.
        n_extra: rows whose item is not here.
        n_missing: items for which no row was given.
        n_failed: items without a vector for any reason.
    """

    backbone: str
    fingerprint: str
    view: str
    n_items: int
    n_given: int
    n_matched: int
    n_by_path: int
    n_extra: int
    n_missing: int
    n_failed: int
    dim: int
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Matched:
    """Which row each item has: by item id; how many found it by a path; the ids of no item here."""

    rows: dict[str, int]
    n_by_path: int
    extra: tuple[str, ...]


def identity_of(given: GivenVectors, name: str) -> Identity:
    """What the rows are a function of: what was given. How it was made is not known, and so not said."""
    return Identity(
        backbone=f"{FAMILY}:{name}/{given.dim}",
        weights=given.sha256,
        kind=str(KindName.EMBEDDING),
        transform="",
        decode="",
        precision="",
        stored=str(given.vectors.dtype),
    )


def is_given(identity: Identity) -> bool:
    """Whether features were given by the user."""
    return identity.backbone.partition(":")[0] == FAMILY


def refuse_given(identity: Identity, name: str) -> None:
    """Say that no model can be asked for features that were given.

    Raises:
        IdentityError: they were.
    """
    if is_given(identity):
        raise IdentityError(
            f"the features of {name} were given by the user ({identity.backbone}, content {identity.weights[:12]}): "
            "no model is known that makes them, so new pictures and words cannot be brought to them. Ask by an item or a "
            "vector's file instead (`deponij query item ID`, `deponij query vector FILE.npy`), or use a backbone "
            "(`deponij backbones`)"
        )


def match(items: Items, given: GivenVectors) -> Matched:
    """Find the item of each row: by item id, else by the photograph, else by a path that ends like one of them.

    Raises:
        DataError: two rows are of one item, or no row is of any.
    """
    known = _Names(items)
    rows: dict[str, int] = {}
    extra, n_by_path = [], 0
    for row, name in enumerate(given.ids):
        item_id = known.item_of(name)
        if item_id is None:
            extra.append(name)
            continue
        if item_id in rows:
            raise DataError(
                f"{given.where} has two rows for the item {item_id!r}: {given.ids[rows[item_id]]!r} and {name!r}; one "
                "vector an item is expected"
            )
        rows[item_id] = row
        n_by_path += item_id != name
    if not rows:
        raise DataError(
            f"not one of the {len(given):,} ids in {given.where} is of an item here. Its ids are such as "
            f"{_some(given.ids)}, those of the items {_some(items.ids)}"
        )
    return Matched(rows, n_by_path, tuple(extra))


class _Names:
    """Items by everything that they may be called; a name that two items share is of none."""

    def __init__(self, items: Items) -> None:
        self._items = set(items.ids)
        pairs = list(zip(items.ids, items.column("image_id"), strict=True))
        photos = Counter(photo for _, photo in pairs)
        self._photos = {
            photo: item_id for item_id, photo in pairs if photo is not None and photos[photo] == 1
        }
        ends = Counter(end for item_id in items.ids for end in _ends(item_id))
        self._ends = {end: item_id for item_id in items.ids for end in _ends(item_id) if ends[end] == 1}

    def item_of(self, name: str) -> str | None:
        if name in self._items:
            return name
        path = str(PurePosixPath(name.replace("\\", "/")))
        for end in (path, *_ends(path)):
            item_id = end if end in self._items else self._photos.get(end)
            if item_id is not None:
                return item_id
        return self._ends.get(path)


def _ends(path: str) -> list[str]:
    """What a path ends with, folder by folder, the longest first, without itself."""
    parts = PurePosixPath(path).parts
    return ["/".join(parts[start:]) for start in range(1, len(parts))]


def give(items: Items, given: GivenVectors, *, name: str, out: Path) -> GivenResult:
    """Write the view of items and what was given for them.

    Args:
        name: what the features are called.

    Raises:
        DataError: rows that do not fit the items at all.
        StoreError: the view cannot be written.
    """
    matched, faults = match(items, given), given.faults
    failures = list(items.failures)
    failed = {item_id for item_id, _ in failures}
    kept: list[tuple[str, str, int]] = []
    for item_id, key in zip(items.ids, items.keys, strict=True):
        row = matched.rows.get(item_id)
        if item_id in failed or key is None:
            continue
        if row is None:
            failures.append((item_id, f"no vector is given for it in {given.where}"))
        elif row in faults:
            failures.append((item_id, faults[row]))
        else:
            kept.append((item_id, key, row))
    if not kept:
        raise DataError(f"no item can have a vector of {given.where}; the first reason: {failures[0][1]}")
    identity = identity_of(given, name)
    arrays = {"embedding": given.vectors[np.array([row for _, _, row in kept])]}
    write_view(
        out,
        identity=identity,
        backbone=name,
        ids=[item_id for item_id, _, _ in kept],
        keys=[key for _, key, _ in kept],
        checksums=row_checksums(arrays, len(kept)),
        arrays=arrays,
        failures=failures,
    )
    return GivenResult(
        backbone=name,
        fingerprint=identity.fingerprint,
        view=str(out),
        n_items=len(items),
        n_given=len(given),
        n_matched=len(matched.rows),
        n_by_path=matched.n_by_path,
        n_extra=len(matched.extra),
        n_missing=len(items) - len(matched.rows),
        n_failed=len(failures),
        dim=given.dim,
        notes=[*given.notes, *_extra(given, matched)],
    )


def _extra(given: GivenVectors, matched: Matched) -> list[str]:
    if not matched.extra:
        return []
    return [
        f"{len(matched.extra):,} of {len(given):,} ids in {given.where} are of no item here, such as {_some(matched.extra)}"
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join([*map(repr, names[:_NAMED]), *(["…"] if len(names) > _NAMED else [])])


def summary(result: GivenResult) -> str:
    """One line for a person."""
    by_path = f", {result.n_by_path:,} of them by their path" if result.n_by_path else ""
    return (
        f"{result.backbone}: given by the user, {result.dim} wide; {result.n_matched:,} of {result.n_items:,} items matched "
        f"by id{by_path}, {result.n_failed:,} without a vector -> {result.view}"
    )
