"""The commands with a depot in an object store, named by its URL alone; endpoint and credentials are in the environment."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cli_world
import numpy as np
import psutil
import pytest
import s3_world
from cli_world import World, call, done
from s3_world import Server

from deponij.store import shard
from deponij.store.depot import FeatureStore
from deponij.store.sealed import sealed, unsealed
from deponij.store.upkeep import inspection as upkeep
from deponij.store.view import View

ROOT = Path(__file__).resolve().parent.parent.parent
N_PICTURES = 3 * cli_world.N_PER_CLASS
N_SOUND = N_PICTURES  # one more is cut off


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with cli_world.made(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with s3_world.serving(monkeypatch) as server:
        yield server


def extract(
    world: World, depot: str | Path, out: Path, items: Path | None = None, *more: object
) -> dict[str, int]:
    flags = ["--items", items or world.items, "--backbone", world.words, "--out", out, "--depot", depot]
    found: dict[str, int] = done("extract", *flags, *more, "--json", status=3).json
    return found


def written(server: Server) -> list[str]:
    return [path for method, path in server.seen if method in {"PUT", "POST", "DELETE"}]


def test_only_what_is_new_is_computed(world: World, server: Server, tmp_path: Path) -> None:
    first = extract(world, server.depot, tmp_path / "first.h5")
    assert (first["n_computed"], first["n_known"]) == (N_SOUND, 0)
    # The same view as one whose rows lie in a folder.
    assert (tmp_path / "first.h5").read_bytes() == world.view.read_bytes()
    server.seen.clear()
    again = extract(world, server.depot, tmp_path / "again.h5")
    assert (again["n_computed"], again["n_known"]) == (0, N_SOUND)
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "first.h5").read_bytes()
    assert written(server) == []
    shutil.copytree(world.pictures, tmp_path / "pictures")
    for number in range(N_PICTURES // 10):
        cli_world.picture((10, 20, 200), 1000 + number).save(
            tmp_path / "pictures" / "can" / f"new{number}.png"
        )
    done("items", "--folder", tmp_path / "pictures", "--out", tmp_path / "items", status=3)
    more = extract(world, server.depot, tmp_path / "more.h5", tmp_path / "items")
    assert (more["n_computed"], more["n_known"]) == (N_PICTURES // 10, N_SOUND)


def test_upkeep(world: World, server: Server, tmp_path: Path) -> None:
    depot, copy = server.depot, tmp_path / "copy"
    told = done("depot", "merge", world.depot, depot, "--json").json
    n_rows = sum(told["n_rows"].values())
    assert done("depot", "info", depot, "--json").json["n_rows"] == n_rows > N_SOUND
    assert done("depot", "verify", depot, "--json").json["sound"]
    flags = ["--items", world.items, "--backbone", world.words, "--rows", 5]
    assert done("depot", "verify", depot, *flags, "--json").json["drift"][0]["n_rows"] == 5
    assert sum(done("depot", "merge", depot, copy, "--json").json["n_rows"].values()) == n_rows
    assert sum(done("depot", "merge", copy, depot, "--json").json["n_rows"].values()) == 0
    assert done("depot", "compact", depot, "--json").json["n_shards_after"] == 3  # one an identity
    keep = ["depot", "gc", depot, "--keep-view", world.view]
    done(*keep)
    assert done("depot", "info", depot, "--json").json["n_rows"] == n_rows
    done(*keep, "--delete")
    assert done("depot", "info", depot, "--json").json["n_rows"] == N_SOUND
    report = done("depot", "verify", depot, "--json").json
    assert (report["n_rows"], report["orphans"], report["foreign"]) == (N_SOUND, [], [])
    keys = View(world.view).keys.tolist()
    np.testing.assert_array_equal(FeatureStore(depot).read(keys)["embedding"], View(world.view).embedding)


def test_heads_and_exports_ask_nothing_of_it(world: World, server: Server, tmp_path: Path) -> None:
    view = tmp_path / "view.h5"
    extract(world, server.depot, view)
    server.seen.clear()
    flags = ["--features", view, "--items", world.items, "--split", world.split, "--labels", "label"]
    assert done("probe", *flags, "--json").json
    done("view", "export", view, tmp_path / "out.parquet", "--items", world.items)
    assert server.seen == []


def test_a_depot_of_the_first_format_is_migrated(world: World, server: Server, tmp_path: Path) -> None:
    extract(world, server.depot, tmp_path / "view.h5")
    folder = FeatureStore(server.depot).folder
    for name in folder.names():
        if name.endswith(".json") and "/" in name:
            folder.write(name, sealed({**unsealed(folder.read(name)), "format": 1}))
    folder.write("format.json", json.dumps({"format": "deponij-depot", "version": 1}).encode())
    assert "depot migrate" in call("depot", "info", server.depot).err
    assert done("depot", "migrate", server.depot, "--json").json["steps"] == [1]
    assert shard.FORMAT == 2
    assert extract(world, server.depot, tmp_path / "view.h5")["n_computed"] == 0


@pytest.mark.slow
def test_a_forgotten_picture_is_in_no_object(world: World, server: Server, tmp_path: Path) -> None:
    shutil.copytree(world.pictures, tmp_path / "pictures")
    run = ["--backbone", world.words, "--out", tmp_path / "run", "--depot", server.depot]
    done("run", "--folder", tmp_path / "pictures", *run, status=3)
    key = View(next((tmp_path / "run" / "views").glob("*.h5"))).keys[0]
    assert any(key.encode() in FeatureStore(server.depot).folder.read(name) for name in s3_world.names())
    report = done("forget", key, "--run", tmp_path / "run", "--depot", server.depot, "--json").json
    assert {"what": "rows of features", "n": 1, "where": server.depot} in report["removed"]
    assert not any(key.encode() in FeatureStore(server.depot).folder.read(name) for name in s3_world.names())


KILLED = """
import sys
import fake_backbone
from deponij import cli
from deponij.store.depot import FeatureStore
FeatureStore.writer.__kwdefaults__["shard_rows"] = 8
with fake_backbone.registered():
    sys.argv = ["deponij", *sys.argv[1:]]
    cli.main()
