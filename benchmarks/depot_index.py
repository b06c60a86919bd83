"""Where rows lie in depots of 10^6 to 10^8 rows: opening, looking up, adding, memory and disk.

    python benchmarks/depot_index.py [--rows 1000000 10000000 100000000] [--folder DIR] [--json FILE] [--no-growth]

What is simulated, and what not. Keys are made up (SHAKE-128 of a shard's number), 1,024 a shard. Up to 10^6 rows every
shard has a real sidecar, and the cache is what opening the depot makes of them. Beyond that the shards' files have their
names and no bytes, and the cache is written by its own bulk path: sorted runs of 2^22 rows, merged into one. Nothing
that is timed reads those files: what is known is listed and never read. What is added is real: a sidecar of 1,024 keys.

Each measurement is a process of its own. Cold: the pages of the cache's files were given back to the system before.
An opening that lists is one after something has changed. Times are the least of several rounds, for the machine may
have other work. Peak memory is the whole process's, of which 45 MiB are Python, NumPy and h5py.

Growth: real depots (HDF5, eight float32 a row) of 10^3 to 10^6 rows; a process opens one, asks which keys are missing,
writes what is, and asks again: first 1 % more rows, then 1,024 more whatever the size. 10 GB are needed below DIR.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from figures import Line, below, parser, report

from deponij.store.depot import FeatureStore
from deponij.store.folders import open_folder
from deponij.store.identity import Identity
from deponij.store.places import catalog
from deponij.store.places.cache import Cache, Known
from deponij.store.places.run_file import FileRun, write_run
from deponij.store.places.runs import Level, MemoryRun, joined
from deponij.store.shard import Shard, Sidecar

SHARD_ROWS = 1024
ROWS = (10**6, 10**7, 10**8)
REAL_ROWS = 10**6
GROWTH = (10**3, 10**4, 10**5, 10**6)
N_LOOKED_UP = 1000
N_ROUNDS = 7
BULK_SHARDS = 4096
MOST_RATIO, MOST_MIB = 2.0, 4096
IDENTITY = Identity(
    backbone="bench:index",
    weights="0" * 64,
    kind="embedding",
    transform='{"crop_px":[224,224],"resize_px":[224,224]}',
    decode="none",
    precision="fp32",
    stored="float32",
)


def key_bytes(number: int) -> bytes:
    """A shard's keys, 20 bytes each."""
    return hashlib.shake_128(b"shard %d" % number).digest(20 * SHARD_ROWS)


def keys_of(number: int) -> list[str]:
    """A shard's keys as text."""
    text = key_bytes(number).hex()
    return [text[start : start + 40] for start in range(0, len(text), 40)]


def made_shard(number: int) -> Shard:
    """A shard as one writer after another could have written it."""
    name = f"{IDENTITY.fingerprint}/bench-host.{4000 + number // 1000}.0a1b2c3d-{number % 1000:06d}"
    return Shard(name, IDENTITY, {"embedding": (768,)}, 3_200_000, f"{number:064x}", SHARD_ROWS)


def made_sidecar(number: int) -> Sidecar:
    """Its sidecar."""
    return Sidecar(
        **vars(made_shard(number)), keys=tuple(keys_of(number)), provenance={"versions": {"torch": "2"}}
    )


def make_depot(depot: Path, n_shards: int, *, is_real: bool) -> None:
    """The files of a depot: real sidecars, or names alone with the cache beside them."""
    FeatureStore(depot, create=True)
    (depot / IDENTITY.fingerprint).mkdir()
    for number in range(n_shards):
        one = made_shard(number)
        (depot / f"{one.name}.h5").touch()
        if is_real:
            (depot / f"{one.name}.json").write_bytes(made_sidecar(number).to_bytes())
        else:
            (depot / f"{one.name}.json").touch()
    if not is_real:
        _write_cache(depot, n_shards)


