"""Extraction on a real Dask cluster of processes on loopback, and what may go wrong with it.

What one process makes of the same items is the measure: keys, and vectors to 1e-5 (the made-up family's rows depend on
which pictures share a batch, on purpose, by a thousandth; so here they are in the same batches unless told).
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cluster_world
import fake_backbone
import numpy as np
import pytest

from deponij.project.extraction import on_cluster
from deponij.project.extraction.extracting import ExtractResult, FeatureParams, extract_items, found_backbone
from deponij.project.extraction.feature_maker import FeatureMaker, first_rows
from deponij.project.extraction.on_cluster import task_rows
from deponij.project.frame.cluster import Cluster
from deponij.project.frame.settings import RunOptions
from deponij.stages import items
from deponij.store.depot import FeatureStore
from deponij.store.errors import ClusterError, UsageError
from deponij.store.view import View

N_PICTURES, BATCH = 96, 4
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Items, one of which cannot be decoded, a model's folder, and what one process makes of them."""
    root = tmp_path_factory.mktemp("cluster")
    fake_backbone.make(root / "model")
    contents = [cluster_world.picture(number) for number in range(N_PICTURES)]
    contents[-1] = contents[-1][:60]  # the last one, so that it shifts no batch
    cluster_world.write_items(root / "items", contents)
    with fake_backbone.registered():
        extract(root, "alone")
        yield root


def extract(root: Path, name: str, cluster: str = "", items: str = "items") -> ExtractResult:
    """Into a depot and view of that name."""
    options = RunOptions(depot=str(root / name), batch_size=BATCH, threads=1, workers=1, cluster=cluster)
    maker = FeatureMaker(found_backbone(FeatureParams(), str(root / "model"), "made-up"), options)
    return extract_items(maker, root / items, root / f"{name}.h5")


def is_as_alone(root: Path, name: str, tolerance: float = 1e-5) -> None:
    alone, there = FeatureStore(root / "alone"), FeatureStore(root / name)
    identity = next(iter(alone.identities().values()))
    keys = alone.keys(identity)
    assert there.keys(identity) == keys
    every = [key for sidecar in there.sidecars for key in sidecar.keys]
    assert sorted(every) == keys, "a key lies in two shards"
    one, other = (store.read(keys, identity)["embedding"] for store in (alone, there))
    np.testing.assert_allclose(other, one, rtol=0, atol=tolerance)
    there.sweep()
    assert there.orphans() == []
    a, b = View(root / "alone.h5"), View(root / f"{name}.h5")
    assert list(a.ids) == list(b.ids)
    assert dict(a.failures) == dict(b.failures)
    assert list(dict(b.failures)) == ["0095"]


def test_two_workers_make_what_one_process_makes(world: Path, tmp_path: Path) -> None:
    with cluster_world.processes(tmp_path, 2) as there:
        result = extract(world, "two", there.address)
        assert (result.n_computed, result.n_failed) == (N_PICTURES - 1, 1)
        is_as_alone(world, "two")
        again = extract(world, "two", there.address)
        # The picture that cannot be read is tried anew, and nothing else.
        assert (again.n_computed, again.n_known, again.n_failed) == (0, N_PICTURES - 1, 1)


def test_pictures_that_items_only_name_are_read_by_workers_or_fail(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    for number in range(12):
        (tmp_path / "pictures" / "x").mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / "x" / f"{number:02}.png").write_bytes(cluster_world.picture(number))
    source, out = {"folder": tmp_path / "pictures"}, tmp_path / "items"
    items.run("folder", source, out=out, run_options=RunOptions(workers=1), copy_pictures="never")
    (tmp_path / "pictures" / "x" / "03.png").write_bytes(cluster_world.picture(50))
    (tmp_path / "pictures" / "x" / "07.png").unlink()
    with cluster_world.processes(tmp_path / "dask", 2) as there:
        result = extract(tmp_path, "named", there.address)
    assert (result.n_computed, result.n_failed) == (10, 2)
    reasons = dict(View(tmp_path / "named.h5").failures)
    assert "has changed since the items were made" in reasons["x/03.png"]
    assert "is not there" in reasons["x/07.png"]


def test_a_killed_workers_pictures_are_taken_over(world: Path, tmp_path: Path) -> None:
    """What it has committed, a task of 12 by the time that it begins with a fourth batch of 4, nobody computes again."""
    says = tmp_path / "batches.txt"
    with cluster_world.processes(tmp_path / "dask") as there:
        for _ in range(2):
            there.add_worker(says=str(says), sleep_s=0.15, nanny=False)
        wait_for(there.address, 2)
        victim, is_over = there.workers[0], threading.Event()

        def kill_in_the_middle() -> None:
            while not is_over.wait(0.02):
                if says.exists() and says.read_text().count(f"{victim.pid} ") > 3:
                    cluster_world.end(victim)
                    return

        killer = threading.Thread(target=kill_in_the_middle)
        killer.start()
        try:
            extract(world, "killed", there.address)
        finally:
            is_over.set()
            killer.join()
        assert victim.poll() is not None
    batches = [list(map(int, line.split())) for line in says.read_text().splitlines()]
    assert sum(n for pid, n in batches if pid != victim.pid) <= N_PICTURES - 12
    is_as_alone(world, "killed", tolerance=0.01)  # stand-ins of the dead shift the batches that follow


