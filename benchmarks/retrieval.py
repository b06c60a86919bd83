"""Searching an index against raw FAISS calls on the same vectors and threads, and the limits that must hold.

    python benchmarks/retrieval.py [--quick] [--threads 2] [--json FILE] [--only PART …]

Parts: `exact` (filter, search and join of metadata for 10 results, and 2,000 results joined, at 100k x 768),
`approximate` (recall@10 and time at 1M x 256, clustered), `opening` (an index of 4 GB), `cold` (the command's start,
with words that are stored and words that are not). `--quick` does all of it with small numbers, to see that it runs;
its figures mean nothing. Exit status 1 where a limit is missed (never with --quick).
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from figures import ROOT, Line, below, deponij, indexed, of_part, parser, reaching, report, timed

from deponij.pipeline.retrieval.choosing import K, build_chosen
from deponij.pipeline.retrieval.vector_index import VectorIndex, set_threads
from deponij.pipeline.unit_vectors import unit
from deponij.project.indexes import Index
from deponij.store.identity import Identity
from deponij.store.index_folder import ROW, write_index

IDENTITY = Identity("bench:none", "0" * 64, "embedding", "none", "none", "fp32", "float32")
SHARES = (None, 0.5, 0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    exact: tuple[int, int] = (100_000, 768)
    approximate: tuple[int, int] = (1_000_000, 256)
    opened_bytes: int = 4 << 30
    n_joined: int = 2000
    n_queries: int = 100


QUICK = Sizes((5_000, 64), (20_000, 32), 64 << 20, 500, 20)


def clustered(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around a thousand centres whose sizes fall off, float32 [n, d]."""
    rng = np.random.default_rng(seed)
    n_centres = min(1000, max(10, n // 50))
    centres = rng.normal(size=(n_centres, d)).astype(np.float32)
    shares = 1 / np.arange(1, n_centres + 1)
    codes = rng.choice(n_centres, size=n, p=shares / shares.sum())
    found = np.empty((n, d), np.float32)
    for start in range(0, n, 100_000):
        part = codes[start : start + 100_000]
        noise = rng.standard_normal((len(part), d), dtype=np.float32)
        found[start : start + len(part)] = centres[part] + noise
    return unit(found)


def metadata(n: int, seed: int = 0) -> pa.Table:
    """What items usually carry."""
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            ROW: np.arange(n, dtype=np.int64),
            "item_id": [f"batch_{i // 500}/{i:06}.jpg#{i % 7}" for i in range(n)],
            "key": [f"{i:040x}" for i in range(n)],
            "image_id": [f"batch_{i // 500}/{i:06}.jpg" for i in range(n)],
            "width_px": rng.integers(20, 900, n).astype(np.int32),
            "height_px": rng.integers(20, 900, n).astype(np.int32),
            "phash": [f"{value:016x}" for value in rng.integers(0, 2**62, n)],
            "label": np.array([f"class {i}" for i in range(60)])[rng.integers(0, 60, n)],
            "area": rng.random(n).astype(np.float32),
            "draw": rng.random(n),
        }
    )


def written(folder: Path, index: VectorIndex, rows: pa.Table) -> Path:
    """An index of these on disk."""
    write_index(
        folder,
        index.save,
        rows,
        identity=IDENTITY,
        backbone="bench",
        kind=index.kind.name,
        settings=index.settings,
        effort=dict(index.effort),
        n_rows=index.n_rows,
        n_items=rows.num_rows,
        dim=index.dim,
        params={},
        report={},
    )
    return folder


def median_ms(call: Callable[[int], Any], n: int) -> float:
    """Of n calls, after three to warm up."""
    for i in range(3):
        call(i)
    return 1000 * statistics.median(timed(call, i)[0] for i in range(n))


