"""One small world and a command for each kind of work, what an undisturbed run leaves, and how any other is held against it.

A job runs in a folder of its own that holds copies of what it needs. Everything it leaves there is compared byte for byte;
of a depot the rows are, since shards are named after who wrote them. Who disturbs jobs is no matter of this module.
"""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cli_world
import street_world
import tiny_models
from fork_server import Outcome, Server
from PIL import Image

from deponij.store.bundle import MANIFEST
from deponij.store.depot import FORMAT_FILE, FeatureStore
from deponij.store.sealed import CHECKSUM, sealed, unsealed

N_PER_CLASS, N_OF_LIGHT = 30, 8
LEARN = ("--features", "view.h5", "--items", "items", "--split", "split.parquet", "--labels", "label")


@dataclass(frozen=True)
class Job:
    """A command of one kind of work.

    Attributes:
        argv: of `deponij`, with paths relative to the folder it runs in.
        needs: of the world, copied into that folder.
        status: with which it ends undisturbed (3: some pictures cannot be read).
        depot: the depot it writes to, by name in the folder.
        takes_away: it is meant to remove rows, so that rows may go before it has ended.
    """

    name: str
    argv: tuple[str, ...]
    needs: tuple[str, ...]
    status: int = 0
    depot: str | None = None
    takes_away: bool = False


def _extract(kind: str, view: str) -> tuple[str, ...]:
    made = ("extract", "--items", "items", "--backbone", "words", "--out", view, "--kind", kind)
    return (*made, "--depot", "depot", "--batch-size", "4", "--workers", "2", "--threads", "1", "--json")


_TUNE = (
    "--backbone",
    "base",
    "--depot",
    "depot",
    "--epochs",
    "2",
    "--batch",
    "8",
    "--lr",
    "0.01",
    "--out",
    "tuned",
)
_DECODE = (
    "--scenes",
    "street/scenes",
    "--maps",
    "street/maps.h5",
    "--depot",
    "street/depot",
    "--threads",
    "1",
)
JOBS = (
    Job("items", ("items", "--folder", "pictures", "--out", "items"), ("pictures",), status=3),
    Job("extract", _extract("embedding", "view.h5"), ("items", "words"), status=3, depot="depot"),
    Job("extract maps", _extract("pyramid@2+flip", "maps.h5"), ("items", "words"), status=3, depot="depot"),
    Job(
        "extract text",
        (
            "extract-text",
            "--backbone",
            "words",
            "--out",
            "texts.h5",
            "--texts",
            "texts.txt",
            "--depot",
            "depot",
        ),
        ("words", "texts.txt"),
        depot="depot",
    ),
    Job(
        "index",
        ("index", "--features", "view.h5", "--items", "items", "--out", "index"),
        ("view.h5", "items"),
    ),
    Job(
        "learning",
        ("fit", "--head", "mlp", *LEARN, "--set", "epochs=10", "--out", "results"),
        ("view.h5", "items", "split.parquet"),
    ),
    Job("tuning", ("tune", *LEARN[2:], *_TUNE), ("items", "split.parquet", "base"), depot="depot"),
    Job("decoders", ("fit-decoder", *_DECODE, "--epochs", "3", "--out", "decoder"), ("street",)),
    Job("compact", ("depot", "compact", "small"), ("small",), depot="small"),
    Job("merge", ("depot", "merge", "other", "small"), ("small", "other"), depot="small"),
    Job(
        "gc",
        ("depot", "gc", "small", "--keep-view", "fewer.h5", "--delete"),
        ("small", "fewer.h5"),
        depot="small",
        takes_away=True,
    ),
    Job("migrate", ("depot", "migrate", "older"), ("older",), depot="older"),
)
BY_NAME: Mapping[str, Job] = {job.name: job for job in JOBS}
# Records that say how long something took, which is never twice the same.
TIMED = {"segmentation_result.json", "tuned.json"}
Dump = dict[str, dict[str, bytes]]


