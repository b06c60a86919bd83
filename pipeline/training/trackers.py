"""Trackers that are told how a training goes, by Accelerate's own classes for them: nothing is written without being asked.

They are options and shape nothing of what is learned.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from deponij.store.errors import StoreError, UsageError

TrackerName = Literal["tensorboard", "dvclive", "wandb", "mlflow"]
TRACKERS: tuple[TrackerName, ...] = get_args(TrackerName)
# What their packages raise beside errors of the system.
_ERRORS = {
    "dvclive": "dvclive.error.DvcLiveError",
    "wandb": "wandb.errors.Error",
    "mlflow": "mlflow.exceptions.MlflowException",
}
Log = Callable[[Mapping[str, float], int], None]


@dataclass(frozen=True, slots=True)
class Tracking:
    """Who is told.

    Attributes:
        trackers: by name; each needs the package of its name.
        log_dir: where they write. What goes to a server (`wandb`, `mlflow`) is set by their own variables
            (`WANDB_MODE`, `MLFLOW_TRACKING_URI`).
        name: of this training, as trackers show it; TensorBoard's files are in `log_dir`/`name`.
    """

    trackers: Sequence[TrackerName]
    log_dir: Path
    name: str = "training"

    def check(self) -> None:
        """Before anything is computed.

        Raises:
            UsageError: there is no such tracker, or its package is not installed.
        """
        for one in self.trackers:
            if one not in TRACKERS:
                raise UsageError(f"there is no tracker {one!r}; there are {', '.join(TRACKERS)}")
            if find_spec(one) is None:
                raise UsageError(
                    f"the tracker {one} needs the package {one}, which is not installed: pip install {one}"
                )


@contextmanager
def tracked(
    tracking: Tracking | None, settings: Mapping[str, Any], n_done: int, on_note: Callable[[str], None]
) -> Iterator[Log]:
    """What tells all trackers figures by name, and the number of batches done; they are closed afterwards.

    Args:
        settings: of the training, which they show.
        n_done: batches that an earlier process did; TensorBoard and DVCLive replace figures of later ones
            that it told.
        on_note: told of a tracker that fails on the way (a full disk, a server that is gone): it is told no more, and the
            training goes on.

    Raises:
        UsageError: see `Tracking.check`.
        StoreError: a tracker cannot begin.
    """
    if tracking is None or not tracking.trackers:
        yield lambda figures, n_done: None
        return
    tracking.check()
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    folder = str(tracking.log_dir)
    arguments: dict[TrackerName, dict[str, Any]] = {
        "tensorboard": {"logging_dir": folder, "purge_step": n_done + 1 if n_done else None},
        "dvclive": {
            "dir": str(tracking.log_dir / tracking.name),
            "resume": n_done > 0,
            "save_dvc_exp": False,
            # Else it writes its plots into the dvc.yaml at the top of the repository.
            "dvcyaml": None,
        },
        "wandb": {"dir": folder},
        "mlflow": {"logging_dir": folder},
    }
    told = {
        key: one if isinstance(one, bool | int | float | str) else str(one) for key, one in settings.items()
    }
    open_ones: dict[TrackerName, Any] = {}

    def give_up(name: TrackerName, error: StoreError) -> None:
        open_ones.pop(name, None)
        on_note(f"{error}; it is told no more, and the training goes on")

    def log(figures: Mapping[str, float], n_done: int) -> None:
        for name, tracker in list(open_ones.items()):
            try:
                with _explained(name):
                    tracker.log(dict(figures), step=n_done)
            except StoreError as error:
                give_up(name, error)

    try:
        for name in dict.fromkeys(tracking.trackers):
            with _explained(name):
                tracking.log_dir.mkdir(parents=True, exist_ok=True)
                tracker = LOGGER_TYPE_TO_CLASS[name](tracking.name, **arguments[name])
                tracker.start()
                open_ones[name] = tracker
                tracker.store_init_configuration(told)
        yield log
    finally:
        for name, tracker in list(open_ones.items()):
            try:
                with _explained(name):
                    tracker.finish()
            except StoreError as error:
                give_up(name, error)


@contextmanager
def _explained(name: TrackerName) -> Iterator[None]:
    """Turn what a tracker stumbles over into an error that names it."""
    module, _, error = _ERRORS.get(name, "builtins.OSError").rpartition(".")
    own: type[Exception] = getattr(import_module(module), error)
    try:
        yield
    except (OSError, own) as stumbled:
        first = (str(stumbled).splitlines() or [type(stumbled).__name__])[0]
        raise StoreError(f"the tracker {name} cannot write: {first}") from stumbled
