"""What a training will take of this machine, told before it begins. The trial is `pipeline.training.estimate`'s."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from deponij.pipeline.training.estimate import Tried, fitting, needed_bytes
from deponij.project.extraction.weight_sizes import size
from deponij.store.texts import duration


@dataclass(frozen=True, slots=True)
class TrainingRoom:
    """What of a batch fits, and what it takes.

    Attributes:
        asked: batch size that was asked for.
        needed_bytes: of it, beside the model's weights.
        batch_size, pieces: the largest piece of it that fits, and how many of them it takes.
        free_bytes: of the device; None where it does not tell, and all fits.
        epoch_s: seconds of an epoch's steps.
    """

    asked: int
    needed_bytes: int
    batch_size: int
    pieces: int
    free_bytes: int | None
    epoch_s: float

    @property
    def needs(self) -> str:
        """What the batch that was asked for takes."""
        free = "" if self.free_bytes is None else f" of the {size(self.free_bytes)} that are free"
        verb = "needs" if self.pieces == 1 else "would need"
        return f"batch {self.asked} {verb} about {size(self.needed_bytes)}{free}"

    def __str__(self) -> str:
        time = f"about {duration(self.epoch_s)} an epoch"
        if self.pieces == 1:
            return f"{self.needs}; {time}"
        return f"{self.needs}: it is computed in {self.pieces} pieces of {self.batch_size}; {time}"


def training_room(
    tried: Sequence[Tried], batch_size: int, n_pictures: int, free_bytes: int | None
) -> TrainingRoom:
    """What fits, by a trial.

    Args:
        tried: by `trial`, at least one.
        n_pictures: of an epoch.
        free_bytes: as `free_memory_bytes` says it.

    Raises:
        UsageError: a single picture does not fit.
    """
    needed = partial(needed_bytes, tried)
    most = needed(batch_size)
    fits, pieces = fitting(batch_size, needed, most if free_bytes is None else free_bytes)
    return TrainingRoom(batch_size, most, fits, pieces, free_bytes, n_pictures * tried[-1].picture_s)