def _write_cache(depot: Path, n_shards: int) -> None:
    folder = open_folder(depot)
    cache = Cache(catalog.place_of(folder), catalog.marker_of(folder))
    cache.path.mkdir(parents=True)
    levels = []
    for start in range(0, n_shards, BULK_SHARDS):
        numbers = range(start, min(n_shards, start + BULK_SHARDS))
        shards = [made_shard(number) for number in numbers]
        levels.append(_written(cache.path, Level(MemoryRun.of(shards, [key_bytes(n) for n in numbers]))))
    whole = _written(cache.path, *levels)
    known = Known({IDENTITY.fingerprint: IDENTITY}, {IDENTITY.fingerprint: [whole]})
    if cache.publish(known) is None:
        raise SystemExit("the cache cannot be written")


def _written(path: Path, *levels: Level) -> Level:
    shards, pieces = joined(levels)
    n_rows = sum(level.n_rows for level in levels)
    return Level(FileRun(path, write_run(path, IDENTITY.fingerprint, shards, n_rows, pieces), IDENTITY))


def memory_mib() -> dict[str, float]:
    """Of this process: the most it ever had, and what is its own now."""
    with Path("/proc/self/status").open(encoding="utf-8") as file:
        facts = dict(line.split(":", 1) for line in file)
    return {name: int(facts[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon")}


def least(act: Callable[[int], object], n_rounds: int = N_ROUNDS) -> float:
    """Seconds of the fastest of several rounds."""
    times = []
    for number in range(n_rounds):
        start = time.perf_counter()
        act(number)
        times.append(time.perf_counter() - start)
    return min(times)


def measure_open(depot: Path, n_shards: int) -> dict[str, float]:
    """Opening, and the first look-up, of a process that knows nothing yet."""
    known = keys_of(n_shards // 3)[:1]
    start = time.perf_counter()
    store = FeatureStore(depot)
    opened = time.perf_counter()
    if store.missing(IDENTITY, known):
        raise SystemExit(f"{depot} lacks a row")
    looked_up = time.perf_counter()
    again = least(lambda _: FeatureStore(depot))
    return {"open": opened - start, "first": looked_up - opened, "again": again, **memory_mib()}


def measure_use(depot: Path, n_shards: int) -> dict[str, float]:
    """Looking up, adding a shard and seeing one that another process has added."""
    store, rng = FeatureStore(depot), np.random.default_rng(7)
    numbers = rng.integers(0, n_shards, N_LOOKED_UP).tolist()
    known = [keys_of(number)[row % SHARD_ROWS] for row, number in enumerate(numbers)]
    text = rng.bytes(20 * N_LOOKED_UP).hex()
    unknown = [text[start : start + 40] for start in range(0, len(text), 40)]
    found: dict[str, float] = {}
    found["known cold"] = least(lambda _: store.missing(IDENTITY, known), 1)
    found["unknown cold"] = least(lambda _: store.missing(IDENTITY, unknown), 1)
    found["known"] = least(lambda _: store.missing(IDENTITY, known))
    found["unknown"] = least(lambda _: store.missing(IDENTITY, unknown))
    store.places(IDENTITY, known)
    found["placed"] = least(lambda _: store.places(IDENTITY, known))
    if store.missing(IDENTITY, known) or len(store.missing(IDENTITY, unknown)) != N_LOOKED_UP:
        raise SystemExit(f"{depot} is not what it was made to be")
    new = [made_sidecar(n_shards + number) for number in range(2 * N_ROUNDS)]
    for one in new:
        # Whoever adds rows has asked before whether they are there.
        store.missing(IDENTITY, one.keys)

    def add(number: int) -> None:
        store.add_sidecar(new[number])
        if store.missing(IDENTITY, new[number].keys):
            raise SystemExit("an added row is missing")

    found["add"] = least(add)
    reader = FeatureStore(depot)

    def see(number: int) -> None:
        reader.refresh()
        if reader.missing(IDENTITY, new[N_ROUNDS + number].keys):
            raise SystemExit("a committed row is missing")

    times = []
    for number in range(N_ROUNDS):
        # As another process commits it.
        one = new[N_ROUNDS + number]
        (depot / f"{one.name}.h5").touch()
        reader.folder.write(f"{one.name}.json", one.to_bytes())
        start = time.perf_counter()
        see(number)
        times.append(time.perf_counter() - start)
    found["see"] = min(times)
    found["sweep"] = least(lambda _: reader.sweep(), 3)
    return {**found, **memory_mib()}


def grow(depot: Path, n_before: int, n_new: int) -> dict[str, float]:
    """Open a depot, see what is missing, write it, see that nothing is."""
    first, rows = n_before // SHARD_ROWS, []
    for number in range(first, (n_before + n_new) // SHARD_ROWS + 1):
        rows += keys_of(number)
    keys = rows[n_before - first * SHARD_ROWS :][:n_new]
    vectors = np.random.default_rng(0).standard_normal((n_new, 8), np.float32)
    start = time.perf_counter()
    store = FeatureStore(depot, create=True)
    missing = store.missing(IDENTITY, keys)
    with store.writer(IDENTITY, {}) as writer:
        for begin in range(0, len(missing), SHARD_ROWS):
            some = slice(begin, begin + SHARD_ROWS)
            writer.add(missing[some], {"embedding": vectors[some]})
    if len(missing) != n_new or store.missing(IDENTITY, keys):
        raise SystemExit(f"{depot} did not grow as it should")
    return {"seconds": time.perf_counter() - start, **memory_mib()}


def elsewhere(folder: Path, what: str, *numbers: int) -> dict[str, float]:
    """A measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, *map(str, numbers), "--folder", str(folder)]
    environment = {**os.environ, "DEPONIJ_CACHE": str(folder / "cache")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def evict(folder: Path) -> None:
    """Give the pages of a folder's files back to the system."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def of_size(folder: Path, n_rows: int) -> Iterator[tuple[str, float, str]]:
    """All figures of one size; (name, value, unit)."""
    n_shards = -(-n_rows // SHARD_ROWS)
    made = elsewhere(folder, "make", n_shards, int(n_rows <= REAL_ROWS))
    yield "made in", made["seconds"], "s"
    yield "memory at that", made["VmHWM"], "MiB"
    if n_rows <= REAL_ROWS:
        first = elsewhere(folder, "open", n_shards)
        yield "opened for the first time: all sidecars read", first["open"], "s"
        yield "memory at that opening", first["VmHWM"], "MiB"
    # Until the folder's time is old enough to be trusted.
    time.sleep(catalog.TRUSTED_AGE_S + 1)
    listed = elsewhere(folder, "open", n_shards)
    yield "opened with a listing", 1e3 * listed["open"], "ms"
    colds = []
    for _ in range(N_ROUNDS):
        evict(folder / "cache")
        colds.append(elsewhere(folder, "open", n_shards))
    cold = {name: min(one[name] for one in colds) for name in colds[0]}
    yield "opened, cold", 1e3 * cold["open"], "ms"
    yield "first look-up after that", 1e3 * cold["first"], "ms"
    yield "opened, warm", 1e3 * cold["again"], "ms"
    yield "memory after opening", cold["VmHWM"], "MiB"
    files = [path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file()]
    yield "cache on disk", sum(files) / 1e6, "MB"
    evict(folder / "cache")
    used = elsewhere(folder, "use", n_shards)
    yield "1,000 known keys looked up, cold", 1e3 * used["known cold"], "ms"
    yield "1,000 unknown keys looked up, cold", 1e3 * used["unknown cold"], "ms"
    yield "1,000 known keys looked up", 1e3 * used["known"], "ms"
    yield "1,000 unknown keys looked up", 1e3 * used["unknown"], "ms"
    yield "1,000 known keys, with what to know to read them", 1e3 * used["placed"], "ms"
    yield "a shard added and looked up", 1e3 * used["add"], "ms"
    yield "another process's shard seen: a listing", 1e3 * used["see"], "ms"
    yield "a writer's sweep: a listing", 1e3 * used["sweep"], "ms"
    yield "peak memory", used["VmHWM"], "MiB"
    yield "of it the process's own", used["RssAnon"], "MiB"


LIMITED = (
    "opened, cold",
    "opened, warm",
    "first look-up after that",
    "1,000 known keys looked up, cold",
    "1,000 unknown keys looked up, cold",
    "1,000 known keys looked up",
    "1,000 unknown keys looked up",
    "1,000 known keys, with what to know to read them",
    "a shard added and looked up",
)


def sizes(root: Path, rows: list[int]) -> Iterator[Line]:
    """All sizes, and the largest against the smallest."""
    figures: dict[int, dict[str, float]] = {}
    for n_rows in rows:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            for name, value, unit in of_size(Path(folder), n_rows):
                figures.setdefault(n_rows, {})[name] = value
                line = f"{n_rows:.0e}: {name}"
                yield below(line, value, unit, MOST_MIB) if name == "peak memory" else Line(line, value, unit)
    if len(rows) > 1:
        few, many = figures[min(rows)], figures[max(rows)]
        for name in LIMITED:
            yield below(f"{max(rows):.0e} / {min(rows):.0e}: {name}", many[name] / few[name], "", MOST_RATIO)


def growth(root: Path) -> Iterator[Line]:
    """Adding to stores of several sizes."""
    fixed = {}
    for n_rows in GROWTH:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            elsewhere(Path(folder), "grow", 0, n_rows)
            elsewhere(Path(folder), "grow", n_rows, SHARD_ROWS)
            n_there = n_rows + SHARD_ROWS
            found = elsewhere(Path(folder), "grow", n_there, n_rows // 100)
            n_there += n_rows // 100
            yield Line(f"{n_rows:.0e}: 1 % more rows", 1e3 * found["seconds"], "ms")
            yield Line(f"{n_rows:.0e}: 1 % more, each row", 1e6 * found["seconds"] / (n_rows // 100), "us")
            times = [
                elsewhere(Path(folder), "grow", n_there + n * SHARD_ROWS, SHARD_ROWS)["seconds"]
                for n in range(5)
            ]
            fixed[n_rows] = min(times)
            yield Line(f"{n_rows:.0e}: 1,024 more rows", 1e3 * fixed[n_rows], "ms")
    ratio = fixed[max(GROWTH)] / fixed[min(GROWTH)]
    yield below(f"{max(GROWTH):.0e} / {min(GROWTH):.0e}: 1,024 more rows", ratio, "", MOST_RATIO)


def measured(folder: Path, what: str, numbers: list[int]) -> dict[str, float]:
    """One measurement, in this process."""
    depot = folder / "depot"
    if what == "make":
        start = time.perf_counter()
        make_depot(depot, numbers[0], is_real=bool(numbers[1]))
        return {"seconds": time.perf_counter() - start, **memory_mib()}
    if what == "open":
        return measure_open(depot, numbers[0])
    return measure_use(depot, numbers[0]) if what == "use" else grow(depot, *numbers)


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    flags.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="with 10 GB to spare")
    flags.add_argument("--no-growth", action="store_true", help="leave out adding to real depots")
    flags.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.measure:
        what, *numbers = options.measure
        print(json.dumps(measured(options.folder, what, [int(number) for number in numbers])))
        return 0

    def lines() -> Iterator[Line]:
        yield from sizes(options.folder, options.rows)
        if not options.no_growth:
            yield from growth(options.folder)

    return report(lines(), options.json, shard_rows=SHARD_ROWS)


if __name__ == "__main__":
    raise SystemExit(main())
