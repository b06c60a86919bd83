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
        n_parts: that it is computed in anyway, in pieces or by processes.
        needed_bytes: of a part, beside the model's weights.
        batch_size, pieces: the largest piece of a part that fits, and how many of them it takes.
        free_bytes: for a part; None where the device does not tell, and all fits.
        epoch_s: seconds of an epoch, its validation included.
    """

    asked: int
    n_parts: int
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
        parts = "" if self.n_parts == 1 else f" in {self.n_parts} parts"
        return f"batch {self.asked}{parts} {verb} about {size(self.needed_bytes)}{free}"

    def __str__(self) -> str:
        time = f"about {duration(self.epoch_s)} an epoch"
        if self.pieces == 1:
            return f"{self.needs}; {time}"
        return f"{self.needs}: it is computed in {self.pieces * self.n_parts} pieces of {self.batch_size}; {time}"


def training_room(
    tried: Sequence[Tried], batch_size: int, free_bytes: int | None, epoch_s: float, n_parts: int = 1
) -> TrainingRoom:
    """What fits, by a trial.

    Args:
        tried: by `trial`, at least one.
        free_bytes, epoch_s, n_parts: see `TrainingRoom`.

    Raises:
        UsageError: a single picture does not fit.
    """
    needed = partial(needed_bytes, tried)
    part = -(-batch_size // n_parts)
    most = needed(part)
    fits, pieces = fitting(part, needed, most if free_bytes is None else free_bytes)
    return TrainingRoom(batch_size, n_parts, most, fits, pieces, free_bytes, epoch_s)
