"""The depot and the view against plain files of the same rows: appending, scanning, gathering, opening, size.

    python benchmarks/store.py [--rows 100000] [--large] [--rounds 3] [--only append,scan,gather,open] [--json FILE]

Rows are float32 [n, 768] with a key of 40 characters each, in batches of 1,024, which nobody can compress. `--large`
does it with 10^6 rows as well (3 GB a side, so about 20 GB of disk).

Appending is *durable*: every side has a batch on the disk (fsync) before it takes the next, as the depot's promise is.
So peers write a file for each batch, but for `raw` (one file that grows, its keys at the end) and Lance, which decides
itself. The view is written once, from all rows. Scanning goes through everything in blocks of 65,536 rows; gathering
is of 1 % of the rows, drawn at random, by key on our side (by number on the others', which know no keys). Files are in
the page cache. Our checks are on: HDF5's Fletcher-32 of each chunk, and of the view's rows their CRC-32 too; of the
peers only Parquet (as pyarrow writes it here) can check anything, and does.

Sides take turns; the best of the rounds counts.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from figures import Line, left_out, parser, report, timed
from numpy.typing import NDArray

from deponij.store.depot import FeatureStore
from deponij.store.identity import Identity
from deponij.store.shard import row_checksums
from deponij.store.view import View, write_view

DIM, BATCH, BLOCK = 768, 1024, 65_536
IDENTITY = Identity("bench:none", "0" * 64, "embedding", "none", "none", "fp32", "float32")
Rows = NDArray[np.float32]
Numbers = NDArray[np.int64]
_BASE = np.random.default_rng(0).standard_normal((BATCH, DIM), dtype=np.float32)


@dataclass(frozen=True)
class Data:
    """What all sides hold; batches are made when they are asked for, and fit no dictionary."""

    n: int

    @cached_property
    def keys(self) -> list[str]:
        return [hashlib.blake2b(f"{row}".encode(), digest_size=20).hexdigest() for row in range(self.n)]

    def spans(self, step: int = BATCH) -> list[slice]:
        return [slice(start, min(self.n, start + step)) for start in range(0, self.n, step)]

    def batch(self, span: slice) -> Rows:
        """Rows of a span that begins at a multiple of `BATCH`, [b, d]."""
        numbers = np.arange(span.start // BATCH, -(-span.stop // BATCH))
        found = np.concatenate([_BASE * np.float32(1 + number / 1000) for number in numbers])
        return found[: span.stop - span.start]

    def some(self) -> Numbers:
        """1 % of the rows, at random."""
        return np.random.default_rng(1).choice(self.n, self.n // 100, replace=False)


class Side(ABC):
    """One way to keep the rows, in a folder of its own."""

    name = ""

    def __init__(self, folder: Path, data: Data) -> None:
        self.folder, self.data = folder, data

    @abstractmethod
    def append(self) -> None:
        """Write everything into the empty folder, batch by batch."""

    @abstractmethod
    def open(self) -> Any:
        """Whatever reading needs."""

    @abstractmethod
    def scan(self, opened: Any) -> Iterator[Rows]:
        """All rows, a block at a time."""

    @abstractmethod
    def gather(self, opened: Any, numbers: Numbers) -> Rows:
        """Some rows, in this order."""

    def files(self) -> list[Path]:
        """Of batches, in order."""
        return sorted(self.folder.iterdir())

    def place(self, span: slice, ending: str) -> Path:
        return self.folder / f"{span.start // BATCH:06d}.{ending}"

    def per_file(self, numbers: Numbers) -> Iterator[tuple[int, Numbers, Numbers]]:
        """Number of each file of batches that is needed, with the rows wanted of it and where they go."""
        which = numbers // BATCH
        for file in np.unique(which):
            where = np.flatnonzero(which == file)
            yield int(file), numbers[where] % BATCH, where


class Depot(Side):
    name = "depot"

    def append(self) -> None:
        with FeatureStore(self.folder, create=True).writer(IDENTITY, {}) as writer:
            for span in self.data.spans():
                writer.add(self.data.keys[span], {"embedding": self.data.batch(span)})

    def open(self) -> FeatureStore:
        store = FeatureStore(self.folder)
        store.missing(IDENTITY, self.data.keys[:1])
        return store

    def scan(self, opened: FeatureStore) -> Iterator[Rows]:
        for span in self.data.spans(BLOCK):
            yield opened.read(self.data.keys[span], IDENTITY)["embedding"]

    def gather(self, opened: FeatureStore, numbers: Numbers) -> Rows:
        return opened.read([self.data.keys[number] for number in numbers], IDENTITY)["embedding"]


class OneView(Side):
    name = "view"

    @property
    def path(self) -> Path:
        return self.folder / "view.h5"

    def append(self) -> None:
        embedding = np.concatenate([self.data.batch(span) for span in self.data.spans()])
        arrays = {"embedding": embedding}
        write_view(
            self.path,
            identity=IDENTITY,
            backbone="none",
            ids=[f"photographs/{row:07d}.jpg" for row in range(self.data.n)],
            keys=self.data.keys,
            checksums=row_checksums(arrays, self.data.n),
            arrays=arrays,
        )

    def open(self) -> View:
        return View(self.path)

    def scan(self, opened: View) -> Iterator[Rows]:
        yield opened.embedding

    def gather(self, opened: View, numbers: Numbers) -> Rows:
        return opened.read(opened.ids[numbers].tolist())


class Raw(Side):
    name = "np.memmap"

    @property
    def path(self) -> Path:
        return self.folder / "rows.f32"

    def append(self) -> None:
        with self.path.open("wb") as file:
            for span in self.data.spans():
                self.data.batch(span).tofile(file)
                os.fsync(file.fileno())
        saved(self.folder / "keys.npy", lambda path: np.save(path, np.array(self.data.keys, "S40")))

    def open(self) -> NDArray[np.float32]:
        return np.memmap(self.path, np.float32, "r").reshape(-1, DIM)

    def scan(self, opened: Rows) -> Iterator[Rows]:
        for span in self.data.spans(BLOCK):
            yield np.array(opened[span])

    def gather(self, opened: Rows, numbers: Numbers) -> Rows:
        return np.asarray(opened[numbers])


class Saved(Side):
    """A file of np.save for each batch, its keys in another."""

    name = "np.save"

    def append(self) -> None:
        for span in self.data.spans():
            rows, keys = self.data.batch(span), np.array(self.data.keys[span], "S40")
            saved(self.place(span, "npy"), lambda path, rows=rows: np.save(path, rows))
            saved(self.place(span, "keys"), lambda path, keys=keys: keys.tofile(path))

    def open(self) -> list[Path]:
        return sorted(self.folder.glob("*.npy"))

    def scan(self, opened: list[Path]) -> Iterator[Rows]:
        for path in opened:
            yield np.load(path)

    def gather(self, opened: list[Path], numbers: Numbers) -> Rows:
        found = np.empty((len(numbers), DIM), np.float32)
        for file, rows, where in self.per_file(numbers):
            found[where] = np.load(opened[file], mmap_mode="r")[rows]
        return found


class SafeTensors(Side):
    name = "safetensors"

    def append(self) -> None:
        from safetensors.numpy import save_file

        for span in self.data.spans():
            keys = np.frombuffer("".join(self.data.keys[span]).encode(), np.uint8).reshape(-1, 40)
            tensors = {"embedding": self.data.batch(span), "keys": keys}
            saved(self.place(span, "safetensors"), lambda path, tensors=tensors: save_file(tensors, path))

    def open(self) -> list[Path]:
        return self.files()

    def scan(self, opened: list[Path]) -> Iterator[Rows]:
        from safetensors import safe_open

        for path in opened:
            with safe_open(path, "numpy") as file:
                yield file.get_tensor("embedding")

    def gather(self, opened: list[Path], numbers: Numbers) -> Rows:
        from safetensors import safe_open

        found = np.empty((len(numbers), DIM), np.float32)
        for number, rows, where in self.per_file(numbers):
            with safe_open(opened[number], "numpy") as file:
                part = file.get_slice("embedding")
                for row, place in zip(rows.tolist(), where.tolist(), strict=True):
                    found[place] = part[row : row + 1][0]
        return found


class Parquet(Side):
    name = "Parquet"

    def append(self) -> None:
        import pyarrow.parquet as pq

        for span in self.data.spans():
            table = arrow(self.data, span)
            saved(
                self.place(span, "parquet"),
                # Floats of networks repeat nowhere: with dictionaries and compression it would only be slower.
                lambda path, table=table: pq.write_table(
                    table, path, compression="none", use_dictionary=False, write_page_checksum=True
                ),
            )

    def open(self) -> Any:
        return self.files()

    def scan(self, opened: list[Path]) -> Iterator[Rows]:
        for path in opened:
            yield self._read(path)

    def gather(self, opened: list[Path], numbers: Numbers) -> Rows:
        found = np.empty((len(numbers), DIM), np.float32)
        for file, rows, where in self.per_file(numbers):
            found[where] = self._read(opened[file])[rows]
        return found

    @staticmethod
    def _read(path: Path) -> Rows:
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path, page_checksum_verification=True)
        return vectors(file.read(["embedding"]).column(0))


class Lance(Side):
    name = "Lance"

    def append(self) -> None:
        import lance

        for number, span in enumerate(self.data.spans()):
            mode = "append" if number else "create"
            lance.write_dataset(arrow(self.data, span), str(self.folder / "rows"), mode=mode)

    def open(self) -> Any:
        import lance

        return lance.dataset(str(self.folder / "rows"))

    def scan(self, opened: Any) -> Iterator[Rows]:
        for batch in opened.to_batches(columns=["embedding"]):
            yield vectors(batch.column(0))

    def gather(self, opened: Any, numbers: Numbers) -> Rows:
        return vectors(opened.take(numbers.tolist(), columns=["embedding"]).column(0))


OURS, PEERS = (Depot, OneView), (Raw, Saved, SafeTensors, Parquet, Lance)


def arrow(data: Data, span: slice) -> Any:
    """Keys and rows of a span as a table."""
    import pyarrow as pa

    flat = pa.array(data.batch(span).reshape(-1))
    return pa.table(
        {"key": data.keys[span], "embedding": pa.FixedSizeListArray.from_arrays(flat, DIM)},
    )


def vectors(column: Any) -> Rows:
    """A column of lists of one length, or its chunks, as rows."""
    flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if hasattr(flat, "chunks"):
        flat = flat.chunks[0]
    found: Rows = flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, DIM)
    return found


def saved(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file and bring it to the disk."""
    write(path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def total(blocks: Iterator[Rows]) -> float:
    """Touches every row."""
    return float(sum(block[:, 0].astype(np.float64).sum() for block in blocks))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measured(n: int, args: argparse.Namespace, scratch: Path) -> Iterator[Line]:
    """All sides at one size: seconds of each, then how many times longer ours take than each peer."""
    data = Data(n)
    _ = data.keys
    here = [kind for kind in (*OURS, *PEERS) if kind is not Lance or find_spec("lance")]
    sides = [kind(scratch / kind.name, data) for kind in here]
    seconds: dict[str, dict[str, float]] = {what: {} for what in args.only.split(",")}
    for side in sides:
        spent = appended(side, args.rounds if n <= args.rows else 1)
        if "append" in seconds:
            seconds["append"][side.name] = spent
    for _ in range(args.rounds):
        for side in sides:
            for what, took in read(side, data.some()).items():
                if what in seconds:
                    seconds[what][side.name] = min(took, seconds[what].get(side.name, float("inf")))
    for what, spent in seconds.items():
        yield from of_one(f"{n:,} rows, {what}", spent, "s")
    sizes = {side.name: size_of(side.folder) / n for side in sides}
    yield from of_one(f"{n:,} rows, on the disk, a row", sizes, "bytes")


def appended(side: Side, rounds: int) -> float:
    """Seconds of the best of some rounds; the last one's files stay."""
    best = float("inf")
    for _ in range(rounds):
        shutil.rmtree(side.folder, ignore_errors=True)
        side.folder.mkdir(parents=True)
        # What others, or the round before, have left to be written is not this one's.
        os.sync()
        best = min(best, timed(side.append)[0])
    return best


def read(side: Side, numbers: Numbers) -> dict[str, float]:
    """Seconds of opening, scanning and gathering; what comes out is compared with what went in."""
    opening, opened = timed(side.open)
    scanning, summed = timed(lambda: total(side.scan(opened)))
    wanted = total(side.data.batch(span) for span in side.data.spans())
    # A view keeps what it has read: gathering is from a fresh one.
    gathering, found = timed(side.gather, side.open(), numbers)
    row = numbers[0] - numbers[0] % BATCH
    right = side.data.batch(slice(row, min(side.data.n, row + BATCH)))[numbers[0] - row]
    if not np.isclose(summed, wanted, rtol=1e-6) or not np.array_equal(found[0], right):
        raise SystemExit(f"{side.name} gives other rows than it was given: {summed} for {wanted}")
    return {"open": opening, "scan": scanning, "gather": gathering}


def of_one(name: str, figures: dict[str, float], unit: str) -> Iterator[Line]:
    for side, figure in figures.items():
        yield Line(f"{name}: {side}", figure, unit)
    for ours in (kind.name for kind in OURS):
        for peer in (kind.name for kind in PEERS if kind.name in figures):
            # Opening plain files is nothing but listing them, and on the disk all of these are as large.
            if ", open" not in name and (unit == "s" or peer == Raw.name):
                yield Line(f"{name}: {ours} over {peer}", figures[ours] / figures[peer], "x")


def all_sizes(args: argparse.Namespace) -> Iterator[Line]:
    if not find_spec("lance"):
        yield left_out("Lance", "`lance` (the package pylance) is not installed")
    for n in [args.rows, *([1_000_000] if args.large else [])]:
        with tempfile.TemporaryDirectory(prefix="deponij-store-", dir=args.folder) as scratch:
            yield from measured(n, args, Path(scratch))


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, default=100_000)
    flags.add_argument("--large", action="store_true", help="10^6 rows as well")
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--only", default="append,scan,gather,open")
    flags.add_argument("--folder", type=Path, help="on which disk; by default the system's for such")
    args = flags.parse_args()
    return report(
        all_sizes(args), args.json, rows=args.rows, rounds=args.rounds, python=sys.version.split()[0]
    )


if __name__ == "__main__":
    raise SystemExit(main())
