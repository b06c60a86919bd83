"""A depot in an S3 object store: a real client against a real server on loopback, which can be told to fail."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import s3_world
from depot_world import CLIP, fill, keys_of
from depot_world import vectors as vectors_of
from s3_world import Server

from deponij.store import leases
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.leases import Lease, TidyingLease
from deponij.store.presence import WriterLock
from deponij.store.upkeep import inspection as upkeep

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with s3_world.serving(monkeypatch) as server:
        yield server


def vectors(keys: list[str]) -> np.ndarray:
    return vectors_of(keys, CLIP.precision)


def read_back(location: str, numbers: range) -> None:
    keys = keys_of(numbers)
    np.testing.assert_array_equal(FeatureStore(location).read(keys, CLIP)["embedding"], vectors(keys))


def test_rows_go_in_and_come_out(server: Server) -> None:
    store = FeatureStore(server.depot, create=True)
    fill(store, range(100))
    read_back(server.depot, range(100))
    assert FeatureStore(server.depot).missing(CLIP, keys_of(range(98, 102))) == keys_of([100, 101])
    assert [name for name in s3_world.names() if name.startswith("writers/")] == []


def test_merging_both_ways(server: Server, tmp_path: Path) -> None:
    here, there = FeatureStore(tmp_path / "depot", create=True), FeatureStore(server.depot, create=True)
    fill(here, range(60))
    fill(there, range(40, 90))
    assert upkeep.merge(there, here).n_rows == {CLIP.fingerprint: 40}
    assert upkeep.merge(here, there).n_rows == {CLIP.fingerprint: 30}
    for location in (server.depot, str(tmp_path / "depot")):
        read_back(location, range(90))
        assert upkeep.verify(FeatureStore(location)).is_whole


def test_tidying(server: Server) -> None:
    store = FeatureStore(server.depot, create=True)
    for start in range(0, 40, 10):
        fill(store, range(start, start + 10))
    assert upkeep.compact(store).n_shards_after == 1
    read_back(server.depot, range(40))
    report = upkeep.gc(store, set(keys_of(range(25))))
    assert report.lines[CLIP.fingerprint].n_rows_gone == 15
    read_back(server.depot, range(40))
    upkeep.gc(store, set(keys_of(range(25))), dry_run=False)
    read_back(server.depot, range(25))
    assert FeatureStore(server.depot).keys(CLIP) == sorted(keys_of(range(25)))
    # What stays of three rounds of tidying is one lease, given back.
    assert [n for n in s3_world.names() if n.startswith("writers/")] == ["writers/tidying.000002.lease"]


def test_a_damaged_shard_is_set_aside(server: Server) -> None:
    store = FeatureStore(server.depot, create=True)
    fill(store, range(10))
    name = f"{store.sidecars[0].name}.h5"
    data = bytearray(store.folder.read(name))
    data[len(data) // 2] ^= 1
    store.folder.write(name, bytes(data))
    assert not upkeep.verify(store).is_whole
    assert upkeep.verify(store, repair=True).n_rows_lost == 4  # a shard of four
    assert len(FeatureStore(server.depot).keys(CLIP)) == 6
    fill(FeatureStore(server.depot), range(10))
    read_back(server.depot, range(10))


WRITER = """
import os, sys
sys.path.insert(0, "tests/worlds")
from depot_world import fill
from deponij.store import remote_folder
from deponij.store.depot import FeatureStore
store = FeatureStore(sys.argv[1])
real = remote_folder.RemoteFolder.write
def write(self, name, data):
    if name.endswith(".json"):
        os.kill(os.getpid(), 9)
    real(self, name, data)
