"""Who is at work in a local depot whose file system has no locks: leases in their place, and both ways beside each other."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from depot_world import CLIP, die_at_step, dump, fill, keys_of

from deponij.store import leases, mounts
from deponij.store.atomic import write_bytes
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError, UsageError
from deponij.store.folders import LocalFolder, open_folder
from deponij.store.leases import LEASE_S
from deponij.store.presence import WriterLock, tidying, way_of, why_leases
from deponij.store.upkeep import inspection as upkeep

CODES = ("ENOLCK", "EOPNOTSUPP", "ENOSYS")


@pytest.fixture(params=[*CODES, "asked"])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """No kernel lock in this process: the file system says so, or the user."""
    if request.param == "asked":
        monkeypatch.setenv("DEPONIJ_LOCKS", "leases")
        return "asked"
    real = fcntl.flock

    def refuse(descriptor: int, operation: int) -> None:
        if "writers" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(getattr(errno, request.param), "no locks here")
        real(descriptor, operation)

    monkeypatch.setattr("deponij.store.locks.fcntl.flock", refuse)
    return str(request.param)


def present(depot: Path) -> list[str]:
    return sorted(one.name for one in (depot / "writers").iterdir())


def an_hour_ago(path: Path) -> None:
    then = time.time() - 3600
    os.utime(path, (then, then))


def test_writers_and_tidying(tmp_path: Path, without_locks: str) -> None:
    depot = tmp_path / "depot"
    store = FeatureStore(depot, create=True)
    assert way_of(store.folder) == "leases"
    fill(store, range(20))
    with WriterLock(store.folder) as lock:
        assert present(depot) == [f"{lock.token}.lease"]
        part = depot / CLIP.fingerprint / f"{lock.token}-000000.h5"
        part.write_bytes(b"about to be committed")
        assert FeatureStore(depot).sweep() == []
    assert FeatureStore(depot).sweep() == [f"{CLIP.fingerprint}/{part.name}"]
    before = dump(store)
    upkeep.compact(store)
    assert dump(FeatureStore(depot)) == before
    with tidying(store.folder), pytest.raises(StoreError, match="another process is compacting"):
        upkeep.compact(FeatureStore(depot))
    upkeep.gc(store, set(keys_of(range(5))), dry_run=False)
    assert FeatureStore(depot).keys(CLIP) == sorted(keys_of(range(5)))


def _fill_more(depot: Path, step: int) -> None:
    fill(FeatureStore(depot), range(4 * step, 4 * step + 4))


def test_what_a_kill_leaves_is_buried_when_its_lease_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPONIJ_LOCKS", "leases")
    depot, step = tmp_path / "depot", 1
    FeatureStore(depot, create=True)
    while die_at_step(partial(_fill_more, depot, step), step):
        for path in (depot / "writers").iterdir():
            an_hour_ago(path)
        store = FeatureStore(depot)
        store.sweep()
        store.sweep()
        assert store.orphans() == []
        assert [name for name in present(depot) if not name.endswith((".part", ".dead"))] == []
        step += 1
    assert step > 5
    assert [name for name in present(depot) if name.endswith(".part")] == []


def test_a_lease_that_is_over_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPONIJ_LOCKS", "leases")
    store = FeatureStore(tmp_path / "depot", create=True)
    left = tmp_path / "depot" / "writers" / "tidying.000007.lease"
    left.parent.mkdir(exist_ok=True)
    left.write_text(json.dumps({"holder": "dead.1.00000000", "lease_s": LEASE_S, "released": False}))
    with pytest.raises(StoreError, match=r"dead\.1\.00000000.*if it is dead, for 1[0-9]{2} s"):
        upkeep.compact(store)
    an_hour_ago(left)
    with tidying(store.folder):
        assert present(tmp_path / "depot") == ["tidying-dead.1.00000000.dead", "tidying.000008.lease"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"holder": 1}', '{"holder": "../../x"}'])
def test_a_lease_that_cannot_be_understood_counts_from_its_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("DEPONIJ_LOCKS", "leases")
    store = FeatureStore(tmp_path / "depot", create=True)
    left = tmp_path / "depot" / "writers" / "tidying.000001.lease"
    left.parent.mkdir(exist_ok=True)
    left.write_text(text)
    with pytest.raises(StoreError, match="another process"):
        upkeep.compact(store)
    an_hour_ago(left)
    upkeep.compact(store)


def test_whoever_was_held_up_between_looking_and_creating_stands_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPONIJ_LOCKS", "leases")
    FeatureStore(tmp_path / "depot", create=True)
    folder, others = open_folder(tmp_path / "depot"), open_folder(tmp_path / "depot")
    real, passed = folder.create, []

    def create(name: str, data: bytes) -> bool:
        # Two others have come and gone in the meantime, the second of which has cleared away the name that is free now.
        for _ in range(2):
            with tidying(others):
                passed.append(name)
        return real(name, data)

    monkeypatch.setattr(folder, "create", create)
    with pytest.raises(StoreError, match="another process"), tidying(folder):
        pytest.fail("two at once")
    assert len(passed) == 2
    with tidying(others):
        pass


def test_locks_and_leases_respect_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose file system has locks, and one whose has none, in one folder."""
    store = FeatureStore(tmp_path / "depot", create=True)
    with tidying(store.folder):
        monkeypatch.setenv("DEPONIJ_LOCKS", "leases")
        with pytest.raises(StoreError, match="a process on a machine with locks"):
            upkeep.compact(store)
    with tidying(store.folder):
        monkeypatch.delenv("DEPONIJ_LOCKS")
        with pytest.raises(StoreError, match="another process is compacting"):
            upkeep.compact(store)
    monkeypatch.setenv("DEPONIJ_LOCKS", "leases")
    with store.writer(CLIP, {}) as writer:
        assert writer._lock is not None
        part = tmp_path / "depot" / CLIP.fingerprint / f"{writer._lock.token}-000000.h5"
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(b"")
        monkeypatch.delenv("DEPONIJ_LOCKS")
        assert FeatureStore(tmp_path / "depot").sweep() == []


