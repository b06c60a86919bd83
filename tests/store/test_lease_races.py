"""Somebody stands still between looking and doing, in an object store: nothing is lost, nothing is half there.

Requests are held up at the server: while one is on its way others take its sender for dead and do what they do then.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import s3_world
from depot_world import CLIP, fill, keys_of, vectors
from s3_world import Server, once

from deponij.store import leases, presence
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.folders import open_folder
from deponij.store.leases import TidyingLease
from deponij.store.upkeep import inspection as upkeep


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with s3_world.serving(monkeypatch) as server:
        yield server


@contextmanager
def _later() -> Iterator[None]:
    """To those who judge within the block it is so late that every lease there is has run out."""
    real = leases.folder_now_s

    def now(*arguments: object) -> float:
        return real(*arguments) + leases.LEASE_S + 60  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "folder_now_s", now)
        patch.setattr(presence, "folder_now_s", now)
        yield


def _whole(server: Server, numbers: range) -> None:
    """Every row can be read, and no file is missing or left over."""
    store = FeatureStore(server.depot)
    keys = keys_of(numbers)
    np.testing.assert_array_equal(store.read(keys, CLIP)["embedding"], vectors(keys, CLIP.precision))
    report = upkeep.verify(store)
    assert (report.damaged, report.orphans) == ({}, [])


def _add(server: Server, numbers: range) -> None:
    """In one shard."""
    fill(FeatureStore(server.depot), numbers, batch=len(numbers), shard_rows=len(numbers))


@pytest.mark.parametrize("at", [".h5", ".json"])
def test_a_writer_that_was_swept_while_it_committed_commits_again(server: Server, at: str) -> None:
    """Its clock stood still with it (a machine that was frozen), so that the store alone can tell it."""
    FeatureStore(server.depot, create=True)
    swept: list[str] = []

    def sweep() -> None:
        with _later():
            swept.extend(FeatureStore(server.depot).sweep())

    def asked(method: str, path: str) -> bool:
        return method == "PUT" and path.endswith(at) and "/writers/" not in path

    server.fault = once(asked, s3_world.after(sweep))
    _add(server, range(8))
    # Held up at the sidecar, its file was there to be swept.
    assert len(swept) == (at == ".json")
    _whole(server, range(8))


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("work", ["compact", "gc"])
def test_a_tidier_that_was_taken_over_loses_no_row(
    server: Server, monkeypatch: pytest.MonkeyPatch, work: str, step: int
) -> None:
    """It has put a shard in the place of others, and is held up when it takes the first of them away.

    Of doubles the first shard by name counts: the new one may come before the old ones, or after. To the one who takes
    over the old ones are large enough to stay.
    """
    numbers = itertools.count(1 << 20, step)
    monkeypatch.setattr(presence.secrets, "token_hex", lambda _: f"{next(numbers):08x}")
    monkeypatch.setattr(leases, "_CONFIRMED_S", 0.0)
    FeatureStore(server.depot, create=True)
    _add(server, range(10))
    _add(server, range(10, 20))
    reports: list[upkeep.TidyReport] = []

    def tidy() -> None:
        with _later():
            reports.append(upkeep.compact(FeatureStore(server.depot), target_bytes=1))

    def held_up() -> None:
        store = FeatureStore(server.depot)
        if work == "compact":
            upkeep.compact(store)
        else:
            upkeep.gc(store, set(keys_of(range(5, 20))), dry_run=False)

    server.fault = once(
        lambda method, path: method == "DELETE" and "writers" not in path, s3_world.after(tidy)
    )
    with suppress(StoreError):
        held_up()
    assert reports
    _whole(server, range(5, 20))
    upkeep.compact(FeatureStore(server.depot))
    _whole(server, range(5, 20))


def test_a_lease_whose_answer_was_lost_is_ones_own(server: Server) -> None:
    """The client asks again by itself, and is told that the file is there: it is its own."""
    FeatureStore(server.depot, create=True)
    server.fault = once(
        lambda method, path: method == "PUT" and "tidying" in path, s3_world.resetting(done=True)
    )
    upkeep.compact(FeatureStore(server.depot))


def test_a_server_that_does_not_know_the_condition_is_found_out(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lets everybody write: two who ask at once would both have the lease."""

    server.fault = lambda method, path: s3_world.unconditional
    FeatureStore(server.depot, create=True)
    first, second = open_folder(server.depot), open_folder(server.depot)
    monkeypatch.setattr("deponij.store.agreeing.SETTLE_S", 0.05)
    assert first.create("writers/x.lease", b"first")
    assert not second.create("writers/x.lease", b"second")
    assert first.read("writers/x.lease") == b"first"
    with TidyingLease(first, "writers", "a.1.00000000"), pytest.raises(StoreError, match=r"a\.1\.00000000"):
        upkeep.compact(FeatureStore(server.depot))
    assert [name for name in s3_world.names() if name.endswith(".wish")] == []


