"""A view: the features of one set of items under one identity, as one HDF5 file.

    ids        S [n]        item ids, in item order
    keys       S40 [n]      what was seen; two equal crops are two items with one key
    checksums  uint32 [n]   of each row's bytes
    arrays/<name> [n, …]    the features themselves; absent for dense kinds, which stay in the depot
    columns/<name> S [n]    further facts about the rows (texts: text, group, template)
    failures/ids, failures/reasons   items that have no row, and why

A view is a pure function of items and parameters: equal inputs give equal bytes. No times, paths or
versions are in it. Plain h5py opens it. A digest over everything but the arrays, and the row
checksums over these, are checked by every reader.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deponij.store import hdf5, shard
from deponij.store.atomic import replacing
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.shard import row_checksums
from deponij.store.texts import plain_reason
from deponij.store.what_is import instead, is_hdf5, what_is

if TYPE_CHECKING:
    import h5py

    from deponij.store.items import Items

FORMAT = "deponij-view/1"
# The column that says which pictures the backbone was tuned on: `train`, `val` (chosen on), or nothing.
TUNED_ON = "tuned_on"


def write_view(
    path: Path,
    *,
    identity: Identity,
    backbone: str,
    ids: Sequence[str],
    keys: Sequence[str],
    checksums: npt.NDArray[np.uint32],
    arrays: Mapping[str, Array],
    columns: Mapping[str, Sequence[str]] | None = None,
    failures: Sequence[tuple[str, str]] = (),
) -> None:
    """Write a view whole.

    Args:
        backbone: the name it was asked for by, for people.
        ids: n distinct item ids.
        keys: n keys.
        checksums: uint32 [n], as the depot gave them.
        arrays: name -> [n, …]; empty for dense kinds.
        columns: name -> n strings.
        failures: (item id, reason) of items without a row.

    Raises:
        StoreError: ids repeat, lengths differ, or the file cannot be written.
    """
    if len(set(ids)) != len(ids):
        raise StoreError("item ids repeat; they must be unique")
    lengths = {len(ids), len(keys), len(checksums)} | {len(a) for a in arrays.values()}
    lengths |= {len(column) for column in (columns or {}).values()}
    if len(lengths) != 1:
        raise StoreError(f"ids, keys, checksums, arrays and columns differ in length: {sorted(lengths)}")
    with replacing(path) as part, hdf5.creating(part) as file:
        texts = {"format": FORMAT, "identity": identity.to_json(), "backbone": backbone}
        texts["fingerprint"] = identity.fingerprint
        parts: dict[str, Array] = {
            "ids": hdf5.write_strings(file, "ids", ids),
            "keys": hdf5.write_strings(file, "keys", keys),
            "checksums": np.asarray(checksums, np.uint32),
        }
        hdf5.write_array(file, "checksums", parts["checksums"])
        for name, values in sorted(arrays.items()):
            hdf5.write_array(file.require_group("arrays"), name, values)
        for name, strings in sorted((columns or {}).items()):
            parts[f"columns/{name}"] = hdf5.write_strings(file.require_group("columns"), name, strings)
        group = file.create_group("failures")
        parts["failures/ids"] = hdf5.write_strings(group, "ids", [item_id for item_id, _ in failures])
        reasons = [plain_reason(reason) for _, reason in failures]
        parts["failures/reasons"] = hdf5.write_strings(group, "reasons", reasons)
        for name, text in texts.items():
            hdf5.write_text(file, name, text)
        hdf5.write_text(file, "digest", _digest(texts, parts))


def write_empty_view(path: Path, *, identity: Identity, backbone: str) -> None:
    """A view without rows, where features of this identity were not asked for."""
    none = np.empty(0, np.uint32)
    write_view(path, identity=identity, backbone=backbone, ids=[], keys=[], checksums=none, arrays={})


def _digest(texts: Mapping[str, str], parts: Mapping[str, Array]) -> str:
    """BLAKE2b-128 over names, dtypes, shapes and bytes of everything but the feature arrays."""
    digest = hashlib.blake2b(json.dumps(dict(texts), sort_keys=True).encode(), digest_size=16)
    for name, values in sorted(parts.items()):
        digest.update(f"|{name}:{values.dtype.str}:{values.shape}|".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


class View:
    """Features of items, joined by id.

    Args:
        path: the view's file.
        depot: where the rows of a dense view lie; not needed for embeddings.

    Raises:
        StoreError: absent, damaged or no view.
    """

    def __init__(self, path: str | Path, depot: FeatureStore | None = None) -> None:
        self.path = Path(path)
        self.depot = depot
        if self.path.is_dir():
            there = sorted((*self.path.glob("*.h5"), *self.path.glob("views/*.h5")))
            hint = f"; in it are {', '.join(map(str, there))}" if there else instead(self.path)
            raise StoreError(f"{self.path} is a folder, and a view is a file{hint}")
        if not is_hdf5(self.path):
            raise StoreError(
                f"{self.path} is {what_is(self.path)}, and no view of features, or is damaged; views are HDF5 files "
                "such as runs/mine/views/BACKBONE.h5, and `deponij extract` or `deponij import-embeddings` makes them"
            )
        try:
            with hdf5.reading(self.path, str(self.path)) as file:
                self._load(file)
        except FileNotFoundError:
            raise StoreError(
                f"there is no view at {self.path}; `deponij run` or `deponij extract` makes one"
            ) from None

    def _load(self, file: "h5py.File") -> None:
        texts = {
            name: hdf5.read_text(file, name) for name in ("format", "identity", "backbone", "fingerprint")
        }
        if texts["format"] != FORMAT:
            raise StoreError(f"{self.path} is no view of format {FORMAT}; got {texts['format']!r}")
        known = {name: text for name, text in texts.items() if text is not None}
        names = ["ids", "keys", "checksums", "failures/ids", "failures/reasons"]
        names += [f"columns/{name}" for name in file.get("columns", {})]
        parts = {name: hdf5.whole(file[name]) for name in names}
        if hdf5.read_text(file, "digest") != _digest(known, parts):
            raise StoreError(
                f"{self.path} is damaged: its digest does not fit; extract again or restore the file"
            )
        self.identity = Identity.from_dict(json.loads(known["identity"]))
        self.backbone = known["backbone"]
        self.ids = hdf5.decoded(parts["ids"])
        self.keys = hdf5.decoded(parts["keys"])
        self.checksums: npt.NDArray[np.uint32] = parts["checksums"]
        self.columns = {
            name.removeprefix("columns/"): hdf5.decoded(raw)
            for name, raw in parts.items()
            if name.startswith("columns/")
        }
        failed = [hdf5.decoded(parts[f"failures/{name}"]).tolist() for name in ("ids", "reasons")]
        self.failures: list[tuple[str, str]] = list(zip(*failed, strict=True))
        self.shapes: dict[str, tuple[int, ...]] = {
            n: item.shape for n, item in file.get("arrays", {}).items()
        }

    @property
    def array_names(self) -> list[str]:
        """Names of the arrays that the view holds; none for dense kinds."""
        return sorted(self.shapes)

    @property
    def fingerprint(self) -> str:
        """Of the identity."""
        return self.identity.fingerprint

    @property
    def kind(self) -> str:
        """Kind of feature, such as `embedding`, `tokens@4`, `dense@1` or `text`."""
        return self.identity.kind

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"View({str(self.path)!r}: {len(self)} x {self.kind} of {self.backbone}, {self.fingerprint})"

    @cached_property
    def embedding(self) -> Array:
        """The vectors [n, d] (for `tokens@K`: [n, K, 2, d]) in item order, in the stored dtype.

        Raises:
            StoreError: a dense view has no vectors, or rows are damaged.
        """
        return self._own_array(np.arange(len(self)))

    def read(self, ids: Sequence[str]) -> Array:
        """The vectors of these items, in this order; repeats allowed.

        Raises:
            StoreError: an id is unknown (failed ones are named with their reason), or rows are damaged.
        """
        rows = self.rows(ids)
        if "embedding" in self.__dict__:
            return self.embedding[rows]
        return self._own_array(rows)

    def maps(self, ids: Sequence[str]) -> dict[str, Array]:
        """Dense features of these items from the depot: name -> [m, C, h, w].

        Raises:
            StoreError: no depot was given, it lacks rows, or they are not those the view was made from.
        """
        if self.depot is None:
            raise StoreError(
                f"{self.path} holds keys only; open it with its depot: View(path, depot=FeatureStore(…))"
            )
        rows = self.rows(ids)
        arrays = self.depot.read([str(key) for key in self.keys[rows]], self.identity)
        self._check(arrays, rows)
        return arrays

    def rows(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row numbers of item ids, int64 [m].

        Raises:
            StoreError: an id is unknown.
        """
        place = self.places
        unknown = [item_id for item_id in ids if item_id not in place]
        if unknown:
            reasons = dict(self.failures)
            first = str(unknown[0])
            why = f"; it failed: {reasons[first]}" if first in reasons else ""
            raise StoreError(f"{len(unknown)} ids are not in {self.path}, the first: {first!r}{why}")
        return np.array([place[item_id] for item_id in ids], dtype=np.int64)

    @cached_property
    def places(self) -> dict[str, int]:
        """Row of each item."""
        return {item_id: row for row, item_id in enumerate(self.ids.tolist())}

    def open_depot(self, location: str) -> None:
        """Open the depot in which its maps lie; whether it has their rows is seen when they are read.

        Raises:
            StoreError: there is none; the message says how the maps are had.
        """
        try:
            self.depot = FeatureStore(location)
        except StoreError as error:
            raise StoreError(
                f"{self.path} names maps ({self.kind} of {self.backbone}) that lie in a depot: {error}. Name it with "
                f"--depot, {self.how_had(location)}"
            ) from error

    def how_had(self, location: str) -> str:
        """In words, by which commands a depot at this place comes to hold its maps."""
        return (
            f"bring them from the depot where they were made with `deponij depot merge OTHER {location}`, or compute them "
            f"with `deponij extract {self._made_by()} --items ITEMS --out {self.path} --depot {location}`"
        )

    def _made_by(self) -> str:
        """Arguments of `deponij extract` that make features of this identity."""
        identity, size_px = self.identity, self.identity.squashed_px
        route = identity.decode.partition(":")[2].partition("(")[0]
        asked = {
            "--input-px": "" if size_px is None else f"{size_px[0]} {size_px[1]}",
            "--decode": "" if route == "draft" else route,
            "--precision": "" if identity.precision == "fp32" else identity.precision,
            "--stored": "" if identity.stored == "float16" else identity.stored,
        }
        told = {"--backbone": self.backbone, "--kind": self.kind} | {k: v for k, v in asked.items() if v}
        return " ".join(f"{name} {value}" for name, value in told.items())

    def require_pictures_of(self, items: "Items") -> None:
        """Refuse to be joined by id with items that it was not made from.

        Items without a row must have failed, and a row must be of the picture that the item has now.

        Raises:
            StoreError: naming the first that is not so.
        """
        keys = self.keys.tolist()
        failed = {item_id for item_id, _ in (*self.failures, *items.failures)}
        missing = [one for one in items.ids if one not in self.places and one not in failed]
        if missing:
            raise StoreError(
                f"{self.path} lacks {len(missing)} of {len(items)} items that did not fail, the first: "
                f"{missing[0]!r}; it was made from other items: extract again"
            )
        pairs = zip(items.ids, items.keys, strict=True)
        other = [one for one, key in pairs if one in self.places and key != keys[self.places[one]]]
        if other:
            raise StoreError(
                f"{self.path} saw other pictures than {items.path} holds for {len(other)} items, the first: "
                f"{other[0]!r}; extract again"
            )

    def _own_array(self, rows: npt.NDArray[np.int64]) -> Array:
        if not self.array_names:
            if len(self) == 0:
                # Nothing to see, as when every item failed; how wide rows would be is not known.
                return np.empty((0, 0), self.identity.stored)
            raise StoreError(
                f"{self.path} is a view of {self.kind} features, which lie in a depot: use maps(ids)"
            )
        with hdf5.reading(self.path, str(self.path)) as file:
            is_few = len(rows) * shard.FEW <= len(self)
            arrays = {
                name: hdf5.read_bare_rows(self.path, one, rows)
                if is_few and hdf5.lies_row_by_row(one := file["arrays"][name])
                else hdf5.read_rows(file["arrays"][name], rows)
                for name in self.array_names
            }
        self._check(arrays, rows)
        return arrays[self.array_names[0]]

    def _check(self, arrays: Mapping[str, Array], rows: npt.NDArray[np.int64]) -> None:
        wrong = np.flatnonzero(row_checksums(arrays, len(rows)) != self.checksums[rows])
        if len(wrong):
            raise StoreError(
                f"{len(wrong)} rows are not those that {self.path} was made from, the first: "
                f"{str(self.ids[rows[wrong[0]]])!r}; check with `deponij depot verify` and extract again"
            )