@pytest.mark.usefixtures("world")
def test_a_picture_that_kills_its_process_becomes_a_failure(tmp_path: Path) -> None:
    fake_backbone.make(tmp_path / "model")
    contents = [cluster_world.picture(number) for number in range(9)]
    contents[5] = cluster_world.deadly_picture()
    cluster_world.write_items(tmp_path / "items", contents)
    with cluster_world.processes(tmp_path / "dask", 2, dies_of_red=True) as there:
        result = extract(tmp_path, "poisoned", there.address)
    assert (result.n_computed, result.n_failed) == (8, 1)
    failures = dict(View(tmp_path / "poisoned.h5").failures)
    assert list(failures) == ["0005"]
    assert "died" in failures["0005"]


def test_what_a_worker_committed_before_it_died_is_counted(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are in the depot, though nobody was told: neither computed for nothing nor failed."""
    really = on_cluster._taken

    def unheard(there: Cluster, tasks: Iterator[Any]) -> Iterator[tuple[int, on_cluster.Taken]]:
        sent = list(tasks)
        for n_ended, taken in really(there, iter(sent)):
            yield n_ended, on_cluster.Taken(0, taken.failures, {}, 0.0)
        first = sent[0].places[0][1]
        yield 0, on_cluster.Taken(0, [(first, "worker after worker died while looking at it")], {}, 0.0)

    monkeypatch.setattr(on_cluster, "_taken", unheard)
    with cluster_world.processes(tmp_path / "dask", 1) as there:
        result = extract(world, "unheard", there.address)
    assert (result.n_computed, result.n_failed) == (N_PICTURES - 1, 1)
    is_as_alone(world, "unheard")


def test_a_worker_with_a_full_disk_is_asked_no_more(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster_world.processes(tmp_path) as there:
        there.add_worker(full_disk=True)
        there.add_worker(sleep_s=0.1)
        wait_for(there.address, 2)
        extract(world, "full", there.address)
    is_as_alone(world, "full")
    assert "No space left on device" in capsys.readouterr().err


def test_one_worker_does_what_four_full_ones_cannot(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster_world.processes(tmp_path / "dask", 4, full_disk=True, nanny=False) as there:
        there.add_worker(sleep_s=0.3, nanny=False)
        wait_for(there.address, 5)
        extract(world, "four-full", there.address)
    is_as_alone(world, "four-full")
    assert "No space left on device" in capsys.readouterr().err


def test_where_no_worker_can_do_it_the_reason_is_told(world: Path, tmp_path: Path) -> None:
    with (
        cluster_world.processes(tmp_path, 2, full_disk=True) as there,
        pytest.raises(ClusterError, match="No space left on device"),
    ):
        extract(world, "all-full", there.address)
    assert FeatureStore(world / "all-full").sidecars == []


def test_a_slow_worker_holds_nobody_up(world: Path, tmp_path: Path) -> None:
    says = {name: tmp_path / f"{name}.txt" for name in ("slow", "quick")}
    with cluster_world.processes(tmp_path / "dask") as there:
        there.add_worker(sleep_s=1.0, says=str(says["slow"]))
        there.add_worker(says=str(says["quick"]))
        wait_for(there.address, 2)
        extract(world, "slow", there.address)
    n_batches = {name: len(path.read_text().splitlines()) for name, path in says.items()}
    assert n_batches["slow"] < n_batches["quick"]
    is_as_alone(world, "slow")


def test_the_death_of_the_scheduler_is_told_and_the_same_command_goes_on(world: Path, tmp_path: Path) -> None:
    says = tmp_path / "batches.txt"
    with cluster_world.processes(tmp_path / "dask", 1, sleep_s=0.3, says=str(says)) as there:

        def kill_in_the_middle() -> None:
            while not FeatureStore(world / "headless", create=True).sidecars:
                time.sleep(0.02)
            cluster_world.end(there.scheduler)

        killer = threading.Thread(target=kill_in_the_middle)
        killer.start()
        with pytest.raises(ClusterError, match="is gone"):
            extract(world, "headless", there.address)
        killer.join()
    n_kept = len(FeatureStore(world / "headless").sidecars[0].keys)
    with cluster_world.processes(tmp_path / "anew", 2) as there:
        result = extract(world, "headless", there.address)
    assert result.n_known >= n_kept
    is_as_alone(world, "headless", tolerance=0.01)


def test_a_client_that_is_gone_leaves_finished_shards(world: Path, tmp_path: Path) -> None:
    with cluster_world.processes(tmp_path, 2, sleep_s=0.2) as there:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(world), there.address],
            cwd=cluster_world.ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        while not FeatureStore(world / "left", create=True).sidecars:
            assert client.poll() is None
            time.sleep(0.02)
        client.send_signal(signal.SIGKILL)
        client.wait()
        n_known = extract(world, "left", there.address).n_known
    assert n_known > 0
    is_as_alone(world, "left", tolerance=0.01)


CLIENT = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/worlds"); sys.path.insert(0, "tests/project/extraction")
import fake_backbone, test_on_cluster
with fake_backbone.registered():
    test_on_cluster.extract(Path(sys.argv[1]), "left", sys.argv[2])
"""


def test_a_task_that_is_done_at_a_worker_is_waited_for() -> None:
    """A worker of several threads could begin with another one beside it."""
    has_ended = threading.Event()

    def wait() -> None:
        on_cluster.wait_for_what_is_under_way()
        has_ended.set()

    with on_cluster._HERE.lock:
        threading.Thread(target=wait, daemon=True).start()
        assert not has_ended.wait(0.3)
    assert has_ended.wait(30)


def test_where_a_worker_stays_at_work_for_others_it_is_said(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Cluster, "once_each", lambda there, function, at_most_s: False)
    with cluster_world.processes(tmp_path / "dask", 1) as there:
        extract(world, "beside", there.address)
    assert "is still at work for another command; going on without it" in " ".join(
        capsys.readouterr().err.split()
    )
    is_as_alone(world, "beside")


def test_other_items_at_the_workers_are_refused(world: Path, tmp_path: Path) -> None:
    items = tmp_path / "items"
    cluster_world.write_items(items, [cluster_world.picture(1)])
    with cluster_world.processes(tmp_path / "dask", 1) as there:
        (tmp_path / "model").symlink_to(world / "model")
        extract(tmp_path, "first", there.address)
        # The worker's own opened items are of the first folder; the second has the same name.
        cluster_world.write_items(items, [cluster_world.picture(2), cluster_world.picture(3)])
        result = extract(tmp_path, "first", there.address)
    assert (result.n_computed, result.n_failed) == (2, 0)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"items_sha256": "0" * 64}, "the items at .* are others here than where the command runs"),
        ({"weights": "0" * 64}, "made-up is another backbone here than where the command runs: weights"),
    ],
)
def test_what_is_another_at_the_workers_is_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, str], message: str
) -> None:
    """As on machines that have other files under these names: workers are told what the files here are not."""
    real = on_cluster._job

    def job(*args: Any) -> on_cluster.Job:
        true = real(*args)
        if "items_sha256" in told:
            return replace(true, **told)
        identity = replace(true.backbone.identity, **told)
        return replace(true, backbone=replace(true.backbone, identity=identity))

    monkeypatch.setattr(on_cluster, "_job", job)
    name = f"refused-{next(iter(told))}"
    with (
        cluster_world.processes(tmp_path / "dask", 1) as there,
        pytest.raises(ClusterError, match=message),
    ):
        extract(world, name, there.address)
    assert FeatureStore(world / name).sidecars == []