def make(root: Path, server: Server, *, is_light: bool = False) -> Path:
    """All that jobs need, in one folder; a light one is without what tuning and decoders take.

    pictures/ items/ split.parquet   three classes; one picture is cut off in the middle
    words/ base/                     the made-up family, and a tiny DINOv2 for tuning
    view.h5 small/ other/ older/     features; depots of many small shards: all, other rows, and of format 1
    fewer.h5                         a view of every second item
    street/                          scenes with stored maps
    """
    root.mkdir()
    (root / "cache").mkdir()
    for number, (name, colour) in enumerate(cli_world.COLOURS.items()):
        (root / "pictures" / name).mkdir(parents=True)
        for one in range(N_OF_LIGHT if is_light else N_PER_CLASS):
            cli_world.picture(colour, 100 * number + one).save(root / "pictures" / name / f"{one:02}.png")
    content = (root / "pictures/cup/00.png").read_bytes()
    (root / "pictures" / cli_world.TRUNCATED).write_bytes(content[: len(content) // 2])
    cli_world.fake_backbone.make(root / "words", seed=1)
    if not is_light:
        tiny_models.dinov2(root / "base")
        street_world.make(root / "street")
    (root / "texts.txt").write_text("".join(f"a picture of thing {one}\n" for one in range(40)))
    split = ("split", "--items", "items", "--out", "split.parquet", "--strategy", "random")
    _done(server, root, BY_NAME["items"].argv, 3)
    _done(server, root, split, 0)
    _done(server, root, _extract("embedding", "view.h5"), 3)
    (root / "depot").rename(root / "small")
    _half(root, server)
    shutil.copytree(root / "small", root / "older")
    make_older(root / "older")
    shutil.rmtree(root / "cache")
    return root


def _half(root: Path, server: Server) -> None:
    """`fewer.h5` of every second picture and some new ones, and `other/` with the rows of both."""
    place = root / "half"
    for number, path in enumerate(sorted((root / "pictures").glob("*/*.png"))):
        copy = place / "pictures" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if number % 2 and path.name != Path(cli_world.TRUNCATED).name:
            shutil.copy(path, copy)
    for number in range(20):
        Image.new("RGB", (20, 20), (5 * number, 90, 200)).save(place / f"pictures/can/new{number}.png")
    shutil.copytree(root / "words", place / "words")
    _done(server, place, BY_NAME["items"].argv, 0)
    _done(server, place, _extract("embedding", "view.h5"), 0)
    (place / "view.h5").rename(root / "fewer.h5")
    (place / "depot").rename(root / "other")
    shutil.rmtree(place)


def _done(server: Server, place: Path, argv: tuple[str, ...], status: int) -> None:
    outcome = server.run(argv, place)
    assert outcome.status == status, f"{argv}: {outcome}"


def make_older(depot: Path) -> None:
    """Turn a depot of vectors into one of format 1."""
    for sidecar in depot.glob("*/*.json"):
        sidecar.write_bytes(sealed({**unsealed(sidecar.read_bytes()), "format": 1}))
    (depot / FORMAT_FILE).write_text(json.dumps({"format": "deponij-depot", "version": 1}))


@dataclass(frozen=True)
class Bench:
    """Where jobs run: a server that forks, and the world of which each job takes copies."""

    server: Server
    world: Path


@dataclass
class Truth:
    """What an undisturbed run of a job leaves, and how long it took."""

    job: Job
    files: dict[str, bytes]
    before: Dump
    rows: Dump
    wall_s: float
    # Names of files that two undisturbed runs write differently, which therefore nobody can compare.
    varying: set[str] = field(default_factory=set)


@contextmanager
def place_of(job: Job, world: Path, folder: Path) -> Iterator[Path]:
    """A fresh folder for one attempt at a job; it goes afterwards."""
    place = folder / "place"
    place.mkdir(parents=True)
    for name in job.needs:
        copy: Callable[[Path, Path], object] = shutil.copytree if (world / name).is_dir() else shutil.copy
        copy(world / name, place / name)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def undisturbed(job: Job, world: Path, folder: Path, server: Server, times: int = 2) -> Truth:
    """Run a job in peace, twice, and see that it does the same."""
    found: list[Truth] = []
    for _ in range(times):
        with place_of(job, world, folder) as place:
            before = rows_of(job, place) if job.depot != "older" else {}
            outcome = server.run(job.argv, place)
            assert outcome.status == job.status, f"{job.name}: {outcome}"
            found.append(Truth(job, files_of(job, place), before, rows_of(job, place), outcome.wall_s))
    first = found[-1]
    for other in found[:-1]:
        assert other.files.keys() == first.files.keys() and other.rows == first.rows
        first.varying |= {name for name in first.files if first.files[name] != other.files[name]}
    return first


def files_of(job: Job, place: Path) -> dict[str, bytes]:
    """Every file below a job's folder but for what is remembered for later and its depot's shards."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_file() and not name.startswith(("cache/", f"{job.depot}/")):
            found[name] = _without_times(path.name, path.read_bytes())
    return found


def _without_times(name: str, data: bytes) -> bytes:
    """A record's content but for how long something took, and a manifest's but for such records."""
    if name not in {*TIMED, MANIFEST}:
        return data
    body = json.loads(data)
    body.pop(CHECKSUM, None)
    if name == MANIFEST:
        body["files"] = {one: entry for one, entry in body["files"].items() if one not in TIMED}
    return json.dumps(_timeless(body)).encode()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(one) for name, one in value.items() if not name.endswith(("_s", "seconds"))}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def rows_of(job: Job, place: Path) -> Dump:
    """Fingerprint -> key -> the row's bytes, of what the job's depot knows."""
    if job.depot is None or not (place / job.depot / FORMAT_FILE).exists():
        return {}
    store = FeatureStore(place / job.depot)
    assert store.damaged == {}, store.damaged
    found: Dump = {}
    for fingerprint, identity in sorted(store.identities().items()):
        keys = store.keys(identity)
        arrays = sorted(store.read(keys, identity).items())
        rows = (b"".join(one.tobytes() for one in row) for row in zip(*(v for _, v in arrays), strict=True))
        found[fingerprint] = dict(zip(keys, rows, strict=True))
    return found


def loose(job: Job, place: Path) -> list[str]:
    """Files of the job's depot that are neither its marker nor a shard nor its commit: parts, locks, orphans."""
    if job.depot is None:
        return []
    depot = place / job.depot
    names = {path.relative_to(depot).as_posix() for path in depot.rglob("*") if path.is_file()}
    stems = Counter(
        name.rpartition(".")[0] for name in names if name.endswith((".h5", ".json")) and "/" in name
    )
    return sorted(
        names
        - {FORMAT_FILE}
        - {f"{stem}{ending}" for stem, n in stems.items() if n == 2 for ending in (".h5", ".json")}
    )


def doubles(job: Job, place: Path) -> int:
    """Rows that lie in two shards."""
    if job.depot is None:
        return 0
    counts = Counter((s.fingerprint, key) for s in FeatureStore(place / job.depot).sidecars for key in s.keys)
    return sum(n - 1 for n in counts.values())


def faults_midway(truth: Truth, place: Path) -> list[str]:
    """What is wrong after a disturbance, before anything runs again: rows that are gone, or others than the true ones."""
    job = truth.job
    if job.depot == "older" and not _is_present(place / job.depot):
        return []
    known, found = rows_of(job, place), []
    for fingerprint, rows in known.items():
        true = truth.before.get(fingerprint, {}) | truth.rows.get(fingerprint, {})
        found += [f"{key} has another row" for key, row in rows.items() if true.get(key) != row]
    for fingerprint, rows in truth.before.items():
        kept = truth.rows.get(fingerprint, {}) if job.takes_away else rows
        found += [f"{key} is lost" for key in kept if key not in known.get(fingerprint, {})]
    return found


def _is_present(depot: Path) -> bool:
    """Whether a depot's marker says the format of today."""
    return json.loads((depot / FORMAT_FILE).read_text())["version"] != 1


def faults_at_end(truth: Truth, outcome: Outcome, place: Path) -> list[str]:
    """How a run that came to its end differs from an undisturbed one."""
    job = truth.job
    if outcome.status != job.status:
        return [f"it ended with {outcome.status}: {outcome.said[-2000:]}"]
    files = files_of(job, place)
    found = [f"{name} is there" for name in sorted(files.keys() - truth.files.keys())]
    found += [f"{name} is missing" for name in sorted(truth.files.keys() - files.keys())]
    same = files.keys() & truth.files.keys() - truth.varying
    found += [f"{name} differs" for name in sorted(same) if files[name] != truth.files[name]]
    if rows_of(job, place) != truth.rows:
        found.append("the depot's rows differ")
    found += [f"{name} lies around in the depot" for name in loose(job, place)]
    if n_double := doubles(job, place):
        found.append(f"{n_double} rows lie in two shards")
    return found


def moment(rng: random.Random, truth: Truth) -> float:
    """When to kill, in seconds: any time of the undisturbed run."""
    return rng.uniform(0.0, truth.wall_s)
