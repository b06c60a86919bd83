"""Store tests write thousands of small files: without flushing each to the disk they take seconds."""

import os
import time
from pathlib import Path

import pytest
from places_world import LATER_NS

from deponij.store.places import catalog


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def every_depot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the cache, which keeps depots of any size here."""
    monkeypatch.setattr(catalog, "CACHED_FROM", 1)
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "depots"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is on the disk is old enough for its times to be trusted."""
    real = time.time_ns
    monkeypatch.setattr(catalog.time, "time_ns", lambda: real() + LATER_NS)
