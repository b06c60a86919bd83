"""What every data adapter yields: one crop or one whole picture, or the reason why there is none.

Also how the split that a data set brings is read from the names it uses. Making splits lives elsewhere.
"""

import re
from dataclasses import dataclass, field

MetadataValue = str | int | float | bool | list[float] | None
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_FIRST_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Item:
    """One row of an items table.

    Attributes:
        item_id: unique and stable, says where the item came from.
        image_id: the photograph it came from, a POSIX path relative to the data set.
        content: encoded bytes (crops: PNG; whole pictures: the original file); None after a failure.
        key: content key from `deponij.store.keys`, 40 hexadecimal characters; None after a failure.
        width_px, height_px: of the item, upright; None after a failure.
        phash: 64-bit perceptual hash, 16 hexadecimal characters; None after a failure.
        failure: why there is no content; None when there is.
        given: `train`, `val` or `test` where the data set brings a split.
        metadata: further columns; the same names for every item of a data set.
    """

    item_id: str
    image_id: str
    content: bytes | None = None
    key: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    phash: str | None = None
    failure: str | None = None
    given: str | None = None
    metadata: dict[str, MetadataValue] = field(default_factory=dict)


def given_part(name: str) -> str | None:
    """`train`, `val` or `test` for a folder's or a field's name such as `Validation`; None for any other."""
    return _PARTS.get(name.strip().lower())


def given_part_of_file(file_name: str) -> str | None:
    """The part that a file's name begins with, as in `train-00000-of-00001.parquet`; None for any other."""
    word = _FIRST_WORD.match(file_name.lower())
    return None if word is None else _PARTS.get(word.group())
