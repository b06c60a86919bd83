"""Sheets of mistakes: sizes, what is drawn where, and what an empty one says."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from deponij.pipeline.mistakes.records import ConfusedPair, Suspect, Twin
from deponij.pipeline.reports import sheets
from deponij.pipeline.reports.samples import WRONG
from deponij.pipeline.reports.sheets import confused_sheet, suspects_sheet, twins_sheet

COLOURS = [(200, 30, 40), (20, 160, 60), (40, 60, 210), (230, 200, 20)]
IMAGES = {f"i{row}": Image.new("RGB", (60, 60), colour) for row, colour in enumerate(COLOURS)}


def suspect(item_id: str) -> Suspect:
    return Suspect(
        item_id=item_id, label="Can", suggested="Cup", quality=0.1, prob_label=0.1, prob_suggested=0.8
    )


def twin(a: str, b: str) -> Twin:
    return Twin(a=a, b=b, label_a="Can", label_b="Cup", similarity=1.0, how="picture", same_photo=False)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def columns_of(png: bytes, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((pixels(png) == colour).all(axis=2).any(axis=0))


def test_pictures_stand_side_by_side_in_order() -> None:
    png = suspects_sheet([suspect(f"i{row}") for row in range(4)], IMAGES, "title", "source")
    places = [columns_of(png, colour) for colour in COLOURS]
    assert all(len(place) > 100 for place in places)
    assert all(left.max() < right.min() for left, right in pairwise(places))
    assert (pixels(png) == WRONG).all(axis=2).any()


def test_more_rows_make_a_taller_sheet_of_the_same_width() -> None:
    heights = []
    for n in (6, 7, 13):
        shape = pixels(suspects_sheet([suspect("i0")] * n, IMAGES, "t", "s")).shape
        heights.append(shape[0])
        assert shape[1] == pixels(suspects_sheet([], {}, "t", "s")).shape[1]
    assert heights[1] - heights[0] == heights[2] - heights[1] > 144


def test_a_missing_picture_is_a_plate() -> None:
    png = twins_sheet([twin("i0", "unknown")], IMAGES, "t", "s")
    assert len(columns_of(png, COLOURS[0])) > 100
    assert len(columns_of(png, sheets.PLATE)) > 100


def test_each_pair_of_classes_begins_a_row() -> None:
    pairs = [
        ConfusedPair(truth="Can", answer="Cup", n=2, n_truth=4, item_ids=("i0", "i1")),
        ConfusedPair(truth="Cup", answer="Can", n=1, n_truth=4, item_ids=("i2",)),
    ]
    png = confused_sheet(pairs, IMAGES, "t", "s")
    # The second pair's picture stands below the first one's, at the left.
    assert columns_of(png, COLOURS[2]).min() == columns_of(png, COLOURS[0]).min()
    rows = [
        np.flatnonzero((pixels(png) == colour).all(axis=2).any(axis=1)) for colour in (COLOURS[0], COLOURS[2])
    ]
    assert rows[0].max() < rows[1].min()


def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the sheets write from now on."""
    words: list[str] = []
    write = sheets._write

    def keep(draw: object, corner: object, text: str, *rest: object, **more: object) -> None:
        words.append(text)
        write(draw, corner, text, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(sheets, "_write", keep)
    return words


def test_an_empty_sheet_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    words = written(monkeypatch)
    for sheet in (suspects_sheet, twins_sheet, confused_sheet):
        assert pixels(sheet([], {}, "title", "source\nof two lines")).shape[0] < 200  # type: ignore[operator]
    assert words.count("title") == words.count("source") == words.count("of two lines") == 3
    assert {
        "No label looks wrong.",
        "No near-duplicates with different labels.",
        "No classes are confused.",
    } <= set(words)


def test_words_of_each_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    words = written(monkeypatch)
    suspects_sheet([suspect("i0")], IMAGES, "t", "s")
    twins_sheet([twin("i1", "i2")], IMAGES, "t", "s")
    pair = ConfusedPair(truth="Can", answer="Cup", n=2, n_truth=8, item_ids=("i3",))
    confused_sheet([pair], IMAGES, "t", "s")
    assert {"label: Can", "80.0 % Cup", "i0", "i1", "label: Cup", "i2", "i3", "same picture (1.000)"} <= set(
        words
    )
    assert "Can answered with Cup: 2 of 8 (25.0 %)" in words


def test_the_end_of_a_long_id_is_kept() -> None:
    class Draw:
        shown = ""

        def textlength(self, text: str, font: object) -> float:
            return 6.0 * len(text)

        def text(self, corner: object, text: str, **rest: object) -> None:
            self.shown = text

    draw = Draw()
    sheets._write(draw, (0, 0), "folder/photo.jpg#7", (0, 0, 0), 10, 60, keep_end=True)  # type: ignore[arg-type]
    # Ten characters of six pixels fit.
    assert draw.shown == "…oto.jpg#7"
