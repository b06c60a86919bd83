"""What kills and failing writes share: a whole world and processes for `make torture`, light ones for the short forms."""

from collections.abc import Iterator
from pathlib import Path

import fault_shim
import jobs_world
import pytest
from fork_server import serving
from jobs_world import Bench


def _bench(root: Path, *, is_light: bool) -> Iterator[Bench]:
    shim = fault_shim.build(root) if fault_shim.compiler() else None
    with serving(shim, is_light=is_light) as server:
        yield Bench(server, jobs_world.make(root / "world", server, is_light=is_light))


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Of every kind of work."""
    yield from _bench(tmp_path_factory.mktemp("bench"), is_light=False)


@pytest.fixture(scope="session")
def light_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Of the work that loads no library of models."""
    yield from _bench(tmp_path_factory.mktemp("light"), is_light=True)
