"""A Dask cluster of this machine's processes: how many workers, and which GPU each of them sees."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from deponij.project.frame.device import pick_device
from deponij.project.frame.settings import RunOptions, n_cores


@contextmanager
def of_this_machine(n_workers: int, options: RunOptions) -> Iterator[str]:
    """A scheduler and its workers; see `worker_specs`."""
    import distributed

    cluster_of: Any = distributed.SpecCluster
    specs = worker_specs(visible_gpus(options.device), n_workers, options)
    # Nobody else may reach it, its page neither.
    at_home = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": distributed.Scheduler, "options": at_home}
    with cluster_of(workers=specs, scheduler=scheduler, silence_logs=logging.CRITICAL) as made:
        yield str(made.scheduler_address)


def worker_specs(gpus: Sequence[str], n_workers: int, options: RunOptions) -> dict[int, dict[str, Any]]:
    """Of each worker process of this machine: its class and options, as `distributed.SpecCluster` takes them.

    Args:
        gpus: by the names that CUDA_VISIBLE_DEVICES takes; every worker sees one of them alone.
        n_workers: 0 for one a GPU; on the CPU one for each `options.threads` cores (all that are free, for 1 thread
            each); else one, for there is one device that all would share.

    Raises:
        UsageError: the device that was asked for is not there.
    """
    from distributed import Nanny

    n_workers = n_workers or len(gpus) or _n_alone(options)
    common = {
        "nthreads": 1,
        "host": "127.0.0.1",
        "memory_limit": 0,
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.CRITICAL,
    }
    specs = {}
    for number in range(n_workers):
        seen = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
        specs[number] = {"cls": Nanny, "options": {**common, "env": seen}}
    return specs


def _n_alone(options: RunOptions) -> int:
    """How many workers fit where none has a GPU of its own."""
    on_cpu = pick_device(options.device) == "cpu"
    return max(1, n_cores() // (options.threads or 1)) if on_cpu else 1


def visible_gpus(device: str) -> list[str]:
    """Names of the GPUs that workers may have one each of; none where another device, or one GPU alone, is asked for."""
    if device not in ("auto", "cuda"):
        return []
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    n_seen = torch.cuda.device_count()
    return named.split(",")[:n_seen] if named else [str(number) for number in range(n_seen)]
