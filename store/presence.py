"""Who is at work in a depot: writers, and the one process that takes shards away.

Files that are not yet committed carry their writer's token in their name, so that what a dead process left behind can
be told from what a living one is about to commit. Where the kernel's locks work, they say who lives
(`deponij.store.locks`): they end with their process, however it ends. In object stores, and on file systems without
locks, leases do (`deponij.store.leases`). Each respects what the other has left: a lock that cannot be tested counts as
held.

On a network file system locks may work on each machine by itself. Where the mount's options tell (`deponij.store.mounts`:
NFS with `nolock` or `local_lock`, say) leases are taken; where nothing tells, DEPONIJ_LOCKS=leases says it.
"""

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from deponij.store.errors import StoreError, UsageError, explained
from deponij.store.folders import Folder, LocalFolder
from deponij.store.leases import MARKS_STAY_S, Lease, TidyingLease, folder_now_s, mark_of, read_holder
from deponij.store.locks import NO_LOCKS, hold, release
from deponij.store.mounts import why_locks_are_unseen

LOCKS = "writers"
# Of files of writers that have left neither lock nor lease, in an object store: those of older versions have none.
ORPHAN_AGE_S = 24 * 3600.0
_TIDYING = "tidying"
_VARIABLE = "DEPONIJ_LOCKS"

Way = Literal["locks", "leases"]


class _NoLocksError(Exception):
    """The file system has none."""


def way_of(folder: Folder) -> Way:
    """How presence is told in a depot; tried where it must be.

    Raises:
        UsageError: DEPONIJ_LOCKS is neither `locks` nor `leases`.
        StoreError: nothing can be written there.
    """
    if not isinstance(folder, LocalFolder) or why_leases(folder):
        return "leases"
    if os.environ.get(_VARIABLE):
        return "locks"
    probe = folder.path / LOCKS / f"{_new_token()}.lock"
    try:
        held = _hold_in_depot(probe)
    except _NoLocksError:
        return "leases"
    finally:
        probe.unlink(missing_ok=True)
    if held is not None:
        release(held)
    return "locks"


def why_leases(folder: LocalFolder) -> str | None:
    """Why leases are taken in a local folder without trying its locks; None where they are tried.

    Raises:
        UsageError: DEPONIJ_LOCKS is neither `locks` nor `leases`.
    """
    asked = os.environ.get(_VARIABLE, "")
    if asked == "leases":
        return f"{_VARIABLE}={asked}"
    if asked == "locks":
        return None
    if asked:
        raise UsageError(f"{_VARIABLE} is locks or leases, got {asked!r}")
    return why_locks_are_unseen(folder.path)


def why_no_locks(folder: Folder) -> str | None:
    """Why leases stand for locks in a local folder; None where locks hold, and of object stores.

    Raises:
        UsageError, StoreError: as `way_of`.
    """
    if not isinstance(folder, LocalFolder):
        return None
    if why := why_leases(folder):
        return why
    return None if way_of(folder) == "locks" else "its file system has no locks"


class WriterLock:
    """A writer's presence in a depot, and the token that its files carry."""

    def __init__(self, folder: Folder) -> None:
        self.token = _new_token()
        self._folder = folder
        self._path = folder.path / LOCKS / f"{self.token}.lock" if isinstance(folder, LocalFolder) else None
        self._held: int | None = None
        self._lease: Lease | None = None

    def __enter__(self) -> Self:
        if self._path is not None and isinstance(self._folder, LocalFolder) and not why_leases(self._folder):
            try:
                self._held = _hold_in_depot(self._path)
                return self
            except _NoLocksError:
                self._path.unlink(missing_ok=True)
        self._lease = Lease(self._folder, f"{LOCKS}/{self.token}.lease", self.token).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None and self._held is not None:
            self._path.unlink(missing_ok=True)
            release(self._held)
            self._held = None
        if self._lease is not None:
            # What went wrong in the block is what has to be told; a lease that stays is over soon.
            with suppress(StoreError):
                self._lease.__exit__(kind, error, trace)
            self._lease = None

    def check(self) -> None:
        """See that nobody can have taken this process for dead; before a commit.

        Raises:
            StoreError: somebody can. Kernel locks are never lost.
        """
        if self._lease is not None:
            self._lease.check()

    def confirm(self, *, lately: bool = False) -> None:
        """See in the depot that nobody has taken this process for dead; after a commit, and before shards go.

        Args:
            lately: an answer of the last two seconds does.

        Raises:
            LeaseLostError: somebody has, or may have.
        """
        if self._lease is not None:
            self._lease.confirm(lately=lately)


@contextmanager
def tidying(folder: Folder, token: str = "") -> Iterator[None]:
    """Be the only process that takes shards away; writers and readers go on.

    Args:
        token: what the shards carry that are put in the place of others.

    Raises:
        StoreError: another process is tidying this depot.
    """
    with ExitStack() as stack:
        if way_of(folder) == "leases":
            if isinstance(folder, LocalFolder) and (folder.path / LOCKS / f"{_TIDYING}.lock").exists():
                raise StoreError(
                    f"{folder.path / LOCKS / _TIDYING}.lock says that a process on a machine with locks is tidying this "
                    "depot; wait for it to end, or delete that file if there is none"
                )
            stack.enter_context(TidyingLease(folder, LOCKS, token or _new_token()))
            _forget_marks(folder)
        else:
            assert isinstance(folder, LocalFolder)
            path = folder.path / LOCKS / f"{_TIDYING}.lock"
            held = _hold_in_depot(path)
            if held is None:
                raise StoreError(
                    f"another process is compacting, collecting or repairing {folder.path}; wait for it to end"
                )
            stack.callback(release, held)
            stack.callback(path.unlink, missing_ok=True)
            _refuse_living_lease(folder)
        yield


