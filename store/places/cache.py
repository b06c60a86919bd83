"""The cache of one depot on this machine: run files, and a manifest that names them and is replaced as a whole.

    <cache>/depots/<digest of machine and location>/manifest.json   sealed: versions, identities, runs, what is gone
                                                    <random>.run    see `deponij.store.places.run_file`
                                                    lock            held by whoever writes

Machines that share a home have each its own: over NFS a run file that one deletes is lost to another that has it open.
Nothing is flushed to the disk: what a loss of power spoils does not fit its checksum, and is made again from the
sidecars. Readers take no lock; a process that cannot have it, or cannot write here, goes on without.
"""

import base64
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deponij.store.atomic import PART
from deponij.store.caches import cache_folder, this_machine
from deponij.store.errors import StoreError
from deponij.store.folders import Stamps
from deponij.store.identity import Identity
from deponij.store.locks import WAIT_S, hold, release
from deponij.store.places.run_file import FileRun, RunFacts, TooWide, write_run
from deponij.store.places.runs import Level, joined, to_merge
from deponij.store.sealed import sealed, unsealed
from deponij.store.shard import FORMAT

logger = logging.getLogger(__name__)

VERSION = 1
_MANIFEST = "manifest.json"
_LOCK = "lock"
# Of a depot that has been gone for so long nothing is kept: a disk that is away may come back.
_GONE_S = 30 * 24 * 3600.0
# Each time a newer manifest may have replaced the run files that an older one names.
_ATTEMPTS = 5
_Stat = tuple[int, int, int]


@dataclass(frozen=True)
class Known:
    """What is known of a depot without reading it.

    Attributes:
        identities: by fingerprint.
        levels: the runs of each fingerprint.
        damaged: shards whose sidecars could not be read.
        stamps: of the depot's folders when they were last listed; None where they cannot be relied on.
    """

    identities: Mapping[str, Identity] = field(default_factory=dict)
    levels: Mapping[str, Sequence[Level]] = field(default_factory=dict)
    damaged: Sequence[str] = ()
    stamps: Stamps | None = None


