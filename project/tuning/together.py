"""A training by several processes, one a GPU: each computes its part of every batch, and gradients are averaged.

    python -m deponij.project.tuning.together ORDER.json     (started by torchrun, once a process)

Processes are started and watched by torchrun; the averaging is Accelerate's (`DistributedDataParallel`). Each reads what the
first process has decoded, and the first one keeps checkpoints. A finished checkpoint is all that comes of it: whoever
started them loads that, as after any other training. Results are those of one process but for rounding, and for batch norms
that learn, which see a part of each batch.
"""

import subprocess
import sys
from pathlib import Path

from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.trackers import Tracking
from deponij.project.frame.settings import RunOptions, Section
from deponij.project.tuning.begun import Begun, Job, Running, begin, trained
from deponij.store.atomic import write_bytes
from deponij.store.errors import DataError, DeponijError, UsageError

ORDER = "order.json"


class Order(Section):
    """What the processes are told.

    Attributes:
        training: as it was found to fit, of all processes together.
        asked: pictures a forward pass of validation.
        trackers, log_dir, log_name: see `Tracking`.
    """

    job: Job
    options: RunOptions
    unfinished: Path
    training: TrainingParams
    asked: int
    trackers: tuple[str, ...] = ()
    log_dir: Path | None = None
    log_name: str = ""


def train_together(job: Job, begun: Begun, training: TrainingParams, running: Running) -> None:
    """Train until the checkpoint is that of a finished training.

    Raises:
        UsageError: there are not so many GPUs, or what is learned is not to be cut into parts of a batch.
        DataError: a process failed; what it said was printed.
    """
    n = running.options.processes
    _require(n, begun)
    begun.made.task.model.cpu()
    tracking = running.tracking
    order = Order(
        job=job,
        options=running.options,
        unfinished=running.unfinished,
        training=training,
        asked=begun.made.task.asked,
        trackers=() if tracking is None else tuple(tracking.trackers),
        log_dir=None if tracking is None else tracking.log_dir,
        log_name="" if tracking is None else tracking.name,
    )
    path = running.unfinished / ORDER
    write_bytes(path, order.model_dump_json().encode())
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    done = subprocess.run([*launch, "-m", __spec__.name, str(path)], check=False)
    if done.returncode:
        raise DataError(
            f"the training of {job.name!r} by {n} processes ended early (status {done.returncode}); what went wrong is said "
            "above, and the same command goes on from the last checkpoint"
        )


def _require(n: int, begun: Begun) -> None:
    import torch

    if not begun.made.task.accumulates:
        raise UsageError(
            "captions are told apart within a batch, which several processes would cut: leave --processes away"
        )
    there = torch.cuda.device_count()
    if begun.device.startswith("cuda") and n > there:
        raise UsageError(f"--processes {n}: there are {there} GPU(s) here, and each process takes one")
    if begun.device == "mps":
        raise UsageError("--processes: an Apple GPU trains by one process")


def _take_part(path: Path) -> None:
    """One of the processes."""
    import os

    order = Order.model_validate_json(path.read_bytes())
    rank, n = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
    options = order.options
    if not options.device.startswith("cpu"):
        import torch

        if torch.cuda.is_available():
            options = options.model_copy(update={"device": f"cuda:{rank}"})
    options = options.model_copy(update={"threads": max(1, options.n_threads // n)})
    tracking = None
    if order.log_dir is not None:
        tracking = Tracking(order.trackers, order.log_dir, order.log_name)  # type: ignore[arg-type]
    running = Running(options, order.unfinished, tracking=tracking)
    begun = begin(order.job, running, is_shown=False)
    begun.made.task.asked = order.asked
    trained(order.job.name, begun.made.task, order.training, running, begun.device, is_shown=rank == 0)


if __name__ == "__main__":
    try:
        _take_part(Path(sys.argv[1]))
    except DeponijError as error:
        sys.exit(f"error: {error}")
