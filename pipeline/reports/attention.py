"""Where a head looks: pictures that are light where its queries attend, for the page.

Shape letters: h and w sides of the grid, H and W of the picture in px, M queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deponij.pipeline.reports.provenance import Provenance
from deponij.pipeline.reports.samples import Sample
from deponij.pipeline.reports.table import ResultRow

# Of the brightness of what is not looked at.
_DARK = 0.2


@dataclass(frozen=True, slots=True)
class Looked:
    """One picture and where the head looks in it.

    Attributes:
        sample: truth and answer.
        seen: data URI of the picture as the backbone saw it.
        mean: light where the queries look on average.
        queries: the same of each query.
    """

    sample: Sample
    seen: str
    mean: str
    queries: Sequence[str]


@dataclass(frozen=True, slots=True)
class AttentionFacts:
    """One classifier's looks.

    Attributes:
        row: its row of the table.
        wrong, right: pictures that it answers so.
        grid: (h, w).
        n_queries: M.
    """

    row: ResultRow
    wrong: Sequence[Looked]
    right: Sequence[Looked]
    grid: tuple[int, int]
    n_queries: int
    source: Provenance


def lit(picture: Image.Image, attention: NDArray[np.floating]) -> Image.Image:
    """The picture [H, W], lighter where the attention [h, w] is larger; even attention leaves it as it is.

    What is not looked at is dark and grey, so that neither the page's colours nor a reader's eyes for colour matter. Light
    goes with the square of the share of the largest attention: half of it is to look dark beside it.
    """
    share = (attention / max(float(attention.max()), 1e-12)).astype(np.float32)
    mask = Image.fromarray(np.round(255 * share**2).astype(np.uint8)).resize(
        picture.size, Image.Resampling.BILINEAR
    )
    dark = Image.eval(picture.convert("L"), lambda value: int(_DARK * value)).convert("RGB")
    return Image.composite(picture, dark, mask)
