"""What maps will take on the disk and in time, said and held against what is free before any is computed. This is no stage.

The sides of maps are those of a trial: a real forward pass of a few of these very pictures, which also gives the time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from deponij.project.extraction import forecast
from deponij.project.extraction.feature_maker import FeatureMaker, pictures_of
from deponij.project.extraction.weight_sizes import free_bytes, size
from deponij.store import hdf5
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError
from deponij.store.items import Items
from deponij.store.texts import duration
from deponij.store.writer import SHARD_BYTES

# While a shard is written its rows also lie in its stand-ins.
_SPARE_BYTES = 2 * SHARD_BYTES


@dataclass(frozen=True, slots=True)
class Room:
    """What one backbone's maps of some pictures will take.

    Attributes:
        backbone: what they are called after.
        kinds: such as `pyramid@4` and `pyramid@4+flip`.
        depot: its location.
        n_pictures: distinct ones.
        n_new: rows that the depot does not have, of all kinds together.
        maps: name -> (C, h, w) of a row; empty where no picture could be read.
        row_bytes, new_bytes: of a row, and of all new ones, on the disk.
        free_bytes: where the depot lies; None where that is no folder of this machine.
        seconds: of computing the new ones; None where they are few, or no picture could be tried.
        n_tried: pictures of the trial.
        device: on which it ran.
    """

    backbone: str
    kinds: tuple[str, ...]
    depot: str
    n_pictures: int
    n_new: int
    maps: Mapping[str, tuple[int, ...]]
    row_bytes: int
    new_bytes: int
    free_bytes: int | None
    seconds: float | None
    n_tried: int
    device: str

    @property
    def is_enough(self) -> bool:
        """Whether the disk has room for them."""
        return self.free_bytes is None or self.new_bytes + _SPARE_BYTES <= self.free_bytes or not self.n_new

    def __str__(self) -> str:
        row = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.maps.items())
        free = "" if self.free_bytes is None else f", where {size(self.free_bytes)} are free"
        time = ""
        if self.seconds is not None:
            time = f"; about {duration(self.seconds)} on {self.device} ({self.n_tried} pictures tried)"
        n_rows = len(self.kinds) * self.n_pictures
        return (
            f"{self.backbone}, {' and '.join(self.kinds)}: {self.n_new} of {n_rows} rows are new; "
            f"{size(self.row_bytes)} a picture ({row}), {size(self.new_bytes)} in the depot{free}{time}"
        )


def room_for(makers: Sequence[FeatureMaker], items: Items, store: FeatureStore) -> Room:
    """What the maps of these makers (of one backbone) will take; looks at a few of the pictures.

    Raises:
        DeponijError: the model or the device cannot be used.
    """
    first = makers[0]
    keys = list(dict.fromkeys(key for key in items.keys if key is not None))
    new = [store.missing(maker.backbone.identity, keys) for maker in makers]
    n_new = sum(map(len, new))
    sample = max(new, key=len)
    n_tried, picture_s = 0, 0.0
    if len(sample) > forecast.N_TRIAL:
        n_tried, picture_s = forecast.trial(first, items, sample)
    maps = _maps_of(first, items, sample)
    item_bytes = np.dtype(first.backbone.identity.stored).itemsize
    row_bytes = sum(hdf5.map_bytes(shape, item_bytes) for shape in maps.values())
    return Room(
        backbone=first.backbone.name,
        kinds=tuple(str(maker.backbone.kind) for maker in makers),
        depot=store.location,
        n_pictures=len(keys),
        n_new=n_new,
        maps=maps,
        row_bytes=row_bytes,
        new_bytes=row_bytes * n_new,
        free_bytes=None if store.local_path is None else free_bytes(store.local_path),
        seconds=picture_s * n_new if n_tried else None,
        n_tried=n_tried,
        device=first.device,
    )


def require_room(room: Room, tell: Callable[[str], None]) -> None:
    """Say what maps will take, and refuse them where the disk has no room.

    Raises:
        StoreError: it has not; with what to do.
    """
    tell(str(room))
    if not room.is_enough:
        raise StoreError(
            f"the maps of {room.backbone} take {size(room.new_bytes)} (and {size(_SPARE_BYTES)} for a while), and "
            f"{size(room.free_bytes or 0)} are free at {room.depot}: make room there, name a depot on another disk "
            "(--depot, DEPONIJ_DEPOT), or ask for fewer maps (`pyramid@3`), a smaller `input_px` or no flip"
        )


def _maps_of(maker: FeatureMaker, items: Items, keys: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of a row's maps: of the first of these pictures that can be read, among the first few."""
    progress = maker.progress()
    progress.batch_size = 1
    chosen = list(islice(keys, forecast.N_TRIAL))
    for rows in maker.rows(pictures_of(items, chosen), progress):
        return {name: values.shape[1:] for name, values in rows.arrays.items()}
    return {}
