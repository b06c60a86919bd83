"""A file system that is really full: the cause is named, what was there answers as before, and nothing lies around."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from learning_world import DIM, identity, learned, make_world
from training_toy import PARAMS, Toy, same, weights

from deponij.pipeline.heads.registry import load_head
from deponij.pipeline.retrieval.vector_index import VectorIndex
from deponij.pipeline.training.loop import Step, train
from deponij.project.indexes import Index
from deponij.project.learning.result_files import read_judged
from deponij.stages import ensembles
from deponij.store.atomic import read_table, write_bytes, write_table
from deponij.store.bundle import read_bundle, write_bundle
from deponij.store.errors import StoreError
from deponij.store.index_folder import write_index

FULL = r"cannot write .*: .*No space left on device"
SIZE_BYTES = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here: it takes root")
    yield place
    subprocess.run(["umount", place], check=True)


def tree(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def refused(disk: Path, write: Callable[[], Any], n_free: int) -> None:
    """Fill the disk but for some bytes, see that writing is refused, and that nothing has changed."""
    status = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - n_free)))
    before = tree(disk)
    with pytest.raises(StoreError, match=FULL):
        write()
    assert tree(disk) == before
    (disk / "ballast").unlink()


@pytest.mark.parametrize("checkpoint_s", [0.0, 1e6])
def test_a_training_keeps_its_last_good_checkpoint(disk: Path, checkpoint_s: float) -> None:
    """From which it goes on to the same bytes once there is room."""
    whole, broken, again = (Toy(dropout=0.3) for _ in range(3))
    train(whole, PARAMS)
    broken.fail_at = (2, 5)
    before: dict[str, bytes] = {}

    def fill(step: Step) -> None:
        if step.done == 9:
            before.update(tree(disk / "c"))
            status = os.statvfs(disk)
            (disk / "ballast").write_bytes(bytes(status.f_bavail * status.f_frsize))

    notes: list[str] = []
    given: dict[str, Any] = {"checkpoint": disk / "c", "on_note": notes.append}
    with pytest.raises(RuntimeError, match="plug"):
        train(broken, PARAMS, **given, checkpoint_s=checkpoint_s, on_step=fill)
    if checkpoint_s == 0:
        assert len(notes) == 1 and "No space left" in notes[0]
    assert before and tree(disk / "c") == before
    (disk / "ballast").unlink()
    after = train(again, PARAMS, **given)
    assert 0 < after.resumed_at <= 9 and same(weights(whole), weights(again))


@pytest.mark.parametrize("n_free", [0, 8 << 10, 16 << 10, 24 << 10])
def test_a_refit(disk: Path, tmp_path: Path, n_free: int) -> None:
    world, folder = make_world(tmp_path / "world"), disk / "results" / "split-label"
    rows = np.random.default_rng(0).normal(size=(5, DIM))
    learned(world, "logistic", folder)
    logits = load_head(folder).decision_function(rows)
    refused(disk, lambda: learned(world, "mlp", folder), n_free)
    assert read_judged(folder).evaluation.method == "logistic"
    np.testing.assert_array_equal(load_head(folder).decision_function(rows), logits)
    learned(world, "mlp", folder)
    assert load_head(folder).kind == read_judged(folder).evaluation.method == "mlp"


def test_an_ensemble(disk: Path, tmp_path: Path) -> None:
    world, folder = make_world(tmp_path / "world"), disk / "both"
    members = [tmp_path / "logistic", tmp_path / "centroid"]
    for member in members:
        learned(world, member.name, member)
    ensembles.run("mean-probs", members, out=folder)
    refused(disk, lambda: ensembles.run("stacking", members, out=folder), 12 << 10)
    assert read_judged(folder).evaluation.method == "ensemble-mean-probs"


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("n_free", [0, 200 << 10])
def test_an_index(disk: Path, kind: str, n_free: int) -> None:
    def write(n: int) -> None:
        vectors = np.random.default_rng(n).normal(size=(n, 64)).astype(np.float32)
        index = VectorIndex.build(vectors, kind)
        names = pa.array([f"i{row}" for row in range(n)])
        rows = pa.table({"vector_row": pa.array(range(n), pa.int64()), "item_id": names, "key": names})
        facts: dict[str, Any] = {"settings": index.settings, "effort": dict(index.effort), "kind": kind}
        facts |= {"n_rows": n, "n_items": n, "dim": 64, "params": {}, "report": {}}
        write_index(disk / "index", index.save, rows, identity=identity("embedding"), backbone="x", **facts)

    write(300)
    query = np.ones(64)
    hits = Index.open(disk / "index").search(query)
    refused(disk, lambda: write(1200), n_free)
    assert Index.open(disk / "index").search(query) == hits
    assert len(list((disk / "index").iterdir())) == 3


def test_single_files(disk: Path) -> None:
    table = pa.table({"a": np.random.default_rng(0).random(1000)})
    write_bytes(disk / "a.json", b"{}")
    write_table(disk / "a.parquet", table)
    refused(disk, lambda: write_bytes(disk / "a.json", bytes(9000)), 4 << 10)
    refused(disk, lambda: write_table(disk / "a.parquet", table), 4 << 10)
    assert read_table(disk / "a.parquet").equals(table)


def test_a_bundle(disk: Path) -> None:
    write_bundle(disk / "a", {"x": b"old", "y": b"old"}, what="spoons")
    refused(disk, lambda: write_bundle(disk / "a", {"x": b"new", "y": bytes(50_000)}, what="spoons"), 20_000)
    assert read_bundle(disk / "a", ["x"], what="spoons", remedy="") == {"x": b"old"}