"""


@pytest.mark.slow
def test_killed_between_a_shard_and_its_sidecar(world: World, server: Server, tmp_path: Path) -> None:
    """A reader at that moment sees no half shard; another run computes what is missing and leaves nothing behind."""
    seen: list[int] = []
    process: list[subprocess.Popen[bytes]] = []

    def look_and_kill() -> None:
        store = FeatureStore(server.depot)
        assert any(name.endswith(".h5") for name in store.orphans())
        (identity,) = store.identities().values()
        seen.append(len(store.read(store.keys(identity), identity)["embedding"]))
        psutil.Process(process[0].pid).kill()

    came: list[str] = []

    def fault(method: str, path: str) -> s3_world.Act | None:
        if method != "PUT" or not path.endswith(".json") or path.endswith("format.json"):
            return None
        came.append(path)
        return s3_world.after(look_and_kill) if len(came) == 3 else None

    server.fault = fault
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "worlds")])
    flags = [
        "--items",
        world.items,
        "--backbone",
        world.words,
        "--out",
        tmp_path / "view.h5",
        "--batch-size",
        "4",
    ]
    command = [sys.executable, "-c", KILLED, "extract", *map(str, flags), "--depot", server.depot]
    process.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, cwd=ROOT))
    assert process[0].wait(120) == -9
    server.fault = None
    assert seen == [16]
    # The request was on its way: the server carries it out, or not.
    known = len(FeatureStore(server.depot).keys(next(iter(FeatureStore(server.depot).identities().values()))))
    assert known in {16, 24}
    rest = extract(world, server.depot, tmp_path / "view.h5", None, "--batch-size", 4)
    assert rest["n_computed"] == N_SOUND - known
    assert upkeep.verify(FeatureStore(server.depot)).damaged == {}
    extract(world, tmp_path / "calm", tmp_path / "calm.h5", None, "--batch-size", 4)
    np.testing.assert_array_equal(View(tmp_path / "view.h5").embedding, View(tmp_path / "calm.h5").embedding)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            lambda m, p: s3_world.refusing(400, "ExpiredToken"),
            "cannot read s3://bucket/depot/format.json: told so",
        ),
        (
            lambda m, p: s3_world.refusing(403, "InvalidAccessKeyId"),
            "cannot read s3://bucket/depot/format.json",
        ),
        (lambda m, p: 403 if m == "PUT" else None, "cannot write s3://bucket/depot/"),
    ],
)
def test_what_is_not_allowed_is_one_line(
    world: World, server: Server, tmp_path: Path, fault: s3_world.Fault, told: str
) -> None:
    FeatureStore(server.depot, create=True)
    server.fault = fault
    flags = ["--items", world.items, "--backbone", world.words, "--out", tmp_path / "view.h5"]
    answer = call("extract", *flags, "--depot", server.depot)
    assert answer.status == 1
    assert told in answer.err
    assert "Traceback" not in answer.err
    server.fault = None
    assert extract(world, server.depot, tmp_path / "view.h5")["n_computed"] == N_SOUND


def test_who_may_not_delete_loses_nothing(world: World, server: Server, tmp_path: Path) -> None:
    done("depot", "merge", world.depot, server.depot)
    done("depot", "merge", world.depot, server.depot)
    n_rows = done("depot", "info", server.depot, "--json").json["n_rows"]
    server.fault = lambda method, path: 403 if method == "DELETE" else None
    answer = call("depot", "gc", server.depot, "--keep-view", world.view, "--delete")
    assert answer.status == 1
    assert "cannot delete s3://bucket/depot/" in answer.err
    assert "Traceback" not in answer.err
    server.fault = None
    assert done("depot", "info", server.depot, "--json").json["n_rows"] == n_rows
    done("depot", "gc", server.depot, "--keep-view", world.view, "--delete")
    assert done("depot", "info", server.depot, "--json").json["n_rows"] == N_SOUND
