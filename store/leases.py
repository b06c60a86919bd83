"""Leases: files that say who is at work where no kernel lock can, in an object store or on a file system without them.

    writers/<token>.lease           of a writer; nobody else writes that name
    writers/tidying.<n>.lease       of who takes shards away: the highest n counts
    writers/<token>.dead            this writer's lease was over, and a sweep took it for dead
    writers/tidying-<token>.dead    this one's lease was over while it took shards away, and another took over

A lease is renewed by a thread of its holder; one that was not renewed for as long as it says is over. Ages are told by
the clock of the medium alone: a file written now against one written then. To take a lease over is to *create* the next
number, which of several processes one only can do (S3: `If-None-Match: *`; a local file: a second name). Whoever was
held up between looking and creating finds a higher number afterwards, and stands back; so the last number stays as a
file, marked as given back.

A holder that stands still for longer than its lease (a machine that was frozen, a request that was long on its way) is
taken for dead, and comes back in the middle of what it did. No lease prevents that; what makes it harmless:

- A death is marked, in a file of its own that no late renewal can undo, *before* anything is done about it. So a writer
  that finds no mark of its own *after* it has written a sidecar is safe: whoever takes it for dead later finds the sidecar,
  and leaves the shard alone. One that finds a mark takes its sidecar back, since its file may be gone, and commits
  the rows again under another name (`confirm`; `deponij.store.writer`).
- Who could not renew in time is dead to itself (`check`), by its own clock, sooner than it is for others.
- Who takes shards away confirms right before each; what is left is a removal that was sent and arrives late. It removes
  what its sender has replaced. So what a tidier that was taken over has put in the place of others stays, and counts
  for nothing in the next `compact`, until its mark goes (`deponij.store.upkeep.tidying`).

Marks go after a week, when no request can still be on its way. All this asks of the store that what was written is
listed and read by everybody at once, as S3, GCS and Azure promise.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from deponij.store.errors import StoreError

if TYPE_CHECKING:
    from types import TracebackType

    from deponij.store.folders import Folder

LEASE_S = 120.0
MARKS_STAY_S = 7 * 24 * 3600.0
# An answer of the store counts so long, where many shards are taken away one after another.
_CONFIRMED_S = 2.0
_TOKEN = r"[A-Za-z0-9.-]{1,100}"
_RENEWALS = 4
# A holder that could not renew for this share of its lease takes it for lost: well before others do.
_LOST_AT = 0.75
_TIDYING = re.compile(r"(?P<folder>.+/)tidying\.(?P<number>\d{6})\.lease$")


def boot_s() -> float:
    """Seconds since the machine started, those in which it slept too."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lease says.

    Attributes:
        token: of the holder.
        age_s: since it was renewed.
        lease_s: for how long it counts.
        released: it was given back.
    """

    token: str
    age_s: float
    lease_s: float
    released: bool

    @property
    def is_alive(self) -> bool:
        """Whether the lease counts."""
        return not self.released and self.age_s < self.lease_s


def read_holder(folder: "Folder", name: str, now_s: float) -> Holder | None:
    """Who holds a lease; None where there is none. What cannot be understood counts from its age alone.

    Args:
        now_s: by the folder's clock; see `folder_now_s`.
    """
    try:
        age_s = now_s - folder.modified_s(name)
        data = folder.read(name)
    except FileNotFoundError:
        return None
    try:
        body = json.loads(data)
        if not re.fullmatch(_TOKEN, body["holder"]):
            raise ValueError(f"no token: {body['holder']!r}")
        return Holder(body["holder"], age_s, float(body["lease_s"]), bool(body["released"]))
    except (ValueError, KeyError, TypeError):
        return Holder("somebody", age_s, LEASE_S, released=False)


def mark_of(lease: str, token: str) -> str:
    """The file that says that the holder of a lease was taken for dead."""
    below, _, name = lease.rpartition("/")
    return f"{below}/tidying-{token}.dead" if name.startswith("tidying.") else f"{below}/{token}.dead"


def folder_now_s(folder: "Folder", below: str, token: str) -> float:
    """The time that the folder's medium would write on a file now, in seconds since 1970.

    Args:
        token: nobody else's; a kill leaves a lease of it that is given back.

    Raises:
        StoreError: nothing can be written there.
    """
    name = f"{below}/{token}.lease"
    folder.write(name, _body(token, LEASE_S, released=True))
    try:
        return folder.modified_s(name)
    finally:
        folder.delete(name)


def _body(token: str, lease_s: float, *, released: bool) -> bytes:
    body: dict[str, Any] = {"holder": token, "lease_s": lease_s, "released": released}
    return json.dumps(body).encode()


class Lease:
    """A lease that this process holds within its `with` block.

    Args:
        name: of its file; it must be free for us (see `next_tidying`).
        exclusively: create the file, and refuse where it is there.
    """

    def __init__(
        self,
        folder: "Folder",
        name: str,
        token: str,
        *,
        exclusively: bool = False,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = boot_s,
    ) -> None:
        self.folder, self.name, self.token = folder, name, token
        self._exclusively, self._lease_s, self._clock = exclusively, lease_s, clock
        self._renewed_at = 0.0
        self._is_lost = False
        self._confirmed_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        data = _body(self.token, self._lease_s, released=False)
        self._renewed_at = self._clock()
        if self._exclusively:
            if not self.folder.create(self.name, data):
                raise LeaseTakenError(
                    f"{self.folder.location}/{self.name} was taken by another process meanwhile"
                )
        else:
            self.folder.write(self.name, data)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._is_lost or self._is_late():
            return  # it may be somebody else's by now
        if self._exclusively:
            self.folder.write(self.name, _body(self.token, self._lease_s, released=True))
        else:
            self.folder.delete(self.name)

    def check(self) -> None:
        """See that the lease is still held, before something is committed or taken away.

        Raises:
            LeaseLostError: this process was stopped, or could not reach the depot, for so long that others may have
                taken it for dead.
        """
        if self._is_late():
            self._is_lost = True
        if self._is_lost:
            raise LeaseLostError(
                f"this process could not say for {_LOST_AT * self._lease_s:.0f} seconds that it is at work in "
                f"{self.folder.location} (it was stopped, or the connection was lost), so that others may have taken it for "
                "dead; run the same command again: what is committed is kept"
            )

    def confirm(self, *, lately: bool = False) -> None:
        """See in the depot that nobody has taken this process for dead.

        Args:
            lately: an answer of the last two seconds does.

        Raises:
            LeaseLostError: somebody has, or may have.
        """
        self.check()
        began = self._clock()
        if lately and began - self._confirmed_at < _CONFIRMED_S:
            return
        below = self.name.rpartition("/")[0]
        marks = {f"{below}/{self.token}.dead", f"{below}/tidying-{self.token}.dead"}
        if marks & set(self.folder.names(below)):
            self._is_lost = True
            self.check()
        self._confirmed_at = began

    def renew(self) -> None:
        """Say that this process is at work; called by its thread."""
        if self._is_late():
            self._is_lost = True
        if self._is_lost:
            return
        now = self._clock()
        self.folder.write(self.name, _body(self.token, self._lease_s, released=False))
        self._renewed_at = now

    def _is_late(self) -> bool:
        return self._clock() - self._renewed_at > _LOST_AT * self._lease_s

    def _keep(self) -> None:
        while not self._stop.wait(self._lease_s / _RENEWALS):
            try:
                self.renew()
            except StoreError:
                continue  # tried again in a while; `check` knows for how long it could not be said


class LeaseLostError(StoreError):
    """Others may have taken this process for dead."""


class LeaseTakenError(StoreError):
    """Of several processes another one was first."""


class TidyingLease(Lease):
    """The lease of who takes shards away, of a folder's `writers`.

    Raises:
        StoreError: another process holds it; the message says who, and since when it has not been renewed.
    """

    def __init__(self, folder: "Folder", below: str, token: str, **more: Any) -> None:
        self._below = below
        super().__init__(folder, "", token, exclusively=True, **more)

    def __enter__(self) -> Self:
        numbers = self._numbers()
        last = max(numbers, default=0)
        if last:
            holder = read_holder(
                self.folder, numbers[last], folder_now_s(self.folder, self._below, self.token)
            )
            if holder is not None and holder.is_alive:
                raise self._refusal(holder)
            if holder is not None and not holder.released:
                # From here on it finds out, should it come back.
                self.folder.write(mark_of(numbers[last], holder.token), b"{}")
        self.name = f"{self._below}/tidying.{last + 1:06d}.lease"
        try:
            super().__enter__()
        except LeaseTakenError as error:
            raise StoreError(_BUSY.format(self.folder.location) + "; wait for it to end") from error
        later = self._numbers()
        if max(later) > last + 1:
            # Held up between looking and creating: somebody has been here and gone since.
            self._stop.set()
            self.folder.delete(self.name)
            raise StoreError(_BUSY.format(self.folder.location) + "; try again")
        for number, name in later.items():
            if number <= last:
                self.folder.delete(name)
        return self

    def _numbers(self) -> dict[int, str]:
        matches = (_TIDYING.match(name) for name in self.folder.names())
        return {int(one["number"]): one[0] for one in matches if one and one["folder"] == f"{self._below}/"}

    def _refusal(self, holder: Holder) -> StoreError:
        return StoreError(
            f"{_BUSY.format(self.folder.location)}: {holder.token}, which said so {max(0.0, holder.age_s):.0f} s ago; "
            f"wait for it to end, or, if it is dead, for {holder.lease_s - holder.age_s:.0f} s"
        )


_BUSY = "another process is compacting, collecting or repairing {}"
