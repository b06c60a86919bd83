"""A clone of the checkout with a small profile of its own, on which `dvc repro` runs, is killed and is run again.

The stages' list, the profile and the clone are those of `tests/test_dvc_repro.py`; here is what a run leaves and how two of
them are compared.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deponij.store.depot import FeatureStore

# These hold how long something took, or where it lies.
_OF_THE_MACHINE = ("timings/", "latency", "run.json")


@dataclass
class Repro:
    """A clone, and the depot beside it."""

    root: Path
    depot: Path

    def environment(self) -> dict[str, str]:
        found = dict(os.environ) | {
            "DEPONIJ_DEPOT": str(self.depot),
            "DEPONIJ_CACHE": f"{self.depot.parent / 'cache'}",
        }
        found |= {
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": "1",
            "DEPONIJ_THREADS": "1",
            "DEPONIJ_DEVICE": "cpu",
        }
        found.pop("PYTHONPATH", None)
        found["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{found['PATH']}"
        return found

    def run(self, kill_after_s: float | None = None) -> tuple[int, float, str]:
        """`dvc repro`: exit status or minus the signal, seconds, what was said."""
        begin = time.monotonic()
        process = subprocess.Popen(
            ["dvc", "repro"],
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            # DVC and the stage that it has started.
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
        return process.returncode, time.monotonic() - begin, said

    def files(self) -> dict[str, bytes]:
        """All that the stages wrote, but for what is of the machine."""
        found = {}
        for path in sorted((self.root / "runs").rglob("*")):
            name = path.relative_to(self.root / "runs").as_posix()
            if path.is_file() and not any(one in name for one in _OF_THE_MACHINE):
                found[name] = path.read_bytes()
        return found

    def rows(self) -> Mapping[str, Mapping[str, bytes]]:
        """Fingerprint -> key -> the row's bytes."""
        store = FeatureStore(self.depot)
        assert not store.damaged
        found = {}
        for fingerprint, identity in store.identities().items():
            keys = store.keys(identity)
            arrays = sorted(store.read(keys, identity).items())
            rows = zip(*(values for _, values in arrays), strict=True)
            found[fingerprint] = dict(
                zip(keys, (b"".join(one.tobytes() for one in row) for row in rows), strict=True)
            )
        return found

    def doubles(self) -> int:
        """Rows that lie in two shards."""
        sidecars = FeatureStore(self.depot).sidecars
        keys = [(one.fingerprint, key) for one in sidecars for key in one.keys]
        return len(keys) - len(set(keys))

    def loose(self) -> list[str]:
        """Parts, locks and orphans, of the depot and of the runs."""
        store = FeatureStore(self.depot)
        found = [str(path) for path in (self.root / "runs").rglob("*.part")]
        found += [str(path) for path in (self.depot / "writers").glob("*")]
        return found + store.orphans()


def differing(one: Repro, other: Repro) -> list[str]:
    """What of two finished runs is not the same."""
    a, b = one.files(), other.files()
    found = [f"{name} is in one of them only" for name in sorted(a.keys() ^ b.keys())]
    found += [f"{name} differs" for name in sorted(a.keys() & b.keys()) if a[name] != b[name]]
    return found + (["rows of the depot differ"] if one.rows() != other.rows() else [])