def _refuse_living_lease(folder: LocalFolder) -> None:
    """A machine without locks may be tidying the same folder."""
    names = [one.name for one in sorted((folder.path / LOCKS).glob(f"{_TIDYING}.*.lease"))]
    if names:
        holder = read_holder(folder, f"{LOCKS}/{names[-1]}", folder_now_s(folder, LOCKS, _new_token()))
        if holder is not None and holder.is_alive:
            raise StoreError(
                f"another process is compacting, collecting or repairing {folder.path}: {holder.token}; wait for it to end"
            )


@dataclass
class Presence:
    """Which writers live, and which are dead for sure.

    Attributes:
        living: tokens.
        dead: of leases that are over.
        untold: what is known of no other token is its files' age.
    """

    living: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    untold: bool = False

    def is_dead(self, token: str | None, age_s: float) -> bool:
        """Whether a writer's uncommitted file of this age is left behind."""
        if token in self.living:
            return False
        return token in self.dead or not self.untold or age_s > ORPHAN_AGE_S


@contextmanager
def burying(folder: Folder, names: Sequence[str] | None = None) -> Iterator[Presence]:
    """Know the living from the dead while the block removes what these left; then forget the dead.

    Locks of dead writers are held meanwhile, so that nobody else removes the same. A token of a local folder that has
    neither lock nor lease is dead; in an object store it may be of an older version, and age decides.

    Args:
        names: of the folder's files, where they are known.
    """
    presence, locks = Presence(untold=not isinstance(folder, LocalFolder)), dict[Path, int]()
    leases = _leases_of_writers(folder, names)
    try:
        if isinstance(folder, LocalFolder):
            _test_locks(folder, presence, locks)
        _judge_leases(folder, leases, presence)
        yield presence
    finally:
        for path, held in locks.items():
            path.unlink(missing_ok=True)
            release(held)
        for name, token in leases.items():
            if token in presence.dead:
                with suppress(StoreError):
                    folder.delete(name)


def _judge_leases(folder: Folder, leases: dict[str, str], presence: Presence) -> None:
    if not leases:
        return
    try:
        now_s = folder_now_s(folder, LOCKS, _new_token())
    except StoreError:
        # Who may only read here has nothing to bury.
        presence.living |= set(leases.values())
        return
    for name, token in leases.items():
        holder = read_holder(folder, name, now_s)
        if holder is not None and holder.is_alive:
            presence.living.add(token)
            continue
        if holder is not None and not holder.released:
            # From here on it finds out, should it come back.
            folder.write(mark_of(name, token), b"{}")
        presence.dead.add(token)


def tidiers_taken_over(folder: Folder) -> set[str]:
    """Tokens of those whose lease was over while they took shards away.

    They may come back, and then remove what they had put other shards in the place of.
    """
    start, end = f"{LOCKS}/tidying-", ".dead"
    return {name[len(start) : -len(end)] for name in _marks(folder) if name.startswith(start)}


def _forget_marks(folder: Folder) -> None:
    """Marks of the dead that nobody can be held up by any more."""
    marks = _marks(folder)
    now_s = folder_now_s(folder, LOCKS, _new_token()) if marks else 0.0
    for name in marks:
        with suppress(FileNotFoundError):
            if now_s - folder.modified_s(name) > MARKS_STAY_S:
                folder.delete(name)


def _marks(folder: Folder) -> list[str]:
    return [name for name in folder.names(LOCKS) if name.endswith(".dead")]


def _test_locks(folder: LocalFolder, presence: Presence, locks: dict[Path, int]) -> None:
    for path in sorted((folder.path / LOCKS).glob("*.lock")):
        try:
            held = hold(path, create=False)
        except FileNotFoundError:
            continue
        except OSError:
            # Not ours to judge: a depot of another user, one that is read-only, or without locks here.
            held = None
        if held is None:
            presence.living.add(path.stem)
        else:
            locks[path] = held


def _leases_of_writers(folder: Folder, names: Sequence[str] | None) -> dict[str, str]:
    """File -> token."""
    names = folder.names() if names is None else names
    names = [name for name in names if name.startswith(f"{LOCKS}/") and name.endswith(".lease")]
    tokens = {name: name.removeprefix(f"{LOCKS}/").removesuffix(".lease") for name in names}
    return {name: token for name, token in tokens.items() if not token.startswith(f"{_TIDYING}.")}


def _hold_in_depot(path: Path) -> int | None:
    with explained(f"cannot write to the depot: {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return hold(path)
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise _NoLocksError from error
            raise


def _new_token() -> str:
    host = "".join(c if c.isalnum() and c.isascii() else "-" for c in socket.gethostname())
    return f"{host[:24] or 'host'}.{os.getpid()}.{secrets.token_hex(4)}"
