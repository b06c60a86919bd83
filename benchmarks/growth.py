"""Memory and time against size: near-duplicates, outliers, k-NN and the evaluation of retrieval.

    python benchmarks/growth.py [--sizes 10000,30000,100000] [--budget 120] [--only count,groups,…] [--json FILE]

Vectors are synthetic, of 768 numbers and length one, with random perceptual hashes; one in a hundred is a copy of
another with a little noise. Each figure is of a process of its own, whose peak of resident memory is the system's
(`VmHWM`); what the vectors themselves and the imports take is in it. A process that has used its budget of seconds
stops; its time is then extrapolated from the share that was done (which grows evenly, or as the triangle of pairs
does), and the line says so. Memory does not wait: all of these reach their peak with the first blocks.

    count      pairs that are alike (`deponij duplicates`, first half), each tile once
    groups     groups of what is alike (second half)
    outliers   the 10 nearest others of each, and of its own class
    knn        fit on 90 %, answer 10 %: at most 20 nearest, one pass
    retrieval  all rank all, average precision and recall

The exponent is of the two largest sizes: time ~ n^exponent. What 10^6 would take is extrapolated by it, memory by a
straight line through the two.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from figures import ROOT, Line, below, parser, report
from numpy.typing import NDArray

if TYPE_CHECKING:
    from deponij.pipeline.likeness.pairs import Likeness

DIM, N_CLASSES, K, MILLION = 768, 50, 10, 1_000_000
PEAK_GB = 4.0


class EnoughError(Exception):
    """The budget is spent."""


@dataclass
class Progress:
    """Told of rows that are done; raises when the budget is spent."""

    n: int
    budget_s: float
    n_done: int = 0
    begun: float = 0.0

    def __call__(self, n_more: int) -> None:
        self.n_done += n_more
        if time.perf_counter() - self.begun > self.budget_s and self.n_done < self.n:
            raise EnoughError


@dataclass(frozen=True)
class Spent:
    """Of one process: seconds of all the work, the share of it that was done, and the peak in bytes."""

    seconds: float
    share: float
    peak_bytes: int


def vectors(n: int) -> NDArray[np.float32]:
    """Around 50 centres, unit length, one in a hundred nearly twice, [n, 768]; made in place."""
    rng = np.random.default_rng(0)
    found = rng.standard_normal((n, DIM), dtype=np.float32)
    centres = rng.standard_normal((N_CLASSES, DIM), dtype=np.float32)
    for start in range(0, n, 4096):
        found[start : start + 4096] += centres[np.arange(start, min(n, start + 4096)) % N_CLASSES]
    copies = rng.choice(np.arange(n // 2, n), n // 100, replace=False)
    found[copies] = found[copies - n // 2] + 0.01 * rng.standard_normal((len(copies), DIM), dtype=np.float32)
    for start in range(0, n, 4096):
        block = found[start : start + 4096]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return found


def _likeness(n: int) -> "Likeness":
    from deponij.pipeline.likeness.pairs import Evidence, Likeness

    rng = np.random.default_rng(1)
    hashes = [f"{word:016x}" for word in rng.integers(0, 2**63, n)]
    return Likeness(Evidence([f"{row:040x}" for row in range(n)], hashes, vectors(n)))


def count(n: int, progress: Progress) -> None:
    from deponij.pipeline.likeness.groups import count_alike

    likeness = _likeness(n)
    progress.begun = time.perf_counter()
    count_alike(likeness, np.ones((n, 1), np.float32), np.arange(n, dtype=np.int32), progress)


def groups(n: int, progress: Progress) -> None:
    from deponij.pipeline.likeness.groups import group_alike

    likeness = _likeness(n)
    progress.begun = time.perf_counter()
    group_alike(likeness, np.arange(n), progress)


def outliers(n: int, progress: Progress) -> None:
    from deponij.pipeline.likeness.outliers import look_around

    rows = np.arange(n, dtype=np.int32)
    units = vectors(n)
    progress.begun = time.perf_counter()
    look_around(units, K, (rows,), rows % N_CLASSES, progress)


def knn(n: int, progress: Progress) -> None:
    from deponij.pipeline.heads.knn import NearestNeighbours

    features, names = vectors(n), np.array([f"class {row % N_CLASSES}" for row in range(n)])
    n_fit = n - progress.n
    progress.begun = time.perf_counter()
    head = NearestNeighbours(ks=(20,)).fit(features[:n_fit], names[:n_fit])
    for start in range(n_fit, n, 1024):
        some = features[start : start + 1024]
        head.decision_function(some)
        progress(len(some))


def retrieval(n: int, progress: Progress) -> None:
    from deponij.pipeline.retrieval.evaluation import Side, judge_rankings

    side = Side(vectors(n), np.arange(n) % N_CLASSES, np.arange(n))
    progress.begun = time.perf_counter()
    judge_rankings(side, side, advance=progress)


# Whether the work shrinks from row to row, each being compared with those after it.
PARTS: dict[str, tuple[Callable[[int, Progress], None], bool]] = {
    "count": (count, True),
    "groups": (groups, True),
    "outliers": (outliers, False),
    "knn": (knn, False),
    "retrieval": (retrieval, False),
}


def measure(part: str, n: int, budget_s: float) -> Spent:
    """In this process."""
    work, is_triangle = PARTS[part]
    progress = Progress(n // 10 if part == "knn" else n, budget_s)
    with suppress(EnoughError):
        work(n, progress)
    done = progress.n_done / progress.n
    share = 1 - (1 - done) ** 2 if is_triangle else done
    return Spent((time.perf_counter() - progress.begun) / share, share, peak_bytes())


def peak_bytes() -> int:
    """The most that was ever resident of this process; of its program alone, not of what it was forked from."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def spent(part: str, n: int, args: argparse.Namespace) -> Spent:
    """In another process."""
    command = [sys.executable, __file__, "--measure", part, "--sizes", str(n), "--budget", str(args.budget)]
    threads = {
        name: str(args.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    }
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **threads}, check=True, capture_output=True, text=True
    )
    return Spent(**json.loads(ended.stdout))


