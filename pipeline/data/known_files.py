"""Picture files that were looked at before: what is known of each by path, size, times and inode, without reading it.

A SQLite file of this user's, for any number of processes; it can be deleted at any time, and where it cannot be written
everything is read again. Each row carries a checksum, so that damage makes a file unknown and nothing else. A file that
had changed within two seconds before it was recorded is not known by its times: it may change again within the same tick
of a file system's clock, as with git's index (https://git-scm.com/docs/racy-git).
"""

import hashlib
import os
import sqlite3
import threading
from collections.abc import Collection
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import PIL

from deponij.store.keys import DECODERS

# Another layout of the table gets another name.
NAME = "known-pictures-1.sqlite"
# FAT keeps times to two seconds, all others finer.
RACY_NS = 2_000_000_000
_AT_ONCE = 500
_WAIT_S = 10.0
_TABLE = """
create table if not exists files (
  path text primary key, size_bytes integer, mtime_ns integer, ctime_ns integer, inode text, seen_ns integer,
  digest text, key text, width_px integer, height_px integer, phash text, made_by text, checksum text
) without rowid"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a picture's bytes: their number and digest (`deponij.store.references`), and what an item says."""

    size_bytes: int
    digest: str
    key: str
    width_px: int
    height_px: int
    phash: str


# Size, times of last changes, inode, time of recording, digest, key, width, height and perceptual hash.
_Row: TypeAlias = tuple[int, int, int, str, int, str, str, int, int, str]


class KnownFiles:
    """The files that are known, from any thread; close it, or use it as a context manager.

    Attributes:
        problem: why nothing is known or remembered (any more); None where all is well.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        # Whatever may give a picture another key, size or hash.
        self._made_by = f"1 {sorted(DECODERS.items())} Pillow {PIL.__version__}"
        self._lock = threading.Lock()
        self._new: list[tuple[object, ...]] = []
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._opened()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._write()
            if self._database is not None:
                self._database.close()
                self._database = None

    def by_status(self, path: Path, status: os.stat_result) -> Facts | None:
        """What is known of a file that has not changed since, as far as size, times and inode tell."""
        row = self._row(path)
        if row is None:
            return None
        size_bytes, mtime_ns, ctime_ns, inode, seen_ns = row[:5]
        same = (size_bytes, mtime_ns, ctime_ns, inode) == (*_times(status), _inode(status))
        if not same or seen_ns - max(mtime_ns, ctime_ns) < RACY_NS:
            return None
        return Facts(size_bytes, *row[5:])

    def by_digest(self, path: Path, digest: str) -> Facts | None:
        """What is known of a file whose bytes have this digest."""
        row = self._row(path)
        return None if row is None or row[5] != digest else Facts(row[0], *row[5:])

    def remember(self, path: Path, status: os.stat_result, seen_ns: int, facts: Facts) -> None:
        """Record a file.

        Args:
            status: from before it was read.
            seen_ns: the time of day before that.
        """
        size_bytes, *times = _times(status)
        if size_bytes != facts.size_bytes:
            # Somebody writes it.
            return
        row = (_name(path), size_bytes, *times, _inode(status), seen_ns, *astuple(facts)[1:], self._made_by)
        row = (*row, _checksum(row))
        with self._lock:
            self._new.append(row)
            if len(self._new) >= _AT_ONCE:
                self._write()

    def forget(self, keys: Collection[str], *, dry_run: bool = False) -> int:
        """Drop what is known of pictures, byte by byte; of how many files it was (or would be), none where there is a
        problem.
        """
        with self._lock:
            if self._database is None:
                return 0
            try:
                with self._database:
                    self._database.execute("pragma secure_delete = on")
                    self._database.execute("create temp table gone (key text primary key)")
                    self._database.executemany("insert into gone values (?)", [(key,) for key in keys])
                    query = "from files where key in (select key from gone)"
                    (n,) = self._database.execute(f"select count(*) {query}").fetchone()
                    if not dry_run:
                        self._database.execute(f"delete {query}")
                    self._database.execute("drop table gone")
                return int(n)
            except sqlite3.Error as error:
                self._give_up(error)
                return 0

    def _row(self, path: Path) -> _Row | None:
        with self._lock:
            if self._database is None:
                return None
            try:
                query = "select * from files where path = ? and made_by = ?"
                found = self._database.execute(query, (_name(path), self._made_by)).fetchone()
            except (sqlite3.Error, UnicodeDecodeError) as error:
                self._give_up(error)
                return None
        if found is None or _checksum(found[:-1]) != found[-1]:
            return None
        row: _Row = found[1:-2]
        return row

    def _write(self) -> None:
        rows, self._new = self._new, []
        if self._database is None or not rows:
            return
        try:
            with self._database:
                marks = ", ".join("?" * len(rows[0]))
                self._database.executemany(f"insert or replace into files values ({marks})", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def _opened(self) -> sqlite3.Connection:
        try:
            return _open(self.path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # Damaged, or something else: it is a cache.
            self.path.unlink()
            return _open(self.path)

    def _give_up(self, error: Exception) -> None:
        self.problem = f"{self.path}: {error}"
        if self._database is not None:
            self._database.close()
            self._database = None


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False)
    try:
        with database:
            database.execute(_TABLE)
        with closing(database.execute("select * from files limit 1")) as cursor:
            cursor.fetchall()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _checksum(row: tuple[object, ...]) -> str:
    return hashlib.blake2b(repr(row).encode(), digest_size=8).hexdigest()


def _name(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _inode(status: os.stat_result) -> str:
    # Of some file systems it has 64 bits, one more than SQLite's numbers.
    return f"{status.st_dev}:{status.st_ino}"
