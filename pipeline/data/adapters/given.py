"""The split that a data set brings by itself, read from the names it uses. Making splits lives elsewhere."""

import re

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


def given_part(name: str) -> str | None:
    """`train`, `val` or `test` for a folder's or a field's name such as `Validation`; None for any other."""
    return _PARTS.get(name.strip().lower())


def given_part_of_file(file_name: str) -> str | None:
    """The part that a file's name begins with, as in `train-00000-of-00001.parquet`; None for any other."""
    word = _FIRST_WORD.match(file_name.lower())
    return None if word is None else _PARTS.get(word.group())
