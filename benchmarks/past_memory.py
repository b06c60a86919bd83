"""Heads and tables of more rows than memory holds: what they keep in it, and how long they take.

    python benchmarks/past_memory.py [--rows 100000,1000000] [--dim 768] [--only linear,knn] [--memory 2] [--folder DIR]

The view is made up, float16, of 20 classes whose rows lie around their means; its items have keys and no pictures, and
eight in ten of them are learned from. k-NN compares all with all, so that it gets a split of 20,000 to learn from and 2,000
to answer. Fits are short, since what is measured is memory: one penalty and 20 steps, or one learning rate and two epochs
of batches of 256.

Each figure is of a process of its own: `deponij fit`, and for tables the stage's own function with one seed and two
epochs. Memory is the most of `RssAnon` in `/proc`, sampled: what nothing but swap can take from a process; pages of files,
those of large arrays too, go when others need the room. The first line of a head is with `DEPONIJ_MEMORY_GIB` as given,
as if no more were available, the second as if memory had no end; that is left out above `--most` rows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from figures import ROOT, Line, below, parser, report

from deponij.project.tables.plan import Inputs, TablesParams
from deponij.stages import tables
from deponij.store import scratch
from deponij.store.atomic import write_table
from deponij.store.identity import Identity
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_text
from deponij.store.shard import row_checksums
from deponij.store.view import write_view

N_CLASSES, N_NEIGHBOURS, N_ANSWERED = 20, 20_000, 2_000
# Of 10^6 rows most of it is ids, labels and answers, which are held.
PEAK_GIB = 3.0
HEADS: dict[str, tuple[str, ...]] = {
    "linear": ("epochs=2", "batch=256"),
    "mlp": ("epochs=2", "batch=256"),
    "logistic": ("cs=[0.01]", "max_iter=20"),
    "centroid": (),
    "knn": (),
}
TABLES = "tables"


@dataclass(frozen=True)
class World:
    """Where everything lies."""

    folder: Path

    @property
    def view(self) -> Path:
        return self.folder / "view.h5"

    @property
    def items(self) -> Path:
        return self.folder / "items"

    def split(self, head: str) -> Path:
        return self.folder / ("few.parquet" if head == "knn" else "all.parquet")


def make(world: World, n: int, dim: int) -> None:
    """A view, its items, and two splits."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, N_CLASSES, n)
    means = rng.standard_normal((N_CLASSES, dim), dtype=np.float32) / 4
    rows = scratch.scratch((n, dim), np.float16)
    for start in range(0, n, 4096):
        some = codes[start : start + 4096]
        rows[start : start + 4096] = means[some] + rng.standard_normal((len(some), dim), dtype=np.float32)
    ids = [f"folder-{row % 997:03d}/{row:09d}.jpg" for row in range(n)]
    keys = [key_of_text(one) for one in ids]
    arrays = {"embedding": rows}
    write_view(
        world.view,
        identity=Identity("made:up", "0" * 64, "embedding", "none", "pillow:full", "fp32", "float16"),
        backbone="made-up",
        ids=ids,
        keys=keys,
        checksums=row_checksums(arrays, n),
        arrays=arrays,
    )
    with ItemWriter(world.items, pa.schema([("label", pa.string())])) as writer:
        for item_id, key, code in zip(ids, keys, codes.tolist(), strict=True):
            label = {"label": f"class {code}"}
            writer.add(content=None, item_id=item_id, key=key, image_id=item_id, metadata=label)
    parts = np.array(["train"] * 8 + ["val", "test"])[np.arange(n) % 10].tolist()
    write_table(world.split("all"), pa.table({"item_id": ids, "part": parts}))
    n_few = min(N_NEIGHBOURS, n - N_ANSWERED)
    few = ["train"] * n_few + ["test"] * N_ANSWERED
    write_table(world.split("knn"), pa.table({"item_id": ids[: len(few)], "part": few}))


def command(world: World, head: str) -> list[str]:
    """What is measured."""
    if head == TABLES:
        return [sys.executable, __file__, "--tables", str(world.folder)]
    inputs = ["--features", world.view, "--items", world.items, "--split", world.split(head)]
    settings = [word for one in HEADS[head] for word in ("--set", one)]
    out = ["--labels", "label", "--out", world.folder / "results" / head]
    return [
        sys.executable,
        str(ROOT / "cli.py"),
        "fit",
        "--head",
        head,
        *map(str, (*inputs, *settings, *out)),
    ]


def all_tables(world: World) -> None:
    """In this process."""
    inputs = Inputs((world.view,), (), world.items, (world.split(TABLES),), ("label",))
    out = world.folder / "results" / TABLES
    tables.run(
        TablesParams(seeds=1, candidates=(1e-3,), epochs=2, batch=256),
        inputs,
        out=out,
        results=out / "results",
    )


def spent(words: Sequence[str], folder: Path, memory_gib: float) -> tuple[float, float]:
    """Seconds, and the most GiB of its own that a process had."""
    environment = {**os.environ, scratch.MEMORY: str(memory_gib), "PYTHONPATH": str(ROOT)}
    begun, peak_kb = time.perf_counter(), 0
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=told, stderr=told)
        while process.poll() is None:
            peak_kb = max(peak_kb, anonymous_kb(process.pid))
            time.sleep(0.01)
        if process.returncode:
            told.seek(0)
            raise SystemExit(f"{' '.join(words)}: {told.read().decode()[-2000:]}")
    return time.perf_counter() - begun, peak_kb / 2**20


def anonymous_kb(pid: int) -> int:
    """Of a process now; 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.split("RssAnon:")[1].split()[0]) if "RssAnon:" in status else 0


def measured(args: argparse.Namespace) -> Iterator[Line]:
    for n in map(int, args.rows.split(",")):
        with tempfile.TemporaryDirectory(dir=args.folder, prefix="deponij-bench-") as folder:
            world = World(Path(folder))
            make(world, n, args.dim)
            for head in args.only.split(","):
                name = f"{head}, {n:,} x {args.dim}"
                seconds, peak = spent(command(world, head), world.folder, args.memory)
                yield below(f"{name}: memory of its own", peak, "GiB", PEAK_GIB)
                yield Line(f"{name}: time", seconds, "s")
                if n <= args.most:
                    seconds, peak = spent(command(world, head), world.folder, 1e6)
                    yield Line(f"{name}, all in memory: memory of its own", peak, "GiB")
                    yield Line(f"{name}, all in memory: time", seconds, "s")


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--rows", default="1000000")
    flags.add_argument("--dim", type=int, default=768)
    flags.add_argument("--only", default=",".join([*HEADS, TABLES]))
    flags.add_argument("--memory", type=float, default=2, help="GiB that are said to be available")
    flags.add_argument(
        "--most", type=int, default=100_000, help="rows up to which memory is tried without end, too"
    )
    flags.add_argument("--folder", type=Path, default=scratch.folder(), help="with some GB to spare")
    flags.add_argument("--tables", type=Path, help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.tables is not None:
        all_tables(World(args.tables))
        return 0
    return report(measured(args), args.json, memory=args.memory)


if __name__ == "__main__":
    raise SystemExit(main())
