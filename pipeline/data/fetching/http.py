"""Getting one file over HTTP from a host that may misbehave: whole, checked, resumable.

A transfer goes to `NAME.part` with `NAME.part.json` beside it (where it comes from and by which
validator a rest may be asked for); only a body that passed its check is flushed and renamed to NAME.
What lives elsewhere: which files a data set needs, and what is done about those that cannot be had
(`deponij.pipeline.data.fetching.dataset`).

Retries are a loop of ours: what passes has budgets of its own by kind (no connection, damaged, refused for a while), a
pause that a host asks for holds up all its transfers, and `stop` wakes whoever sleeps; of a library such as tenacity
nothing but the loop would be left.

Sources: RFC 9110, sections 10.2.3 (Retry-After), 13.1.5 (If-Range), 14 (ranges).
"""

import email.utils
import errno
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from deponij.store.atomic import publish
from deponij.store.errors import DataError, PictureError

USER_AGENT = "deponij (fetches research data sets)"
# Every other 4xx is final.
RETRIED_STATUS = frozenset({408, 421, 425, 429})
# A host that cannot be reached at all is asked fewer times than one that answers badly.
CONNECT_RETRIES = 2
# After this many files in a row that found no connection, the host is given up.
DEAD_AFTER_FILES = 5
# A body that is whole but damaged is fetched once more, from its beginning.
DAMAGED_RETRIES = 1
GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard hosts are pressed.

    Attributes:
        per_host: requests under way at one host at any time.
        backoff_s: first pause after a failed attempt; it doubles each time, and each pause is
            drawn from its upper half so that clients do not march in step.
        backoff_cap_s: longest pause of our own choosing.
        retry_after_cap_s: longest pause that a host's Retry-After is granted.
        min_bytes_per_s: slower transfers are broken off after `GRACE_S` and resumed.
    """

    per_host: int = 4
    backoff_s: float = 1.0
    backoff_cap_s: float = 30.0
    retry_after_cap_s: float = 120.0
    min_bytes_per_s: float = 1024.0


class GaveUpError(Exception):
    """The file cannot be had; the run goes on without it."""

    def __init__(self, reason: str, n_attempts: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.n_attempts = n_attempts


class StoppedError(Exception):
    """The whole run is ending; nothing is wrong with this file."""


class WrongContentError(PictureError):
    """The body is sound but not the one that was asked for; asking again would not help."""


class _RefusedError(Exception):
    """An answer that no repetition changes."""


class _PassingError(Exception):
    """An attempt that failed in a way that may pass."""

    def __init__(self, reason: str, *, pause_s: float = 0.0, most: int | None = None, offline: bool = False):
        super().__init__(reason)
        self.pause_s = pause_s
        self.most = most
        self.offline = offline


@dataclass
class _Host:
    """What all transfers from one host share."""

    slots: threading.Semaphore
    quiet_until: float = 0.0
    n_offline: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Downloader:
    """Fetches files from any threads; close it, or use it as a context manager.

    Args:
        timeout_s: longest wait for a connection, or for the next bytes of a body.
        retries: attempts after the first.
        pace: see `Pace`.
        max_bytes: a larger file is refused, also one whose length the host does not state.
    """

    def __init__(self, *, timeout_s: float, retries: int, pace: Pace, max_bytes: int | None = None) -> None:
        self._retries = retries
        self._max_bytes = max_bytes
        self._pace = pace
        self._stop = threading.Event()
        self._hosts: dict[str, _Host] = {}
        self._hosts_lock = threading.Lock()
        # identity: lengths and ranges then speak of the bytes that are kept.
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=True, headers=headers)

    def __enter__(self) -> "Downloader":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def stop(self) -> None:
        """Make all transfers end soon, with `StoppedError`; what has arrived stays for the next run."""
        self._stop.set()

    def fetch(self, url: str, target: Path, check: Callable[[bytes], None]) -> bytes:
        """Bring one URL to `target`, over as many attempts as it takes and is allowed; its bytes.

        Args:
            url: http or https.
            target: where the file shall lie; its folder is made.
            check: given the whole body; raises `WrongContentError` where another attempt would be in
                vain, another `PictureError` where the body is damaged.

        Raises:
            GaveUpError: with the last attempt's reason.
            StoppedError: after `stop`.
            DataError: nothing can be written at `target`.
        """
        host_name = _host_name(url)
        host = self._host(host_name)
        partial = Partial(target)
        n_damaged = 0
        n_attempts = 0
        while True:
            if host.n_offline >= DEAD_AFTER_FILES:
                raise GaveUpError(f"host {host_name} cannot be reached; not tried again", n_attempts)
            n_attempts += 1
            try:
                with self._turn(host):
                    self._transfer(url, partial)
                host.n_offline = 0
                return partial.finish(check)
            except (_RefusedError, WrongContentError) as error:
                partial.discard()
                raise GaveUpError(str(error), n_attempts) from error
            except PictureError as error:
                partial.discard()
                n_damaged += 1
                if n_damaged > DAMAGED_RETRIES or n_attempts > self._retries:
                    raise GaveUpError(str(error), n_attempts) from error
                self._pause(self._backoff(n_attempts))
            except _PassingError as error:
                most = self._retries if error.most is None else min(error.most, self._retries)
                if n_attempts > most:
                    host.n_offline += error.offline
                    raise GaveUpError(str(error), n_attempts) from error
                if error.pause_s:
                    host.quiet_until = max(host.quiet_until, time.monotonic() + error.pause_s)
                self._pause(self._backoff(n_attempts))
            except OSError as error:
                raise cannot_write(target, error) from error

    def _host(self, name: str) -> _Host:
        with self._hosts_lock:
            return self._hosts.setdefault(name, _Host(threading.Semaphore(self._pace.per_host)))

    @contextmanager
    def _turn(self, host: _Host) -> Iterator[None]:
        """Wait for a free place at the host and for the end of a pause that it asked for."""
        with host.slots:
            while (wait_s := host.quiet_until - time.monotonic()) > 0:
                self._pause(wait_s)
            if self._stop.is_set():
                raise StoppedError
            yield

    def _backoff(self, n_attempts: int) -> float:
        longest = min(self._pace.backoff_cap_s, self._pace.backoff_s * 2.0 ** (n_attempts - 1))
        return longest * random.uniform(0.5, 1.0)  # jitter; nothing that is kept depends on it

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise StoppedError

    def _transfer(self, url: str, partial: "Partial") -> None:
        """One request; on return the partial file holds a body of the promised length."""
        start = partial.resume(url)
        headers = {"Range": f"bytes={start}-", "If-Range": partial.validator} if start else {}
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                start, n_total = self._judge(response, partial, start)
                self._refuse_large(n_total or 0)
                partial.begin(url, _validator(response), start)
                self._receive(response, partial, start, n_total)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _PassingError(f"no connection: {error}", most=CONNECT_RETRIES, offline=True) from error
        except httpx.TimeoutException as error:
            raise _PassingError("the host fell silent (time-out)") from error
        except httpx.TransportError as error:
            raise _PassingError(f"connection broken: {error}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _RefusedError(f"request failed: {error}") from error

    def _judge(self, response: httpx.Response, partial: "Partial", start: int) -> tuple[int, int | None]:
        """Where the body begins and how long the whole file is; an answer that has none raises."""
        status = response.status_code
        if status == 416:
            partial.discard()
            raise _PassingError("the host no longer has the rest of this file (status 416)")
        if status in RETRIED_STATUS or status >= 500:
            pause_s = min(_retry_after(response.headers.get("Retry-After")), self._pace.retry_after_cap_s)
            raise _PassingError(f"status {status} {response.reason_phrase}".rstrip(), pause_s=pause_s)
        if status not in (200, 206):
            raise _RefusedError(f"status {status} {response.reason_phrase}".rstrip())
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise _RefusedError("the host sent an HTML page instead of the file")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _RefusedError("the host compressed the body, though asked not to")
        length = response.headers.get("Content-Length", "")
        n_body = int(length) if length.isdigit() else None
        if status == 200:
            return 0, n_body
        matched = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
        changed = partial.validator != (_validator(response) or partial.validator)
        if not start or matched is None or int(matched[1]) != start or changed:
            partial.discard()
            raise _PassingError("the host sent another part of the file than was asked for")
        n_total = int(matched[2]) + 1 if matched[3] == "*" else int(matched[3])
        return start, n_total

    def _refuse_large(self, n_bytes: int) -> None:
        if self._max_bytes is not None and n_bytes > self._max_bytes:
            raise _RefusedError(f"the file is too large: over {self._max_bytes:,} bytes")

    def _receive(self, response: httpx.Response, partial: "Partial", start: int, n_total: int | None) -> None:
        began = time.monotonic()
        n_got = start
        with partial.path.open("r+b" if start else "wb") as file:
            file.seek(start)
            for chunk in response.iter_raw():
                if n_got == 0 and chunk.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
                    raise _RefusedError("the host sent an HTML page instead of the file")
                file.write(chunk)
                n_got += len(chunk)
                self._refuse_large(n_got)
                if self._stop.is_set():
                    raise StoppedError
                elapsed_s = time.monotonic() - began
                if elapsed_s > GRACE_S and (n_got - start) / elapsed_s < self._pace.min_bytes_per_s:
                    raise _PassingError("the host sends too slowly")
        if n_total is not None and n_got != n_total:
            if n_got > n_total:
                partial.discard()
            raise _PassingError(f"truncated: {n_got:,} of {n_total:,} bytes arrived")


class Partial:
    """The unfinished form of one file, which outlives the process."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._record = target.with_name(target.name + ".part.json")
        self.validator = ""

    def resume(self, url: str) -> int:
        """Bytes that can be kept: those of this URL under a validator that If-Range can name, else 0."""
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            n_there = self.path.stat().st_size
        except (FileNotFoundError, ValueError):
            return 0
        if not isinstance(record, dict) or record.get("url") != url or not record.get("validator"):
            return 0
        self.validator = str(record["validator"])
        return n_there

    def begin(self, url: str, validator: str, start: int) -> None:
        """Note where the bytes to come are from, before the first of them is written."""
        if start:
            return
        self.target.parent.mkdir(parents=True, exist_ok=True)
        # The old bytes go first: a kill between the two steps must not pair them with the new record.
        self.path.write_bytes(b"")
        self._record.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def finish(self, check: Callable[[bytes], None]) -> bytes:
        """Check the whole body and make it the file; the body."""
        body = self.path.read_bytes()
        check(body)
        publish(self.path, self.target)
        self._record.unlink(missing_ok=True)
        return body

    def discard(self) -> None:
        """Leave nothing behind."""
        self._record.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> DataError:
    """What to tell a user whose disk does not take a file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"no space left for {path}; free some and run this again: what has arrived is kept")
    return DataError(f"cannot write {path}: {error.strerror or error}; mend that and run this again")


def host_of(url: str) -> str:
    """Host and port of an address, in lower case; empty where it has none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _host_name(url: str) -> str:
    name = host_of(url)
    if not name or not url.lower().startswith(("http://", "https://")):
        raise GaveUpError(f"not an http or https address: {url!r}", 0)
    return name


def _validator(response: httpx.Response) -> str:
    """What If-Range can hold: a strong ETag, else the date of the last change, else nothing."""
    tag: str = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    changed: str = response.headers.get("Last-Modified", "")
    return changed


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or as an HTTP date; 0 where unreadable."""
    if value is None:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
