"""A set whose near-duplicates, leaks and outliers are known, laid out as a run of a profile."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from learning_world import picture, write_features, write_split

from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes

DIM = 24
HASH = 0x0F0F_3C3C_AAAA_1234


@dataclass(frozen=True)
class Row:
    """One item: its picture by seed (None: it failed), a direction and how far it is turned to the next one."""

    item_id: str
    photo: str
    label: str | None
    part: str | None
    seed: int | None
    axis: int
    turn: float
    phash: int


def flipped(word: int, *bits: int) -> int:
    for bit in bits:
        word ^= 1 << bit
    return word


ROWS = (
    # The same picture in two photographs and two parts.
    Row("a.jpg#0", "a.jpg", "Can", "train", 0, 0, 0.0, HASH),
    Row("b.jpg#0", "b.jpg", "Can", "test", 0, 0, 0.0, HASH),
    # Hashes two bits apart in one photograph, features 0.5 rad (cosine 0.878).
    Row("c.jpg#0", "c.jpg", "Cup", "train", 2, 2, 0.0, flipped(HASH, *range(20))),
    Row("c.jpg#1", "c.jpg", "Cup", "val", 3, 2, 0.5, flipped(HASH, *range(22))),
    # Features 0.1 rad apart (cosine 0.995), hashes far apart; labels differ.
    Row("d.jpg#0", "d.jpg", "Lid", "train", 4, 6, 0.0, flipped(HASH, *range(20, 40))),
    Row("e.jpg#0", "e.jpg", "Can", "test", 5, 6, 0.1, flipped(HASH, *range(40, 60))),
    # Hashes three bits apart, which features at a right angle do not confirm.
    Row("f.jpg#0", "f.jpg", "Can", "train", 6, 8, 0.0, flipped(HASH, *range(10, 30))),
    Row("g.jpg#0", "g.jpg", None, None, 7, 10, 0.0, flipped(HASH, *range(13, 30))),
    # Nothing is like this.
    Row("h.jpg#0", "h.jpg", "Lid", "test", 8, 12, 0.0, flipped(HASH, *range(5, 64, 3))),
    # This one cannot be read.
    Row("i.jpg#0", "i.jpg", "Lid", "test", None, 14, 0.0, 0),
)


def vector(axis: int, turn: float) -> np.ndarray:
    found = np.zeros(DIM)
    found[axis], found[axis + 1] = np.cos(turn), np.sin(turn)
    return found


@dataclass(frozen=True)
class World:
    """Paths of a run's layout below a folder with a `params.yaml`."""

    root: Path

    @property
    def items(self) -> Path:
        return self.root / "runs/tiny/items"

    @property
    def view(self) -> Path:
        return self.root / "runs/tiny/views/model.h5"

    @property
    def split(self) -> Path:
        return self.root / "runs/tiny/splits/group.parquet"

    @property
    def named(self) -> list[object]:
        """Flags that name everything."""
        return ["--features", self.view, "--items", self.items, "--split", self.split, "--labels", "label"]


def write_set(items: Path, view: Path, rows: tuple[Row, ...] = ROWS, weights: str = "w" * 64) -> None:
    """Items and their features."""
    with ItemWriter(items, pa.schema([("label", pa.string())])) as writer:
        for row in rows:
            content = None if row.seed is None else picture(row.seed)
            writer.add(
                item_id=row.item_id,
                key=None if content is None else key_of_bytes(content),
                image_id=row.photo,
                width_px=24,
                height_px=32,
                phash=None if content is None else f"{row.phash:016x}",
                content=content,
                failure="not a picture" if content is None else None,
                metadata={"label": row.label},
            )
    seen = [row for row in rows if row.seed is not None]
    write_features(
        view,
        [row.item_id for row in seen],
        [key_of_bytes(picture(row.seed)) for row in seen if row.seed is not None],
        # Lengths do not matter.
        np.stack([(1 + place) * vector(row.axis, row.turn) for place, row in enumerate(seen)]).astype(
            np.float32
        ),
        weights=weights,
        failures=[(row.item_id, "not a picture") for row in rows if row.seed is None],
    )


def make_world(root: Path) -> World:
    """The rows above as the run `tiny`."""
    world = World(root)
    write_set(world.items, world.view)
    write_split(world.split, [row.item_id for row in ROWS], [row.part for row in ROWS])
    (root / "params.yaml").write_text(
        "profile: tiny\nbackbones: {other: {}, model: {}}\nlabels: [label]\n"
        "splits: {group: {strategy: group}, missing: {strategy: random}}\n"
    )
    return world
