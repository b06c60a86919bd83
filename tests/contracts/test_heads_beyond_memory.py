"""Every head, and the tables, give the same bytes where no array is held in memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from learning_world import World, learned, make_world, write_split
from test_heads import SETTINGS

from deponij.pipeline import unit_vectors
from deponij.pipeline.heads.registry import head_class, kinds
from deponij.project.learning import results
from deponij.project.tables.plan import Inputs, TablesParams
from deponij.stages import tables
from deponij.store import scratch


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), n=240, noise=0.6)


@pytest.fixture(autouse=True)
def few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are many blocks, in memory too: what a block holds is the same on every machine."""
    monkeypatch.setattr(unit_vectors, "BLOCK_CELLS", 1000)
    monkeypatch.setattr(scratch, "_BLOCK_BYTES", 1000)


@pytest.fixture
def on_a_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Call to have no memory from then on; the folder that all lies in instead."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("folds", [False, True], ids=["parts", "folds"])
@pytest.mark.parametrize("kind", [kind for kind in kinds() if head_class(kind).reads == "vectors"])
def test_a_head_and_its_answers(
    world: World, tmp_path: Path, on_a_disk: Path, monkeypatch: pytest.MonkeyPatch, kind: str, folds: bool
) -> None:
    if folds:
        numbers = {one: row // 2 % 3 for row, one in enumerate(world.ids)}
        monkeypatch.setattr(results, "read_folds", lambda split: numbers)
    more = {"texts": world.texts} if head_class(kind).starts_from_texts else {}
    more |= {"per_class": (1, 3), "tries": 2}
    n_made = made_on_disk(monkeypatch)
    learned(world, kind, tmp_path / "usual", SETTINGS.get(kind), **more)
    assert n_made() == 0
    monkeypatch.setenv(scratch.MEMORY, "0")
    learned(world, kind, tmp_path / "beyond", SETTINGS.get(kind), **more)
    assert n_made() > 1
    assert tree(tmp_path / "beyond") == tree(tmp_path / "usual")
    assert not list(on_a_disk.iterdir())


def test_tables(world: World, tmp_path: Path, on_a_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from learning_world import write_features

    from deponij.store.view import View

    view, second = View(world.features), tmp_path / "second.h5"
    other = np.random.default_rng(0).normal(size=(len(view), 5)).astype(np.float16)
    write_features(
        second, view.ids.tolist(), view.keys.tolist(), other, failures=view.failures, backbone="other"
    )
    split = tmp_path / "even.parquet"
    write_split(split, world.ids, world.parts)
    inputs = Inputs((world.features, second), (world.texts,), world.items, (split,), ("label",))
    params = TablesParams(seeds=2, epochs=2)
    n_made = made_on_disk(monkeypatch)
    for name in ("usual", "beyond"):
        tables.run(params, inputs, threads=1, out=tmp_path / name, results=tmp_path / name / "results")
        assert (n_made() > 1) == (name == "beyond")
        monkeypatch.setenv(scratch.MEMORY, "0")
    assert tree(tmp_path / "beyond") == tree(tmp_path / "usual")
    assert not list(on_a_disk.iterdir())


def made_on_disk(monkeypatch: pytest.MonkeyPatch):
    """Count the arrays that do not lie in memory."""
    sizes: list[int] = []
    on_disk = scratch._on_disk

    def counted(n_bytes: int):
        sizes.append(n_bytes)
        return on_disk(n_bytes)

    monkeypatch.setattr(scratch, "_on_disk", counted)
    return lambda: len(sizes)


# With 24 MiB of its own above what it has after a small fit; of its features 200,000 x 64 float64 numbers are 102 MB.
LIMITED = """
import resource, sys
import os
import subprocess
import sys
from pathlib import Path
import numpy as np
from deponij.pipeline import unit_vectors
from deponij.pipeline.heads.registry import head_class
from deponij.store import scratch

unit_vectors.BLOCK_CELLS, scratch._BLOCK_BYTES = 100_000, 1 << 20
rng = np.random.default_rng(0)
settings = {"logistic": {"cs": [0.01], "max_iter": 3}, "linear": {"epochs": 1, "batch": 4096}}
kind = sys.argv[1]

def learned(n):
    codes = rng.integers(0, 3, n)
    rows = scratch.scratch((n, 64), np.float16)
    for some in scratch.blocks_of(rows):
        rows[some] = codes[some, None] + rng.standard_normal(rows[some].shape)
    order = rng.permutation(n)
    head = head_class(kind)(**settings.get(kind, {}))
    head.fit(scratch.taken(rows, order), np.array(["a", "b", "c"])[codes[order]])
    return float(head.decision_function(rows).mean())

learned(3000)
status = Path("/proc/self/status").read_text()
used = 1024 * int(status.split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, (used + (24 << 20), -1))
print(learned(200_000))
"""


@pytest.mark.parametrize("kind", ["logistic", "centroid", "linear"])
def test_a_head_learns_in_less_memory_than_its_features_take(tmp_path: Path, kind: str) -> None:
    """The system refuses more than was allowed; pages of files do not count."""

    def ended(memory_gib: float) -> subprocess.CompletedProcess[str]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {**os.environ, **threads, scratch.MEMORY: str(memory_gib), "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", LIMITED, kind]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    beyond = ended(0.01)
    assert beyond.returncode == 0, beyond.stderr
    within = ended(1000)
    assert within.returncode != 0
    assert "memory" in within.stderr.lower() or "alloc" in within.stderr.lower()