def test_where_locks_work_there_are_no_leases(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "depot", create=True)
    assert way_of(store.folder) == "locks"
    fill(store, range(3))
    upkeep.compact(store)
    assert present(tmp_path / "depot") == []


def test_a_way_that_there_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPONIJ_LOCKS", "files")
    with pytest.raises(UsageError, match="DEPONIJ_LOCKS is locks or leases"):
        upkeep.compact(FeatureStore(tmp_path / "depot", create=True))


MOUNTED = {
    "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw": None,
    "2 1 0:50 / {there} rw - nfs4 server:/x rw,vers=4.2,local_lock=none": None,
    "3 1 0:51 / {there} rw shared:7 - nfs server:/x rw,vers=3,nolock,addr=10.0.0.1": "as nfs with nolock",
    "4 1 0:52 / {there} rw - nfs server:/x rw,vers=3,local_lock=all": "as nfs with local_lock=all",
    "5 1 0:53 / {there} rw - lustre server:/x rw,flock": None,
    "6 1 0:54 / {there} rw - lustre server:/x rw,localflock": "as lustre with localflock",
    "7 1 0:55 / {there} rw - fuse.sshfs user@server:/x rw,user_id=0": "as fuse.sshfs:",
    "8 1 0:56 / {there} rw - fuse.glusterfs server:/x rw,user_id=0": None,
    "9 1 0:57 / /elsewhere rw - nfs server:/x rw,nolock": None,
}


@pytest.mark.parametrize("line", MOUNTED)
def test_mounts_whose_locks_other_machines_do_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    there = tmp_path / "with a blank"
    told = tmp_path / "mountinfo"
    point = str(there).replace(" ", "\\040")
    told.write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n" + line.format(there=point) + "\n")
    monkeypatch.setattr("deponij.store.presence.why_locks_are_unseen", lambda path: _told(path, told))
    store = FeatureStore(there / "depot", create=True)
    assert isinstance(store.folder, LocalFolder)
    expected, found = MOUNTED[line], why_leases(store.folder)
    assert (found is None) == (expected is None)
    assert expected is None or (expected in (found or "") and str(there) in (found or ""))
    assert way_of(store.folder) == ("locks" if expected is None else "leases")
    with store.writer(CLIP, {}):
        (held,) = present(there / "depot")
        assert held.endswith(".lock" if expected is None else ".lease")
    monkeypatch.setenv("DEPONIJ_LOCKS", "locks")
    assert way_of(store.folder) == "locks"


def _told(path: Path, mounts_file: Path) -> str | None:
    return mounts.why_locks_are_unseen(path, mounts_file)


def test_links_and_locks_are_lacking_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many file systems that have no locks have no hard links either."""
    monkeypatch.setenv("DEPONIJ_LOCKS", "leases")

    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = FeatureStore(tmp_path / "depot", create=True)
    fill(store, range(10))
    with tidying(store.folder), pytest.raises(StoreError, match="another process is compacting"):
        upkeep.compact(store)
    assert upkeep.compact(store).n_shards_after == 1
    assert len(dump(store)[CLIP.fingerprint]) == 10


def test_a_run_on_a_disk_without_locks_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("deponij.store.locks.fcntl.flock", refuse)
    with pytest.raises(
        StoreError, match=r"cannot write .*a\.json.*a depot can lie on it, a run needs another disk"
    ):
        write_bytes(tmp_path / "a.json", b"{}")


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    """No thread that renews a lease outlives its block."""
    yield
    import threading

    assert [thread.name for thread in threading.enumerate() if thread.name == "lease"] == []
    assert leases.LEASE_S == LEASE_S