def exact(sizes: Sizes, folder: Path) -> Iterator[Line]:
    """End to end against one raw FAISS call for each query; the filters are new to the index every time."""
    n, d = sizes.exact
    queries = clustered(sizes.n_queries + 3, d, seed=1)
    path = written(folder / "exact", VectorIndex.build(clustered(n, d)), metadata(n))
    index = Index.open(path)
    flat = index.vector_index.index
    raw_ms = median_ms(lambda i: flat.search(queries[i : i + 1], K), sizes.n_queries)
    yield Line(f"raw FAISS, {n:,} x {d}", raw_ms, "ms")
    limit_ms = 1.3 * raw_ms + 2
    index.search(queries[0], K, where="draw < 2")
    for share in SHARES:

        def ask(i: int, share: float | None = share) -> None:
            # Another text each time, or a kept answer would be measured.
            index.search(queries[i], K, where=None if share is None else f"draw < {share} AND {i} = {i}")

        name = "no filter" if share is None else f"filter lets {share:.1%} through"
        took_ms = median_ms(ask, sizes.n_queries)
        yield replace(
            below(f"search and join of {K}, {name}", took_ms, "ms", limit_ms), limit=f"< {limit_ms:.1f}"
        )
    many = sizes.n_joined
    raw_many_ms = median_ms(lambda i: flat.search(queries[i : i + 1], many), sizes.n_queries // 5)
    took_ms = median_ms(lambda i: index.search(queries[i], many), sizes.n_queries // 5)
    yield below(f"{many:,} results end to end", took_ms, "ms", 50)
    yield Line("of which join", took_ms - raw_many_ms, "ms")


def approximate(sizes: Sizes, folder: Path) -> Iterator[Line]:
    """What `auto` chooses past its exact range, against exact search of the same vectors."""
    n, d = sizes.approximate
    seconds, built = timed(
        lambda: build_chosen(clustered(n, d), exact_up_to=0, n_queries=min(1000, n // 20), say=say)
    )
    yield Line(f"built and measured, {n:,} x {d}", seconds, "s")
    chosen = next(one for one in built.measured if one.chosen)
    for one in built.measured:
        effort = " ".join(f"{name} {value}" for name, value in one.effort.items())
        yield reaching(f"{one.kind} {effort}: recall@10", one.recall, "", 0.95 if one.chosen else None)
        yield Line(f"{one.kind} {effort}: p50", one.p50_ms, "ms")
    flat = VectorIndex.build(built.index.vectors(np.arange(n)))
    queries = clustered(sizes.n_queries + 3, d, seed=1)
    exact_ms = median_ms(lambda i: flat.index.search(queries[i : i + 1], K), min(50, sizes.n_queries))
    took_ms = median_ms(lambda i: built.index.search(queries[i : i + 1], K), sizes.n_queries)
    yield Line("exact, raw FAISS", exact_ms, "ms")
    yield below(f"{chosen.kind}, end to end", took_ms, "ms", exact_ms / 10)


def opening(sizes: Sizes, folder: Path) -> Iterator[Line]:
    """Another process opens an index and searches it once; what it then holds beside the page cache."""
    d = 768
    n = sizes.opened_bytes // (4 * d)
    path = written(folder / "opening", VectorIndex.build(np.ones((n, d), np.float32)), metadata(n))
    code = (
        "import sys, time, psutil; sys.path.insert(0, sys.argv[2]);"
        "from deponij.project.indexes import Index; import faiss;"
        "before = psutil.Process().memory_full_info().uss;"
        "begin = time.perf_counter(); index = Index.open(sys.argv[1]); took = time.perf_counter() - begin;"
        "print(took, psutil.Process().memory_full_info().uss - before)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path), str(ROOT)], capture_output=True, text=True, check=True
    )
    took_s, held_bytes = map(float, found.stdout.split())
    yield below(f"opening {sizes.opened_bytes / 2**30:.2f} GiB", took_s, "s", 0.2)
    yield below("memory that opening takes", held_bytes / 2**20, "MiB", 64)


def cold(sizes: Sizes, folder: Path) -> Iterator[Line]:
    """`deponij query text` of a mini backbone over a few drawn pictures."""
    asked = ("--index", indexed(folder, 20), "--json")
    yield below(
        "query text, from a cold start", deponij(folder, "query", "text", "a crushed can", *asked), "s", 15
    )
    stored_s = min(deponij(folder, "query", "text", "class1", *asked) for _ in range(3))
    yield below("query text that is stored", stored_s, "s", 1.5)


PARTS: dict[str, Callable[[Sizes, Path], Iterator[Line]]] = {
    "exact": exact,
    "approximate": approximate,
    "opening": opening,
    "cold": cold,
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measured(parts: list[str], sizes: Sizes) -> Iterator[Line]:
    """All figures of the parts, each in a folder that is gone afterwards."""
    for part in parts:
        with tempfile.TemporaryDirectory(prefix="deponij-bench-") as folder:
            yield from of_part(PARTS[part](sizes, Path(folder)), part)


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--quick", action="store_true")
    flags.add_argument("--threads", type=int, default=2)
    flags.add_argument("--only", nargs="*", choices=sorted(PARTS), default=list(PARTS))
    chosen = flags.parse_args()
    set_threads(chosen.threads)
    lines = measured(chosen.only, QUICK if chosen.quick else Sizes())
    missed = report(lines, chosen.json, threads=chosen.threads, quick=chosen.quick)
    return 0 if chosen.quick else missed


if __name__ == "__main__":
    raise SystemExit(main())
