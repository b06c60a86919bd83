"""Forty pictures of eight colours as items with captions, of which some repeat, one is blank and one is missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cli_world
import pyarrow as pa
from learning_world import write_split

from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes

COLOURS = [(r, g, b) for r in (30, 200) for g in (30, 200) for b in (30, 200)]
# None of them names its colour, so that a model that knows words does not know them.
THINGS = ("can", "cup", "bottle", "bag", "lid", "note", "glass", "stub")
N, BLANK, MISSING = 40, 8, 9
# The items of `train` with a caption: 24 without the blank and the missing one.
PARTS = ("train",) * 24 + ("val",) * 8 + ("test",) * 8


def caption_of(i: int) -> str | None:
    if i in (BLANK, MISSING):
        return " " if i == BLANK else None
    return f"a {'crumpled ' if i // 8 % 2 else ''}{THINGS[i % 8]}"


@dataclass(frozen=True)
class Told:
    """Where everything lies."""

    root: Path

    @property
    def items(self) -> Path:
        return self.root / "items"

    @property
    def split(self) -> Path:
        return self.root / "split.parquet"

    def asked(self, backbone: object, out: str, *more: object) -> list[object]:
        where = [
            "--items",
            self.items,
            "--split",
            self.split,
            "--labels",
            "caption",
            "--depot",
            self.root / "depot",
        ]
        short = ["--epochs", "2", "--batch", "8", "--set", "learns=captions"]
        return ["tune", *where, "--backbone", backbone, "--out", self.root / out, *short, *more]


def make(root: Path, copies: Mapping[str, int] = MappingProxyType({})) -> Told:
    """Items and a split.

    Args:
        copies: part -> items that it has more, which show the first pictures of `train` once more.
    """
    told = Told(root)
    columns = pa.schema([("label", pa.string()), ("caption", pa.string()), ("area", pa.int64())])
    again = [(part, i) for part, n in copies.items() for i in range(n)]
    numbers = [*range(N), *(i for _, i in again)]
    ids = [*(f"{i:02}.png" for i in range(N)), *(f"{i:02} again in {part}.png" for part, i in again)]
    with ItemWriter(told.items, columns) as writer:
        for i, item_id in zip(numbers, ids, strict=True):
            path = root / "one.png"
            cli_world.picture(COLOURS[i % 8], i).save(path)
            content = path.read_bytes()
            writer.add(
                item_id=item_id,
                key=key_of_bytes(content),
                image_id=item_id,
                width_px=24,
                height_px=20,
                content=content,
                metadata={"label": THINGS[i % 8], "caption": caption_of(i), "area": i},
            )
    write_split(told.split, ids, [*PARTS, *(part for part, _ in again)])
    return told