remote_folder.RemoteFolder.write = write
fill(store, range(10, 20))
"""


def killed_writer(location: str) -> None:
    """Between the shard's upload and its sidecar."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", WRITER, location], cwd=ROOT, env=env, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_writer_killed_before_its_sidecar_leaves_nothing_that_counts(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(server.depot, create=True)
    fill(store, range(10))
    killed_writer(server.depot)
    left = [name for name in s3_world.names() if name.startswith("writers/")]
    assert len(left) == 1
    other = FeatureStore(server.depot)
    assert other.keys(CLIP) == sorted(keys_of(range(10)))
    assert len(other.orphans()) == 1
    # Its lease still counts: it may be alive.
    assert other.sweep() == []
    monkeypatch.setattr(leases, "folder_now_s", _later)
    monkeypatch.setattr("deponij.store.presence.folder_now_s", _later)
    assert len(other.sweep()) == 1
    token = left[0].removeprefix("writers/").removesuffix(".lease")
    assert [name for name in s3_world.names() if name.startswith("writers/")] == [f"writers/{token}.dead"]
    fill(other, range(10, 20))
    read_back(server.depot, range(20))


_REAL_NOW = leases.folder_now_s


def _later(*arguments: object) -> float:
    """The medium's clock, when every lease that was not renewed since is over."""
    return _REAL_NOW(*arguments) + leases.LEASE_S  # type: ignore[arg-type]


def test_the_rows_of_a_living_writer_are_left_alone(server: Server) -> None:
    store = FeatureStore(server.depot, create=True)
    with store.writer(CLIP, {}, shard_rows=5) as writer:
        writer.add(keys_of(range(5)), {"embedding": vectors(keys_of(range(5)))})
        report = upkeep.gc(FeatureStore(server.depot), set(), dry_run=False)
        assert len(report.in_use) == 1
    assert upkeep.gc(store, set(), dry_run=False).in_use == []


def test_one_process_tidies_at_a_time(server: Server) -> None:
    store = FeatureStore(server.depot, create=True)
    with TidyingLease(store.folder, "writers", "other.1.00000000"):
        for work in (upkeep.compact, lambda one: upkeep.gc(one, set(), dry_run=False)):
            with pytest.raises(StoreError, match=r"another process is compacting.*other\.1\.00000000"):
                work(FeatureStore(server.depot))
    upkeep.compact(FeatureStore(server.depot))