def test_nobody_at_the_address(world: Path) -> None:
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        extract(world, "nobody", "tcp://127.0.0.1:9")


@pytest.mark.parametrize("address", ["somewhere", "local:0", "http://host:8786", "tcp://"])
def test_what_is_no_cluster(world: Path, address: str) -> None:
    with pytest.raises(UsageError, match="tcp://HOST:PORT"):
        extract(world, "none", address)


def wait_for(address: str, n_workers: int) -> None:
    """Until so many have joined."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(n_workers, timeout=60)


def test_of_items_that_are_known_nothing_is_held() -> None:
    keys = (None if row % 10 == 0 else f"{row // 2:040d}" for row in range(200_000))
    tracemalloc.start()
    try:
        found = first_rows(keys, [f"{number:040d}" for number in (70_000, 30_000, 5)])
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert found == {11: f"{5:040d}", 60_001: f"{30_000:040d}", 140_001: f"{70_000:040d}"}


@pytest.mark.parametrize(
    ("n_pictures", "n_workers", "batch", "rows"),
    [
        (100, 2, 4, 16),  # 100 / (2 workers x 4 tasks) = 13 pictures, in whole batches of 4
        (5, 2, 4, 4),  # not less than a batch
        (10**6, 2, 4, 1024),  # not more than a shard
        (10**6, 2, 0, 1024),
        (3000, 4, 0, 192),
        (10**6, 2, 4096, 4096),  # a batch is whole
    ],
)
def test_tasks_are_whole_batches(n_pictures: int, n_workers: int, batch: int, rows: int) -> None:
    assert task_rows(n_pictures, n_workers, batch) == rows
