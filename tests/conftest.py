"""What all tests share: no network, fixed threads, and the way to the shared data sets."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from browser import browser
from hypothesis import HealthCheck, settings
from ledger import REPORT, Ledger

__all__ = ["browser"]

ROOT = Path(__file__).resolve().parent.parent

# How long an example takes says something about the machine, not about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test remembers hashes and descriptions in a folder of its own."""
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True, scope="session")
def pointer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Which run was the last to finish is kept beside the tests, not in the folder that they are run from."""
    from deponij.project import last_run

    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("pointer") / "last-run.json"
        patch.setattr(last_run, "POINTER", path)
        yield path


@pytest.fixture(autouse=True)
def no_last_run(pointer: Path) -> None:
    """No test means a run of another one."""
    pointer.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with TACO's annotations, CamVid and CIFAR-10; `DEPONIJ_SHARED`, by default beside the checkout."""
    folder = Path(os.environ.get("DEPONIJ_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no data sets at {folder}; set DEPONIJ_SHARED to run this test")
    return folder


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    """What the torture tests tried; written to the file that `TORTURE_REPORT` names."""
    made = Ledger()
    yield made
    if made.rows and os.environ.get(REPORT):
        made.write(Path(os.environ[REPORT]))
    print(made.markdown())
