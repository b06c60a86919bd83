"""Many small pictures in one: a page that shows hundreds of thumbnails on demand carries a single JPEG."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from PIL import Image

from deponij.pipeline.reports.samples import data_uri
from deponij.pipeline.reports.sheets import PLATE, paste_whole

# Browsers and JPEG take far larger pictures; phones decode this without trouble.
_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class Sprite:
    """Tiles row by row.

    Attributes:
        uri: a JPEG data URI.
        side_px: of a tile.
        n_columns, n_rows: tiles.
    """

    uri: str
    side_px: int
    n_columns: int
    n_rows: int


def sprite(images: Sequence[Image.Image], side_px: int) -> Sprite | None:
    """All images within squares of this side, in order; None for none."""
    if not images:
        return None
    n_columns = min(_COLUMNS, len(images))
    n_rows = ceil(len(images) / n_columns)
    canvas = Image.new("RGB", (n_columns * side_px, n_rows * side_px), PLATE)
    for i, image in enumerate(images):
        paste_whole(canvas, image, (i % n_columns * side_px, i // n_columns * side_px), side_px)
    return Sprite(data_uri(canvas), side_px, n_columns, n_rows)
