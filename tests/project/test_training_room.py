"""What is told of a training before it begins."""

import pytest

from deponij.pipeline.training.estimate import Tried
from deponij.project.tuning.room import training_room
from deponij.store.errors import UsageError

GB = 10**9
# Half a gigabyte a picture of the batch, and 0.5 GB that is kept.
TRIED = (
    Tried(2, 3.0, GB // 2, 0, 3 * GB // 2),
    Tried(4, 2.0, GB // 2, 0, 5 * GB // 2),
)


def test_what_does_not_fit_is_computed_in_pieces_and_told() -> None:
    room = training_room(TRIED, 62, 367, 24 * GB)
    # 62 is 31 twice: 16 GB.
    assert (room.batch_size, room.pieces, room.needed_bytes) == (31, 2, 31 * GB + GB // 2)
    assert str(room) == (
        "batch 62 would need about 31.5 GB of the 24.0 GB that are free: it is computed in 2 pieces of 31; "
        "about 12 min 14 s an epoch"
    )


def test_what_fits_is_told() -> None:
    assert str(training_room(TRIED, 4, 10, 24 * GB)) == (
        "batch 4 needs about 2.5 GB of the 24.0 GB that are free; about 20 s an epoch"
    )


def test_where_the_device_does_not_tell_all_fits() -> None:
    assert str(training_room(TRIED, 64, 10, None)) == "batch 64 needs about 32.5 GB; about 20 s an epoch"


def test_nothing_fits() -> None:
    with pytest.raises(UsageError, match="a single picture needs"):
        training_room(TRIED, 64, 10, GB // 10)
