"""Sample pictures with truth and answer: which to show, and their thumbnails. A sheet of them: `sheets`."""

import base64
import io
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deponij.pipeline.metrics.predictions import Predictions
from deponij.pipeline.pictures import decode
from deponij.store.errors import PictureError

RIGHT, WRONG = (46, 139, 87), (204, 75, 55)


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


def choose_samples(predictions: Predictions, n: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """At most n right and n wrong answers, spread over the true classes, the same for the same seed."""
    answers = predictions.top_labels[:, 0]
    chosen = []
    for correct in (True, False):
        rows = np.flatnonzero((answers == predictions.truth) == correct)
        picked = _spread(rows, predictions.truth, n, seed)
        chosen.append(
            [
                Sample(
                    str(predictions.ids[i]),
                    str(predictions.truth[i]),
                    str(answers[i]),
                    float(predictions.top_probs[i, 0]),
                )
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
