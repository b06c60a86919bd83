"""Tasks on a real Dask cluster: how many are under way, in what order they come back, who may listen, which GPU is whose."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cluster_world
import dask
import pytest
import torch
from distributed import Client, SpecCluster

from deponij.project.frame import cluster as cluster_module
from deponij.project.frame import local_cluster
from deponij.project.frame.cluster import (
    HELD_PER_SENT,
    PER_WORKER,
    Cluster,
    cluster,
)
from deponij.project.frame.local_cluster import visible_gpus, worker_specs
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


def test_in_order_a_slow_task_lets_only_so_many_pile_up(there: Cluster, tmp_path: Path) -> None:
    tasks, ahead, results = Pulled(200), [], []
    slow = partial(cluster_world.first_waits, folder=tmp_path, n_others=2 * PER_WORKER * N_WORKERS)
    for outcome in there.in_order(slow, tasks):
        ahead.append(tasks.n_pulled - len(results))
        results.append(outcome.result)
    assert results == list(range(200))
    assert ahead[0] > PER_WORKER * N_WORKERS  # work went on behind the slow one
    assert max(ahead) <= HELD_PER_SENT * PER_WORKER * N_WORKERS + PER_WORKER * N_WORKERS


def until(is_so: Callable[[], object]) -> None:
    limit = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < limit
        time.sleep(0.02)


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_once_each_is_over_when_a_worker_that_was_at_work_is_free(there: Cluster, tmp_path: Path) -> None:
    begun, free, calls = (tmp_path / name for name in ("begun", "free", "calls"))
    one, other = there.workers()
    call = partial(cluster_world.call_here, calls)
    with Client(there.address, set_as_default=False) as client:
        at_work = client.submit(cluster_world.held, begun, free, workers=[one], pure=False)
        until(begun.exists)
        assert not there.once_each(call, 2.0)
        assert lines(calls) == [other]  # not twice, in the place of the one that is at work
        calls.unlink()
        freeing = threading.Timer(1.0, free.touch)
        freeing.start()
        assert there.once_each(call, 60.0)
        assert free.exists()
        freeing.join()
        at_work.result()
    assert sorted(lines(calls)) == sorted([one, other])


def test_a_worker_that_refuses_is_called_once_and_told_of_once(
    there: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full, other = there.workers()
    mine = Cluster(there.client, there.address)  # as `there` is to ask all of them again
    function = cluster_world.Refusing((full,), tmp_path / "calls")
    results = [outcome.result for outcome in mine.as_completed(function, range(30))]
    assert sorted(results) == list(range(30))
    # It has one thread; tasks on their way to it when it refused are handed back unseen.
    assert lines(tmp_path / "calls").count(full) == 1
    assert lines(tmp_path / "calls").count(other) == 30
    assert list(mine.excluded) == [full]
    assert capsys.readouterr().err.count("is asked no more") == 1


def test_while_one_worker_is_left_it_does_what_all_others_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, free = tmp_path / "begun", tmp_path / "free"
    with (
        cluster_world.processes(tmp_path / "dask", 5, nanny=False) as started,
        cluster(RunOptions(cluster=started.address)) as there,
        Client(there.address, set_as_default=False) as client,
    ):
        until(lambda: len(there.workers()) == 5)
        *full, able = there.workers()
        # Busy until all the others have refused the one task.
        at_work = client.submit(cluster_world.held, begun, free, workers=[able], pure=False)
        until(begun.exists)

        def free_it() -> None:
            until(lambda: len(there.excluded) == 4)
            free.touch()

        freeing = threading.Thread(target=free_it)
        freeing.start()
        function = cluster_world.Refusing(tuple(full), tmp_path / "calls")
        assert [outcome.result for outcome in there.as_completed(function, [7])] == [7]
        freeing.join()
        at_work.result()
    assert sorted(lines(tmp_path / "calls")) == sorted([*full, able])
    assert capsys.readouterr().err.count("is asked no more") == 4


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No usable temporary directory found"), "No usable temporary directory"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "no file descriptors are left"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
    ],
)
def test_what_a_workers_system_raises_is_told_as_its_own(
    there: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, told: str
) -> None:
    broken, _ = there.workers()
    mine = Cluster(there.client, there.address)
    function = cluster_world.Refusing((broken,), tmp_path / "calls", error=error)
    assert sorted(outcome.result or 0 for outcome in mine.as_completed(function, range(8))) == list(range(8))
    assert list(mine.excluded) == [broken]
    assert told in " ".join(capsys.readouterr().err.split())


def test_what_is_too_large_for_one_worker_is_done_by_another(there: Cluster, tmp_path: Path) -> None:
    small, _ = there.workers()
    mine = Cluster(there.client, there.address)
    function = cluster_world.Refusing((small,), tmp_path / "calls", error=MemoryError())
    assert sorted(outcome.result or 0 for outcome in mine.as_completed(function, range(8))) == list(range(8))
    assert mine.excluded == {}


def test_what_is_too_large_for_every_worker_is_taken_to_have_killed_them(
    there: Cluster, tmp_path: Path
) -> None:
    mine = Cluster(there.client, there.address)
    function = cluster_world.Refusing(tuple(there.workers()), tmp_path / "calls", error=MemoryError())
    (outcome,) = mine.as_completed(function, [1])
    assert outcome.died
    assert len(lines(tmp_path / "calls")) == 4  # as often as Dask tries
    assert mine.excluded == {}


def test_workers_of_another_version_are_asked_nothing(there: Cluster) -> None:
    mine = Cluster(there.client, there.address, version="0.0.9")
    with pytest.raises(ClusterError, match=r"it has Deponij .*, the command 0\.0\.9; install"):
        list(mine.as_completed(cluster_world.square, [3]))


def test_where_those_that_may_do_it_die_a_worker_that_joined_does_it(tmp_path: Path) -> None:
    with refused_and_held(tmp_path) as (started, there, results, thread):
        started.add_worker(nanny=False)
        until(lambda: len(there.workers()) == 2)
        cluster_world.end(started.workers[1])
        thread.join(60)
    assert sorted(results) == list(range(8))


def test_a_task_whose_workers_die_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_LOST", 1)
    with refused_and_held(tmp_path) as (started, there, results, thread):
        started.add_worker(nanny=False)
        until(lambda: len(there.workers()) == 2)
        cluster_world.end(started.workers[1])
        thread.join(60)
    assert len(results) == 8
    assert None in results  # died: nothing comes of it, and nobody waits for it


def test_where_only_one_that_refuses_is_left_its_reason_is_told(tmp_path: Path) -> None:
    with refused_and_held(tmp_path) as (started, _, results, thread):
        cluster_world.end(started.workers[1])
        thread.join(60)
    assert ["No space left on device" in str(one) for one in results] == [True]


@contextmanager
def refused_and_held(
    folder: Path,
) -> Iterator[tuple[cluster_world.Processes, Cluster, list[object], threading.Thread]]:
    """Of two workers one has refused and the other is at work for ever; what comes back of eight tasks, or the error."""
    with (
        cluster_world.processes(folder / "dask") as started,
        cluster(RunOptions(cluster=with_two(started))) as there,
    ):
        full, holds = in_order_of_start(started, there)
        function, results = cluster_world.Refusing((full,), folder / "calls", holds), list[object]()

        def run() -> None:
            try:
                for outcome in there.as_completed(function, range(8)):
                    results.append(outcome.result)
            except ClusterError as error:
                results.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        until(lambda: there.excluded and holds in lines(folder / "calls"))
        yield started, there, results, thread
        assert not thread.is_alive()


def with_two(started: cluster_world.Processes) -> str:
    for _ in range(2):
        started.add_worker(nanny=False)
    return started.address


def in_order_of_start(started: cluster_world.Processes, there: Cluster) -> list[str]:
    """Addresses of the workers, which have all joined then."""
    until(lambda: len(there.workers()) == len(started.workers))
    address_of = {pid: address for address, pid in there.client.run(os.getpid).items()}
    return [address_of[process.pid] for process in started.workers]


def test_once_each_does_not_wait_for_a_worker_that_died(tmp_path: Path) -> None:
    begun, never, calls = (tmp_path / name for name in ("begun", "never", "calls"))
    with (
        cluster_world.processes(tmp_path / "dask") as started,
        cluster(RunOptions(cluster=with_two(started))) as there,
    ):
        victim, _ = in_order_of_start(started, there)
        with Client(there.address, set_as_default=False) as client:
            at_work = client.submit(cluster_world.held, begun, never, workers=[victim], pure=False)
            until(begun.exists)
            killing = threading.Timer(1.0, cluster_world.end, [started.workers[0]])
            killing.start()
            assert there.once_each(partial(cluster_world.call_here, calls), 60.0)
            killing.join()
            at_work.cancel()
    assert len(lines(calls)) == 1
    assert victim not in lines(calls)


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


@pytest.mark.parametrize(
    ("device", "n_workers"),
    [
        ("cpu", 6),
        ("cuda:1", 1),
        ("mps", 1),
    ],  # 13 cores make six workers of two threads; a GPU is shared by none
)
def test_a_device_of_which_there_is_one_has_one_worker(
    monkeypatch: pytest.MonkeyPatch, device: str, n_workers: int
) -> None:
    monkeypatch.setattr(local_cluster, "n_cores", lambda: 13)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    options = RunOptions(device=device, threads=2)
    specs = worker_specs(visible_gpus(device), 0, options)
    assert [one["options"]["env"] for one in specs.values()] == [{}] * n_workers
    assert len(worker_specs([], 3, options)) == 3  # as many as are asked for


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