def measured(args: argparse.Namespace) -> Iterator[Line]:
    sizes = [int(one) for one in args.sizes.split(",")]
    for part in args.only.split(","):
        found = []
        for n in sizes:
            one = spent(part, n, args)
            found.append(one)
            how = "" if one.share > 0.999 else f", extrapolated from {one.share:.1%}"
            yield Line(f"{part}, {n:,}: time{how}", one.seconds, "s")
            yield below(f"{part}, {n:,}: peak memory", one.peak_bytes / 1e9, "GB", PEAK_GB)
        if len(sizes) < 2:
            continue
        (before, last), (n_before, n_last) = found[-2:], sizes[-2:]
        exponent = math.log(last.seconds / before.seconds) / math.log(n_last / n_before)
        yield Line(f"{part}: time grows with n to the", exponent)
        slope = (last.peak_bytes - before.peak_bytes) / (n_last - n_before)
        hours = last.seconds * (MILLION / n_last) ** exponent / 3600
        yield Line(f"{part}, {MILLION:,}: time, extrapolated", hours, "h")
        memory = last.peak_bytes + slope * (MILLION - n_last)
        yield Line(f"{part}, {MILLION:,}: peak memory, extrapolated", memory / 1e9, "GB")


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--sizes", default="10000,30000,100000")
    flags.add_argument("--budget", type=float, default=120, help="seconds of work of each process")
    flags.add_argument("--only", default=",".join(PARTS))
    flags.add_argument("--threads", type=int, default=os.cpu_count())
    flags.add_argument("--measure", choices=PARTS, help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.measure is not None:
        sys.path.insert(0, str(ROOT))
        print(json.dumps(asdict(measure(args.measure, int(args.sizes), args.budget))))
        return 0
    return report(measured(args), args.json, threads=args.threads, budget=args.budget)


if __name__ == "__main__":
    raise SystemExit(main())
