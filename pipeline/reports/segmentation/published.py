"""What others published of segmentation, to stand beside our figures: `camvid.csv`, percentages as they were printed.

All of it learned from train and validation together and has no intervals; the protocol of ours stands with them.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from deponij.pipeline.record_lists import Record

_FILE = Path(__file__).with_name("camvid.csv")
_FIGURES = ("accuracy", "mean_accuracy", "miou_train", "miou")
PUBLISHED_PROTOCOL = "published: learned from train and validation, windows of 224 px encoded by themselves"


class Published(Record):
    """One approach, as printed but as fractions of 1.

    Attributes:
        accuracy, mean_accuracy, miou_train, miou: of the test part, but for miou_train; None where it is not said.
        iou: of each class; empty where it is not said.
    """

    approach: str
    words: str
    accuracy: float | None
    mean_accuracy: float | None
    miou_train: float | None
    miou: float | None
    iou: Mapping[str, float]
    source: str


def published_for(classes: Iterable[str]) -> tuple[Published, ...]:
    """What was published for these very classes, whatever their order and writing (`SignSymbol`, `sign symbol`); with
    the names that are used here.
    """
    names = {_plain(name): name for name in classes}
    rows, columns = _rows()
    if set(names) != set(columns):
        return ()
    return tuple(
        one.model_copy(update={"iou": {names[key]: value for key, value in one.iou.items()}}) for one in rows
    )


@cache
def _rows() -> tuple[tuple[Published, ...], tuple[str, ...]]:
    """All of it, and the classes that it is of."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        other = {"approach", "words", "source", *_FIGURES}
        columns = [name for name in reader.fieldnames or () if name not in other]
        rows = tuple(
            Published(
                approach=row["approach"],
                words=row["words"],
                source=row["source"],
                iou={_plain(name): value for name in columns if (value := _share(row[name])) is not None},
                **{name: _share(row[name]) for name in _FIGURES},
            )
            for row in reader
        )
    return rows, tuple(map(_plain, columns))


def _share(printed: str) -> float | None:
    # Of 70.50 the fraction is 0.705; division alone would give 0.7050000000000001.
    return round(float(printed) / 100, 6) if printed else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
