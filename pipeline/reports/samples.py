"""Sample pictures with truth and answer: which to show, their thumbnails, and a sheet of them as one PNG."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from deponij.pipeline.metrics.predictions import Predictions
from deponij.pipeline.pictures import decode
from deponij.store.errors import PictureError

RIGHT, WRONG = (46, 139, 87), (204, 75, 55)
_TILE, _CAPTION, _GAP, _FRAME = 144, 38, 12, 4


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered item; `prob` is of the answer."""

    item_id: str
    truth: str
    answer: str
    prob: float

    @property
    def correct(self) -> bool:
        """Whether the answer is the truth."""
        return self.truth == self.answer


def choose_samples(found: Predictions, n: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """At most n right and n wrong answers, spread over the true classes, the same for the same seed."""
    answers = found.top_labels[:, 0]
    chosen = []
    for correct in (True, False):
        rows = np.flatnonzero((answers == found.truth) == correct)
        picked = _spread(rows, found.truth, n, seed)
        chosen.append(
            [
                Sample(str(found.ids[i]), str(found.truth[i]), str(answers[i]), float(found.top_probs[i, 0]))
                for i in picked
            ]
        )
    return chosen[0], chosen[1]


def _spread(rows: NDArray[np.int64], truth: NDArray[np.str_], n: int, seed: int) -> list[int]:
    """n of the rows, one of each class in turn; the order is random otherwise."""
    turns: Counter[str] = Counter()
    order = []
    for row in np.random.default_rng(seed).permutation(rows).tolist():
        name = str(truth[row])
        order.append((turns[name], row))
        turns[name] += 1
    return [row for _, row in sorted(order, key=lambda entry: entry[0])[:n]]


def thumbnail(content: bytes, side_px: int) -> Image.Image | None:
    """The picture within a square of this side, upright RGB; None if it cannot be decoded."""
    try:
        image = decode(content)
    except PictureError:
        return None
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    # Crops of a few pixels would be lost on the page.
    if max(image.size) < side_px // 2:
        factor = max(1, side_px // 2 // max(image.size))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return image


def data_uri(image: Image.Image) -> str:
    """A JPEG data URI of a few kilobytes."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=78, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def sheet(samples: Sequence[tuple[Sample, Image.Image | None]], title: str, n_columns: int = 6) -> bytes:
    """A PNG of tiles: green frame for right, red for wrong; truth below, a wrong answer beneath it."""
    n_rows = max(1, -(-len(samples) // n_columns))
    step_x, step_y = _TILE + _GAP, _TILE + _CAPTION + _GAP
    canvas = Image.new("RGB", (_GAP + n_columns * step_x, 44 + _GAP + n_rows * step_y), (250, 250, 248))
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, 14), title, fill=(30, 32, 36), font=ImageFont.load_default(18))
    for i, (sample, image) in enumerate(samples):
        x, y = _GAP + i % n_columns * step_x, 44 + _GAP + i // n_columns * step_y
        _tile(canvas, draw, sample, image, (x, y))
    file = io.BytesIO()
    canvas.save(file, "PNG", optimize=True)
    return file.getvalue()


def _tile(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    sample: Sample,
    image: Image.Image | None,
    corner: tuple[int, int],
) -> None:
    x, y = corner
    colour = RIGHT if sample.correct else WRONG
    inner = _TILE - 2 * _FRAME
    plate = Image.new("RGB", (inner, inner), (232, 233, 230))
    if image is not None:
        fitted = ImageOps.contain(image, (inner, inner), Image.Resampling.LANCZOS)
        plate.paste(fitted, ((inner - fitted.width) // 2, (inner - fitted.height) // 2))
    draw.rectangle((x, y, x + _TILE - 1, y + _TILE - 1), fill=colour)
    canvas.paste(plate, (x + _FRAME, y + _FRAME))
    font = ImageFont.load_default(12)
    told = f"{sample.prob:.0%}" if sample.correct else f"{sample.prob:.0%} {sample.answer}"
    for line, (text, ink) in enumerate(((sample.truth, (30, 32, 36)), (told, colour))):
        draw.text((x, y + _TILE + 3 + 16 * line), _fit(draw, text, font), fill=ink, font=font)


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    if draw.textlength(text, font=font) <= _TILE:
        return text
    while text and draw.textlength(text + "…", font=font) > _TILE:
        text = text[:-1]
    return text + "…"