def test_of_many_that_come_at_once_one_tidies(server: Server) -> None:
    """Each in a process of its own, held up at random between looking and creating."""
    FeatureStore(server.depot, create=True)
    script = f"""
import random, sys, time
from deponij.store import leases
from deponij.store.folders import open_folder
folder = open_folder({server.depot!r})
real = folder.create
def create(name, data):
    time.sleep(random.random() / 5)
    return real(name, data)
folder.create = create
for turn in range(4):
    try:
        with leases.TidyingLease(folder, "writers", sys.argv[1]):
            before = time.time()
            time.sleep(0.1)
            print(before, time.time(), flush=True)
    except leases.StoreError:
        time.sleep(random.random() / 5)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    started = [
        subprocess.Popen([*command, f"w.{n}.00000000"], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    printed = [process.communicate()[0] for process in started]
    assert all(process.returncode == 0 for process in started)
    spans = sorted(tuple(map(float, line.split())) for text in printed for line in text.splitlines())
    assert spans
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end <= start, "two were at it at once"


def test_a_writer_that_could_not_renew_goes_on_as_somebody_else(server: Server) -> None:
    """Stopped for longer than its lease, as a laptop that was shut."""
    store = FeatureStore(server.depot, create=True)
    now = [1000.0]
    with store.writer(CLIP, {}, shard_rows=100) as writer:
        assert writer._lock is not None
        assert writer._lock._lease is not None
        token, lease = writer._lock.token, writer._lock._lease
        lease._clock = lambda: now[0]
        lease._renewed_at = now[0]
        writer.add(keys_of(range(5)), {"embedding": vectors(keys_of(range(5)))})
        now[0] += leases.LEASE_S
        lease.renew()  # its thread wakes first: too late
        with pytest.raises(StoreError, match="taken it for dead"):
            lease.check()
        writer.flush()
        assert writer._lock.token != token
    assert [s.name for s in FeatureStore(server.depot).sidecars if token in s.name] == []
    read_back(server.depot, range(5))
    assert FeatureStore(server.depot).orphans() == []


def test_a_writer_that_is_taken_for_dead_time_and_again_stops(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(server.depot, create=True)
    with store.writer(CLIP, {}, shard_rows=100) as writer:
        writer.add(keys_of(range(5)), {"embedding": vectors(keys_of(range(5)))})
        with monkeypatch.context() as patch:
            patch.setattr(Lease, "_is_late", lambda _: True)
            with pytest.raises(StoreError, match="taken it for dead.*3 times in a row"):
                writer.flush()
    read_back(server.depot, range(5))


def test_a_lease_is_renewed(server: Server) -> None:
    """By a clock that goes on only while its thread waits: no stall of this machine makes it late."""
    now = [1000.0]

    class Waiting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            now[0] += timeout or 0.0
            return super().wait(0.02)

    folder = FeatureStore(server.depot, create=True).folder
    lease = Lease(folder, "writers/a.1.00000000.lease", "a.1.00000000", clock=lambda: now[0])
    lease._stop = Waiting()
    with lease:
        n_before = sum(method == "PUT" for method, _ in server.seen)
        limit = time.monotonic() + 60
        while sum(method == "PUT" for method, _ in server.seen) < n_before + 3:
            assert time.monotonic() < limit
            time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_faults_at_random_end_in_success_or_a_line(server: Server, seed: int) -> None:
    """500 and 503 for a fifth of all requests: the client tries again, and what it gives up is told."""
    FeatureStore(server.depot, create=True)
    server.fault = s3_world.at_random(0.2, seed, 500, 503)
    told = 0
    for start in range(0, 60, 10):
        try:
            fill(FeatureStore(server.depot), range(start, start + 10))
        except StoreError as error:
            told += 1
            assert "\n" not in str(error)
            assert "s3://" in str(error)
    server.fault = None
    store = FeatureStore(server.depot)
    rest = store.missing(CLIP, keys_of(range(60)))
    assert told or not rest
    if rest:
        with store.writer(CLIP, {}) as writer:
            writer.add(rest, {"embedding": vectors(rest)})
    read_back(server.depot, range(60))
    report = upkeep.verify(FeatureStore(server.depot))
    assert report.is_whole


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (lambda method, path: 403 if method == "PUT" else None, "cannot write"),
        (lambda method, path: 403, "cannot read"),
        (lambda method, path: 403 if method == "PUT" and path.endswith(".json") else None, "cannot write"),
    ],
)
def test_without_permission(server: Server, fault: s3_world.Fault, what: str) -> None:
    FeatureStore(server.depot, create=True)
    server.fault = fault
    with pytest.raises(StoreError, match=rf"{what} s3://bucket/depot.*(denied|Forbidden|told so)") as caught:
        fill(FeatureStore(server.depot), range(3))
    assert "\n" not in str(caught.value)
    server.fault = None
    fill(FeatureStore(server.depot), range(3))
    read_back(server.depot, range(3))


def test_nobody_listens(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3_world._forget_clients()
    with pytest.raises(StoreError, match=r"cannot read s3://bucket/depot/format\.json.*endpoint"):
        FeatureStore(server.depot)


def test_no_bucket(server: Server) -> None:
    with pytest.raises(StoreError, match="there is no depot at s3://other/depot"):
        FeatureStore("s3://other/depot")
    with pytest.raises(StoreError, match=r"cannot write s3://other/depot"):
        FeatureStore("s3://other/depot", create=True)


def test_what_an_extraction_asks_of_the_server(server: Server) -> None:
    """Requests that grow with rows would be slow and dear: a shard is three, and a writer a few."""
    FeatureStore(server.depot, create=True)
    n_before = len(server.seen)
    store = FeatureStore(server.depot)
    with store.writer(CLIP, {}, shard_rows=100) as writer:
        for start in range(0, 1000, 100):
            keys = keys_of(range(start, start + 100))
            writer.add(keys, {"embedding": vectors(keys)})
    n_asked = len(server.seen) - n_before
    assert n_asked <= 3 * 10 + 10
    n_before = len(server.seen)
    FeatureStore(server.depot)
    assert len(server.seen) - n_before <= 10 + 6  # a sidecar each, and the listing


def test_a_writer_in_an_object_store_leaves_no_lease(server: Server) -> None:
    folder = FeatureStore(server.depot, create=True).folder
    with WriterLock(folder) as lock:
        assert s3_world.names("depot/writers/") == [f"{lock.token}.lease"]
    assert s3_world.names("depot/writers/") == []
