"""`kill -9` in the middle of extractions into one depot: what is committed is right, what is not is computed
again to the same bytes, and nothing is left lying around."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fake_backbone
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from deponij.store.depot import FORMAT_FILE, FeatureStore
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes
from deponij.store.view import View

ROOT = Path(__file__).resolve().parent.parent
N_ITEMS, N_DAMAGED, BATCH = 240, 5, 4
FORWARD_WRITE_RENAME_SIDECAR = (
    ("forward", 1),
    ("forward", 2),
    ("forward", 3),
    ("forward", 4),
    ("shard-half", 1),
    ("shard-half", 2),
    ("shard-half", 4),
    ("shard-rename-before", 1),
    ("shard-rename-before", 2),
    ("shard-rename-after", 1),
    ("shard-rename-after", 2),
    ("sidecar-half", 1),
    ("sidecar-half", 2),
    ("sidecar-rename-before", 1),
    ("sidecar-rename-before", 2),
    ("sidecar-rename-after", 1),
)
ELSEWHERE = (("decode", 1), ("decode", 9), ("view-half", 1), ("view-rename-before", 1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items of which some cannot be decoded, and a model's folder."""
    root = tmp_path_factory.mktemp("world")
    fake_backbone.make(root / "model")
    with ItemWriter(root / "items", pa.schema([("label", pa.string())])) as writer:
        for number in range(N_ITEMS):
            file = io.BytesIO()
            pixels = np.random.default_rng(number).integers(0, 256, (18, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file, "PNG")
            content = file.getvalue()
            if number % (N_ITEMS // N_DAMAGED) == 7:
                content = content[: len(content) // 2]
            key = key_of_bytes(content)
            core = {"image_id": f"{number}", "width_px": 20, "height_px": 18}
            writer.add(item_id=f"{number}.png", key=key, content=content, metadata={"label": "a"}, **core)
    return root


def job(
    world: Path, depot: Path, kill: tuple[str, int] | None = None, kind: str = "embedding", **more: Any
) -> dict[str, Any]:
    out = depot.parent / "out"
    argv = ["extract", "--items", world / "items", "--backbone", world / "model", "--out", out / "view.h5"]
    argv += ["--kind", kind]
    argv += [
        "--depot",
        depot,
        "--batch-size",
        BATCH,
        "--workers",
        2,
        "--threads",
        1,
        "--device",
        "cpu",
        "--json",
    ]
    files = {"sign": str(depot.parent / "sign"), "output": str(depot.parent / "output")}
    return {"argv": [str(part) for part in argv], "kill": kill, **files, **more}


@contextmanager
def driver(cache: Path) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {
        "DEPONIJ_CACHE": str(cache),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/worlds'}",
    }
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "worlds" / "kill_driver.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def order(process: subprocess.Popen[str], task: dict[str, Any]) -> int:
    stream(process.stdin).write(json.dumps(task) + "\n")
    stream(process.stdin).flush()
    return int(stream(process.stdout).readline())


def dump(depot: Path) -> dict[str, dict[str, bytes]]:
    """Fingerprint -> key -> the row's bytes, sorted, of everything that is known."""
    store = FeatureStore(depot)
    assert store.damaged == {}
    found = {}
    for fingerprint, identity in sorted(store.identities().items()):
        keys = store.keys(identity)
        arrays = store.read(keys, identity)
        rows = zip(*(values for _, values in sorted(arrays.items())), strict=True)
        found[fingerprint] = dict(
            zip(keys, [b"".join(one.tobytes() for one in row) for row in rows], strict=True)
        )
    return found


def loose_files(depot: Path) -> list[str]:
    """Files that are neither the depot's marker nor a committed shard nor its commit."""
    names = {p.relative_to(depot).as_posix() for p in depot.rglob("*") if p.is_file()}
    stems = Counter(
        name.rpartition(".")[0] for name in names if name.endswith((".h5", ".json")) and "/" in name
    )
    whole = {f"{stem}{ending}" for stem, n in stems.items() if n == 2 for ending in (".h5", ".json")}
    return sorted(names - whole - {FORMAT_FILE})


def check_part(depot: Path, undisturbed: dict[str, dict[str, bytes]]) -> int:
    """What is known after a kill is part of the truth; returns how many rows."""
    if not (depot / FORMAT_FILE).exists():
        return 0
    known = dump(depot)
    for fingerprint, rows in known.items():
        assert rows.items() <= undisturbed[fingerprint].items()
    return sum(len(rows) for rows in known.values())


def check_end(depot: Path, undisturbed: dict[str, dict[str, bytes]], fresh: Path) -> None:
    assert dump(depot) == undisturbed
    assert loose_files(depot) == []
    sidecars = FeatureStore(depot).sidecars
    assert sum(len(sidecar.keys) for sidecar in sidecars) == N_ITEMS - N_DAMAGED, "a row was committed twice"
    assert sorted(p.name for p in (depot.parent / "out").iterdir()) == ["view.h5"]
    view = View(depot.parent / "out" / "view.h5")
    assert (len(view), len(view.failures)) == (N_ITEMS - N_DAMAGED, N_DAMAGED)
    assert view.path.read_bytes() == (fresh.parent / "out" / "view.h5").read_bytes()


def test_twenty_kills_at_chosen_moments(world: Path, tmp_path: Path) -> None:
    kills = [*FORWARD_WRITE_RENAME_SIDECAR, *ELSEWHERE]
    assert len(kills) == 20
    # The view's moments come when everything is computed.
    kills.sort(key=lambda kill: (kill[0].startswith("view"), random.Random(str(kill)).random()))
    fresh, depot = tmp_path / "fresh" / "depot", tmp_path / "killed" / "depot"
    fresh.parent.mkdir()
    depot.parent.mkdir()
    hit: Counter[str] = Counter()
    with driver(tmp_path / "cache") as process:
        assert order(process, job(world, fresh)) == 3, (fresh.parent / "output").read_text()
        undisturbed = dump(fresh)
        n_known = 0
        for kill in kills:
            status = order(process, job(world, depot, kill))
            said = (depot.parent / "output").read_text()
            assert status == -signal.SIGKILL, f"{kill} never came (status {status}): {said}"
            hit[(depot.parent / "sign").read_text()] += 1
            n_now = check_part(depot, undisturbed)
            assert n_now >= n_known, "rows that were known are gone"
            n_known = n_now
        assert n_known > 0
        assert order(process, job(world, depot)) == 3, (depot.parent / "output").read_text()
    print("killed at", dict(hit))
    assert sum(n for moment, n in hit.items() if not moment.startswith(("decode", "view"))) >= 15
    check_end(depot, undisturbed, fresh)
    result = json.loads((depot.parent / "output").read_text().partition("}\n")[0] + "}")
    assert result["n_computed"] == N_ITEMS - N_DAMAGED - n_known


def test_kills_in_the_middle_of_maps(world: Path, tmp_path: Path) -> None:
    """The first forward pass is one of the trial that the estimate takes; the others are of batches that are kept."""
    fresh, depot = tmp_path / "fresh" / "depot", tmp_path / "killed" / "depot"
    fresh.parent.mkdir()
    depot.parent.mkdir()
    kind = "pyramid@2+flip"
    with driver(tmp_path / "cache") as process:
        assert order(process, job(world, fresh, kind=kind)) == 3, (fresh.parent / "output").read_text()
        undisturbed = dump(fresh)
        n_known = [0]
        for kill in (
            ("forward", 1),
            ("shard-half", 3),
            ("sidecar-half", 2),
            ("shard-rename-after", 2),
            ("view-half", 1),
        ):
            status = order(process, job(world, depot, kill, kind))
            assert status == -signal.SIGKILL, f"{kill} never came: {(depot.parent / 'output').read_text()}"
            n_known.append(check_part(depot, undisturbed))
        assert n_known == sorted(n_known) and 0 < n_known[2] < n_known[-1] == N_ITEMS - N_DAMAGED
        assert order(process, job(world, depot, kind=kind)) == 3
    check_end(depot, undisturbed, fresh)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_from_outside_at_any_moment(world: Path, tmp_path: Path) -> None:
    """Whole processes, each killed by another one at a random time after its model was loaded."""
    fresh, depot = tmp_path / "fresh" / "depot", tmp_path / "killed" / "depot"
    fresh.parent.mkdir()
    depot.parent.mkdir()
    with driver(tmp_path / "cache") as process:
        assert order(process, job(world, fresh)) == 3
    undisturbed, n_in_the_middle = dump(fresh), 0
    for seed in range(10):
        with driver(tmp_path / "cache") as process:
            stream(process.stdin).write(json.dumps(job(world, depot, here=True)) + "\n")
            stream(process.stdin).flush()
            while not list(depot.glob("writers/*.lock")) and process.poll() is None:
                time.sleep(0.002)
            time.sleep(random.Random(seed).uniform(0, 0.1))
            process.kill()
            assert process.wait() == -signal.SIGKILL
            # An answer would mean that it had come to its end.
            n_in_the_middle += stream(process.stdout).read() == ""
        check_part(depot, undisturbed)
    print(n_in_the_middle, "of 10 were killed before their end")
    assert n_in_the_middle >= 5
    with driver(tmp_path / "cache") as process:
        assert order(process, job(world, depot)) == 3
    check_end(depot, undisturbed, fresh)
