"""Tasks on a real Dask cluster: how many are under way, in what order they come back, who may listen, which GPU is whose."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cluster_world
import dask
import pytest
from distributed import Client, SpecCluster

from deponij.project.frame.cluster import (
    HELD_PER_SENT,
    PER_WORKER,
    Cluster,
    cluster,
    visible_gpus,
    worker_specs,
)
from deponij.project.frame.settings import RunOptions
from deponij.store.errors import ClusterError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
N_WORKERS = 2


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers."""
    with (
        cluster_world.processes(tmp_path_factory.mktemp("dask"), N_WORKERS) as started,
        cluster(RunOptions(cluster=started.address)) as there,
    ):
        there.client.wait_for_workers(N_WORKERS, timeout=60)
        yield there


class Pulled:
    """Tasks, of which it is known how many have been asked for."""

    def __init__(self, n_tasks: int) -> None:
        self.n_tasks = n_tasks
        self.n_pulled = 0

    def __iter__(self) -> Iterator[int]:
        for task in range(self.n_tasks):
            self.n_pulled += 1
            yield task


def test_every_task_comes_back_once_and_few_are_under_way(there: Cluster) -> None:
    tasks, ahead, results = Pulled(200), [], []
    for outcome in there.as_completed(cluster_world.square, tasks):
        results.append(outcome.result)
        ahead.append(tasks.n_pulled - len(results))
    assert sorted(results) == [n * n for n in range(200)]
    assert max(ahead) <= PER_WORKER * N_WORKERS


def test_in_order_a_slow_task_lets_only_so_many_pile_up(there: Cluster) -> None:
    tasks, ahead, results = Pulled(200), [], []
    for result in there.in_order(cluster_world.first_is_slow, tasks):
        ahead.append(tasks.n_pulled - len(results))
        results.append(result)
    assert results == list(range(200))
    assert ahead[0] > PER_WORKER * N_WORKERS  # work went on behind the slow one
    assert max(ahead) <= HELD_PER_SENT * PER_WORKER * N_WORKERS + PER_WORKER * N_WORKERS


def test_an_error_that_is_no_users_comes_through(there: Cluster) -> None:
    with pytest.raises(ZeroDivisionError):
        list(there.as_completed(cluster_world.inverse, [1, 0]))


def test_every_worker_is_waited_for_but_the_dead(tmp_path: Path) -> None:
    with cluster_world.processes(tmp_path) as started:
        victim = started.add_worker(nanny=False)
        started.add_worker()
        with cluster(RunOptions(cluster=started.address)) as there:
            there.client.wait_for_workers(2, timeout=60)
            assert not there.once_each(cluster_world.pause, 0.5)
            assert there.once_each(cluster_world.pause, 60)
            killer = threading.Timer(1.0, cluster_world.end, [victim])
            killer.start()
            assert there.once_each(cluster_world.pause, 20)
            killer.join()
            assert len(there.workers()) == 1


def test_each_local_worker_sees_a_gpu_of_its_own() -> None:
    specs = worker_specs(["0", "3"], 0, RunOptions())
    with (
        SpecCluster(workers=specs, scheduler=_scheduler()) as made,
        Client(made, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        assert sorted(client.run(_seen_gpus).values()) == ["0", "3"]


def _seen_gpus() -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


def _scheduler() -> dict[str, object]:
    from distributed import Scheduler

    return {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}


@pytest.mark.parametrize(
    ("gpus", "n_workers", "seen"),
    [
        (["0", "1"], 0, ["0", "1"]),
        (["GPU-aa", "GPU-bb"], 3, ["GPU-aa", "GPU-bb", "GPU-aa"]),
        ([], 2, [None, None]),
    ],
)
def test_workers_of_this_machine(gpus: list[str], n_workers: int, seen: list[str | None]) -> None:
    specs = worker_specs(gpus, n_workers, RunOptions())
    assert [one["options"]["env"].get("CUDA_VISIBLE_DEVICES") for one in specs.values()] == seen


def test_only_gpus_that_are_asked_for() -> None:
    assert visible_gpus("cpu") == []


def test_tls_is_passed_through(tmp_path: Path) -> None:
    pem = _certificate(tmp_path)
    tls = {f"distributed.comm.tls.{part}": pem for part in ("ca-file", "client.cert", "client.key")}
    flags = ["--protocol", "tls", "--tls-ca-file", pem, "--tls-cert", pem, "--tls-key", pem]
    with cluster_world.processes(tmp_path / "dask", 0, flags=flags) as started:
        assert started.address.startswith("tls://")
        started.add_worker(flags=flags[2:])
        options = RunOptions(cluster=started.address)
        with dask.config.set(tls), cluster(options) as there:
            assert [one.result for one in there.as_completed(cluster_world.square, [3])] == [9]
        with pytest.raises(ClusterError, match="no Dask scheduler answers"), cluster(options):
            pass


def _certificate(folder: Path) -> str:
    """Certificate and key, signed by itself, in one file."""
    script = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout key.pem -out cert.pem "
        "&& cat cert.pem key.pem > both.pem"
    )
    subprocess.run(["sh", "-c", script], cwd=folder, check=True, capture_output=True)
    return str(folder / "both.pem")


def test_local_workers_are_gone_afterwards() -> None:
    code = (
        "from deponij.project.frame.cluster import cluster\n"
        "from deponij.project.frame.settings import RunOptions\n"
        "if __name__ == '__main__':\n"
        "    with cluster(RunOptions(cluster='local:2', device='cpu')) as there:\n"
        "        there.client.wait_for_workers(2)\n"
        "        print(*there.client.run(__import__('os').getpid).values())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cluster_world.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    for pid in done.stdout.split():
        assert not Path(f"/proc/{pid}").exists()