class Cache:
    """Keeps what is known of one depot.

    Args:
        location: the depot's, the same for all ways to it.
        marker: what stands for the depot's making; another one at the same location is another depot.

    Attributes:
        is_on: false where nothing is to be kept, nor anything that was kept to be used.
    """

    def __init__(self, location: str, marker: str) -> None:
        self.is_on = True
        try:
            folder = cache_folder()
        except RuntimeError:
            # A user without a home.
            self.is_on, folder = False, Path(os.devnull)
        named = f"{this_machine()}\n{location}".encode("utf-8", "replace")
        self.path = folder / "depots" / hashlib.sha256(named).hexdigest()[:32]
        self._location = location
        self._marker = marker
        self._seen: _Stat | None = None

    def is_as_seen(self) -> bool:
        """Whether the manifest is the one that was last loaded or published here."""
        return self._seen == self._stat()

    @property
    def has_seen_any(self) -> bool:
        """Whether there was a manifest when it was last looked for."""
        return self._seen is not None

    def load(self) -> Known | None:
        """What was kept; None where that is nothing, damaged, of another version or of another depot."""
        for _ in range(_ATTEMPTS if self.is_on else 0):
            self._seen = self._stat()
            try:
                return self._known(unsealed((self.path / _MANIFEST).read_bytes()))
            except FileNotFoundError as error:
                if self._stat() == self._seen:
                    logger.debug("nothing kept of %s: %s", self._location, error)
                    return None
            except (OSError, StoreError, ValueError, KeyError, TypeError, AttributeError) as error:
                logger.debug("what was kept of %s is of no use: %r", self._location, error)
                return None
        return None

    def publish(self, known: Known) -> Known | None:
        """Keep what is known, in few runs; the same with all runs in files.

        None where another process is writing or has written since, or nothing can be written here; `known` holds as
        before.

        Raises:
            CacheDamaged: a run that should be merged cannot be read.
        """
        if not self.is_on:
            return None
        try:
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True)
                clear_gone(self.path.parent)
            held = hold(self.path / _LOCK)
        except OSError as error:
            logger.debug("not kept: %s", error)
            return None
        if held is None:
            return None
        try:
            return self._publish(known) if self.is_as_seen() else None
        except (OSError, TooWide) as error:
            logger.debug("not kept: %r", error)
            return None
        finally:
            release(held)

    def forget(self) -> bool:
        """Delete what is kept; whoever has it open goes on with it. Whether all of it is gone."""
        held = None
        with suppress(OSError):
            # Whoever is writing would put some of it back.
            held = hold(self.path / _LOCK, wait_s=WAIT_S)
        with suppress(OSError):
            (self.path / _MANIFEST).unlink()
        with suppress(OSError):
            self._clear({_LOCK})
        if held is not None:
            release(held)
        self._seen = self._stat()
        try:
            return {path.name for path in self.path.iterdir()} <= {_LOCK}
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False

    def _stat(self) -> _Stat | None:
        try:
            status = (self.path / _MANIFEST).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _known(self, body: dict[str, Any]) -> Known:
        asked = {"version": VERSION, "format": FORMAT, "location": self._location, "marker": self._marker}
        for name, value in asked.items():
            if body[name] != value:
                raise ValueError(f"its {name} is {body[name]!r}")
        identities = {name: Identity.from_dict(fields) for name, fields in body["identities"].items()}
        levels: dict[str, list[Level]] = {}
        for entry in body["runs"]:
            facts = RunFacts(**entry["run"])
            run = FileRun(self.path, facts, identities[facts.fingerprint])
            levels.setdefault(facts.fingerprint, []).append(
                Level(run, _unpacked(entry["alive"], run.n_shards))
            )
        stamps = body["stamps"]
        return Known(identities, levels, tuple(body["damaged"]), None if stamps is None else dict(stamps))

    def _publish(self, known: Known) -> Known:
        before = {path.name for path in self.path.iterdir()}
        try:
            kept, files = self._replaced(known)
        except BaseException:
            # Runs that were written for a manifest that did not come.
            with suppress(OSError):
                self._clear(before)
            raise
        self._seen = self._stat()
        self._clear({*files, _MANIFEST, _LOCK})
        return kept

    def _replaced(self, known: Known) -> tuple[Known, list[str]]:
        """Write runs and then the manifest; what is known with all runs in files, and their names."""
        levels = {
            fingerprint: kept
            for fingerprint, every in known.levels.items()
            if (kept := self._written(fingerprint, known.identities[fingerprint], every))
        }
        in_files = [
            (level.run.facts, _packed(level))
            for every in levels.values()
            for level in every
            if isinstance(level.run, FileRun)
        ]
        body = {
            "version": VERSION,
            "format": FORMAT,
            "location": self._location,
            "marker": self._marker,
            "stamps": known.stamps,
            "damaged": list(known.damaged),
            "identities": {name: asdict(known.identities[name]) for name in levels},
            "runs": [{"run": asdict(facts), "alive": alive} for facts, alive in in_files],
        }
        part = self.path / f"{_MANIFEST}.{secrets.token_hex(4)}{PART}"
        try:
            part.write_bytes(sealed(body))
            part.replace(self.path / _MANIFEST)
        finally:
            part.unlink(missing_ok=True)
        identities = {name: known.identities[name] for name in levels}
        whole = Known(identities, levels, known.damaged, known.stamps)
        return whole, [facts.file for facts, _ in in_files]

    def _written(self, fingerprint: str, identity: Identity, levels: Sequence[Level]) -> list[Level]:
        """Few runs, all in files."""
        levels = [level for level in levels if level.n_shards]
        new = [position for position, level in enumerate(levels) if not self._has(level)]
        chosen = to_merge(levels, new)
        if not chosen:
            return levels
        kept = [level for position, level in enumerate(levels) if position not in chosen]
        merging = [levels[position] for position in chosen]
        shards, pieces = joined(merging)
        facts = write_run(self.path, fingerprint, shards, sum(level.n_rows for level in merging), pieces)
        return [*kept, Level(FileRun(self.path, facts, identity))]

    def _has(self, level: Level) -> bool:
        return isinstance(level.run, FileRun) and (self.path / level.run.facts.file).exists()

    def _clear(self, needed: set[str]) -> None:
        for entry in os.scandir(self.path):
            if entry.name not in needed:
                with suppress(OSError):
                    Path(entry.path).unlink()


def clear_gone(folder: Path) -> None:
    """Delete what is kept of depots that have long been gone from this machine."""
    for manifest in folder.glob(f"*/{_MANIFEST}"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            location = unsealed(manifest.read_bytes())["location"]
            is_old = time.time() - manifest.stat().st_mtime > _GONE_S
            if is_old and "://" not in location and not Path(location).exists():
                shutil.rmtree(manifest.parent)


def _packed(level: Level) -> str:
    """Which shards count, as text; empty where all do."""
    if level.alive is None or level.alive.all():
        return ""
    return base64.b64encode(np.packbits(level.alive).tobytes()).decode()


def _unpacked(text: str, n: int) -> "np.typing.NDArray[np.bool_] | None":
    if not text:
        return None
    bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(bits) != -(-n // 8):
        raise ValueError(f"it tells of {8 * len(bits)} shards, not of {n}")
    return np.unpackbits(bits, count=n).astype(bool)