def test_what_was_committed_since_the_listing_is_seen(server: Server) -> None:
    """Clients keep listings; a sweep asks again before it removes."""
    store = FeatureStore(server.depot, create=True)
    fill(store, range(4))
    assert store.orphans() == []
    _add(server, range(4, 8))
    name = next(s.name for s in FeatureStore(server.depot).sidecars if s.name != store.sidecars[0].name)
    assert store.is_committed(name)


def test_who_may_only_read_reads_beside_a_writer(server: Server) -> None:
    store = FeatureStore(server.depot, create=True)
    fill(store, range(8))
    with store.writer(CLIP, {}) as writer:
        writer.add(keys_of([8]), {"embedding": vectors(keys_of([8]), CLIP.precision)})
        writer.flush()
        server.fault = lambda method, path: 403 if method in {"PUT", "DELETE"} else None
        reader = FeatureStore(server.depot)
        assert reader.sweep() == []
        assert upkeep.gc(reader, set()).lines[CLIP.fingerprint].n_rows_gone == 8
        server.fault = None
    _whole(server, range(9))


@pytest.mark.parametrize("seed", range(3))
def test_broken_connections_end_in_the_right_rows_or_a_line(server: Server, seed: int) -> None:
    """Resets before and after the deed, and half bodies, at random: never a wrong row, never a lost one."""
    FeatureStore(server.depot, create=True)
    _add(server, range(10))
    acts = [
        s3_world.resetting(),
        s3_world.resetting(done=True),
        s3_world.truncating(),
        s3_world.truncating(0.99),
    ]
    server.fault = s3_world.at_random(0.15, seed, *acts)
    told = []
    for start in range(10, 60, 10):
        try:
            _add(server, range(start, start + 10))
            upkeep.compact(FeatureStore(server.depot))
            keys = keys_of(range(start))
            known = FeatureStore(server.depot)
            here = [key for key in keys if key not in set(known.missing(CLIP, keys))]
            found = known.read(here, CLIP)["embedding"]
            np.testing.assert_array_equal(found, vectors(here, CLIP.precision))
        except StoreError as error:
            told.append(str(error))
    server.fault = None
    assert all("\n" not in line and "s3://" in line for line in told)
    with _later():
        FeatureStore(server.depot).sweep()
        fill(FeatureStore(server.depot), range(60))
        upkeep.compact(FeatureStore(server.depot))
    _whole(server, range(60))


def test_marks_of_the_dead_go_in_the_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on the shards of a tidier that was taken over are like any others."""
    store = FeatureStore(server.depot, create=True)
    _add(server, range(10))
    _add(server, range(5, 15))
    _add(server, range(15))
    token = FeatureStore(server.depot).sidecars[0].name.split("/")[1].removesuffix("-000000")
    store.folder.write(f"writers/tidying-{token}.dead", b"{}")
    assert upkeep.compact(FeatureStore(server.depot)).n_shards_after == 2
    assert [name for name in s3_world.names() if name.endswith(".dead")]
    monkeypatch.setattr(presence, "MARKS_STAY_S", -1.0)
    assert upkeep.compact(FeatureStore(server.depot)).n_shards_after == 1
    assert [name for name in s3_world.names() if name.endswith(".dead")] == []
    _whole(server, range(15))
