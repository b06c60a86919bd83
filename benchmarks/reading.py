"""Reading maps out of the depot against a raw sequential read of the same files.

    python benchmarks/reading.py [--pictures 240] [--rounds 5] [--folder DIR]

Maps of noise of the sizes that a ConvNeXt-B and an EfficientNet-Lite0 have at 360 x 480 px, strides 4 to 32, float16, in a
depot below DIR. In turns, in one process: the shards' files read from begin to end into one buffer; all pictures in the
order of the depot, in batches of 8, every checksum tested, read ahead as learning does; the same shuffled; windows of
7 x 7 cells of the coarsest level (224 x 224 px), shuffled. Cold: the files' pages were given back to the system before
(POSIX_FADV_DONTNEED). Each figure is the median of the rounds; a ratio is that of a cold read to the raw cold read of its
own round, so that what else the machine does weighs on both.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from figures import Line, parser, reaching, report

from deponij.project.frame.allocator import keep_pages
from deponij.store.depot import FeatureStore
from deponij.store.identity import Identity
from deponij.store.keys import key_of_text
from deponij.store.reading import MapReader, Wanted, Window
from deponij.store.view import View, write_view

LEAST_RATIO = 0.7
BATCH = 8
WINDOW_CELLS = 7
Shapes = dict[str, tuple[int, int, int]]
TOWERS: dict[str, Shapes] = {
    "ConvNeXt-B": {
        "stride4": (128, 90, 120),
        "stride8": (256, 45, 60),
        "stride16": (512, 22, 30),
        "stride32": (640, 11, 15),
    },
    "EfficientNet-Lite0": {
        "stride4": (24, 90, 120),
        "stride8": (40, 45, 60),
        "stride16": (112, 23, 30),
        "stride32": (320, 12, 15),
    },
}
_BLOCK_BYTES = 8 << 20


def filled(folder: Path, name: str, shapes: Shapes, n: int) -> MapReader:
    """A depot with n pictures' maps, and a reader of all of them."""
    identity = Identity(
        backbone=f"bench:{name}",
        weights="0" * 64,
        kind="pyramid@4",
        transform='{"crop_px":null,"resize_px":[360,480]}',
        decode="none",
        precision="fp32",
        stored="float16",
    )
    store = FeatureStore(folder / name, create=True)
    rng = np.random.default_rng(0)
    keys = [key_of_text(str(number)) for number in range(n)]
    drawn = {one: rng.standard_normal((BATCH, *shape), np.float32) for one, shape in shapes.items()}
    with store.writer(identity, {}) as writer:
        for start in range(0, n, BATCH):
            part = keys[start : start + BATCH]
            scaled = {one: values[: len(part)] * (1 + start / n) for one, values in drawn.items()}
            writer.add(part, {one: values.astype(np.float16) for one, values in scaled.items()})
    path = folder / f"{name}.h5"
    checksums = store.read(keys, identity, ["checksums"])["checksums"]
    ids = [str(number) for number in range(n)]
    write_view(path, identity=identity, backbone=name, ids=ids, keys=keys, checksums=checksums, arrays={})
    return MapReader(View(path, depot=FeatureStore(folder / name)))


def evict(files: Sequence[Path]) -> None:
    """Give their pages back to the system, so that the next read is the disk's."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_raw(files: Sequence[Path]) -> int:
    """All bytes of the files, from begin to end; how many."""
    block, n_bytes = bytearray(_BLOCK_BYTES), 0
    for path in files:
        with path.open("rb", buffering=0) as file:
            while n_read := file.readinto(block):
                n_bytes += n_read
    return n_bytes


def read_maps(reader: MapReader, wanted: Sequence[Wanted]) -> int:
    """All batches, read ahead; how many bytes they had."""
    return sum(values.nbytes for batch in reader.batches(wanted) for values in batch.values())


def plans(reader: MapReader, seed: int) -> dict[str, list[Wanted]]:
    """What is read, by name."""
    rng = np.random.default_rng(seed)
    ids = reader.view.ids.tolist()
    shuffled = rng.permutation(ids).tolist()
    height, width = reader.whole_cells

    def window() -> Window:
        return Window(
            int(rng.integers(height - WINDOW_CELLS + 1)),
            int(rng.integers(width - WINDOW_CELLS + 1)),
            WINDOW_CELLS,
            WINDOW_CELLS,
        )

    def batches(order: list[str], *, windows: bool = False) -> list[Wanted]:
        parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        return [(part, [window() for _ in part] if windows else None) for part in parts]

    return {
        "pyramids in order": batches(ids),
        "pyramids shuffled": batches(shuffled),
        "windows shuffled": batches(shuffled, windows=True),
    }


def measured(name: str, reader: MapReader, n_rounds: int) -> Iterator[Line]:
    """Figures of one tower."""
    depot = reader.view.depot
    assert depot is not None and depot.local_path is not None
    files = sorted(depot.local_path.glob("*/*.h5"))
    rates: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    n_pictures = len(reader)
    for number in range(n_rounds):
        for what, wanted in plans(reader, number).items():
            evict(files)
            raw_cold = _rate(lambda: read_raw(files))
            raw_warm = _rate(lambda: read_raw(files))
            evict(files)
            cold = _rate(lambda wanted=wanted: read_maps(reader, wanted))
            warm = _rate(lambda wanted=wanted: read_maps(reader, wanted))
            for key, value in (
                ("raw, cold", raw_cold),
                ("raw, warm", raw_warm),
                (f"{what}, cold", cold),
                (f"{what}, warm", warm),
            ):
                rates.setdefault(key, []).append(value)
            ratios.setdefault(what, []).append(cold / raw_cold)
    yield Line(f"{name}: a picture", sum(v.nbytes for v in reader.read(["0"]).values()) / 1e6, "MB")
    yield Line(f"{name}: pictures", n_pictures)
    for key, values in rates.items():
        yield Line(f"{name}: {key}", statistics.median(values) / 1e9, "GB/s")
    for what, values in ratios.items():
        limit = LEAST_RATIO if what == "pyramids in order" else None
        yield reaching(f"{name}: {what} over raw, cold", statistics.median(values), "", limit)


def _rate(read: Callable[[], int]) -> float:
    """Bytes per second."""
    start = time.perf_counter()
    n_bytes = read()
    return n_bytes / (time.perf_counter() - start)


def all_towers(args: argparse.Namespace) -> Iterator[Line]:
    """Figures of each tower."""
    with tempfile.TemporaryDirectory(prefix="deponij-bench-", dir=args.folder) as folder:
        for name, shapes in TOWERS.items():
            yield from measured(name, filled(Path(folder), name, shapes, args.pictures), args.rounds)


def main() -> int:
    keep_pages()
    flags = parser(__doc__)
    flags.add_argument("--pictures", type=int, default=240)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument(
        "--folder", type=Path, help="where the depot is made; by default the system's for such"
    )
    args = flags.parse_args()
    return report(all_towers(args), args.json, pictures=args.pictures, rounds=args.rounds)


if __name__ == "__main__":
    raise SystemExit(main())
