"""Sheets of pictures as PNG: blocks of tiles with words below them, on one page; and sprites, tiles without words."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from PIL import Image, ImageDraw, ImageFont, ImageOps

from deponij.pipeline.mistakes.records import ConfusedPair, Suspect, Twin
from deponij.pipeline.reports.samples import RIGHT, WRONG, Sample, data_uri
from deponij.store.texts import in_percent, one_line

Colour = tuple[int, int, int]
Images = Mapping[str, Image.Image]

INK, FAINT, PAPER, PLATE = (30, 32, 36), (120, 122, 126), (250, 250, 248), (232, 233, 230)
NEUTRAL: Colour = (150, 152, 156)
_TILE, _FRAME, _LINE, _INSET = 144, 4, 16, 4
_GAP, _HEADING, _MARGIN = 14, 24, 14
N_COLUMNS = 6
# Browsers and JPEG take far larger pictures; phones decode this without trouble.
_SPRITE_COLUMNS = 32
_WIDTH = 2 * _MARGIN + N_COLUMNS * _TILE + (N_COLUMNS - 1) * _GAP


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture (None: a grey plate) in a frame, with lines and the item's id below."""

    image: Image.Image | None
    lines: tuple[tuple[str, Colour], ...]
    item_id: str = ""
    frame: Colour = NEUTRAL


@dataclass(frozen=True, slots=True)
class Block:
    """Tiles that belong together, with a heading over them."""

    tiles: tuple[Tile, ...]
    heading: str = ""


def samples_sheet(samples: Sequence[tuple[Sample, Image.Image | None]], title: str) -> bytes:
    """Right and wrong answers: green frames and red ones; truth below, the answer's probability beneath it."""
    blocks = []
    for sample, image in samples:
        colour = RIGHT if sample.correct else WRONG
        answer = in_percent(sample.prob) if sample.correct else f"{in_percent(sample.prob)} {sample.answer}"
        blocks.append(Block((Tile(image, ((sample.truth, INK), (answer, colour)), frame=colour),)))
    return draw_sheet(blocks, title, "", "No answers.")


def suspects_sheet(suspects: Sequence[Suspect], images: Images, title: str, source: str) -> bytes:
    """Label, suggestion and the suggestion's probability of each."""
    blocks = [
        Block(
            (
                Tile(
                    images.get(one.item_id),
                    (
                        (f"label: {one.label}", INK),
                        (f"{in_percent(one.prob_suggested)} {one.suggested}", WRONG),
                        (f"quality {one.quality:.3f}", FAINT),
                    ),
                    one.item_id,
                    WRONG,
                ),
            )
        )
        for one in suspects
    ]
    return draw_sheet(blocks, title, source, "No label looks wrong.")


def twins_sheet(twins: Sequence[Twin], images: Images, title: str, source: str) -> bytes:
    """Both pictures of each pair with their labels."""
    words = {"picture": "same picture", "phash": "looks the same", "embedding": "similar features"}
    blocks = [
        Block(
            tuple(
                Tile(images.get(item_id), ((f"label: {label}", INK),), item_id, WRONG)
                for item_id, label in ((twin.a, twin.label_a), (twin.b, twin.label_b))
            ),
            f"{words[twin.how]} ({twin.similarity:.3f})" + (", one photograph" if twin.same_photo else ""),
        )
        for twin in twins
    ]
    return draw_sheet(blocks, title, source, "No near-duplicates with different labels.")


def confused_sheet(pairs: Sequence[ConfusedPair], images: Images, title: str, source: str) -> bytes:
    """A row for each pair of classes, the surest wrong answers first."""
    blocks = [
        Block(
            tuple(Tile(images.get(item_id), (), item_id, WRONG) for item_id in pair.item_ids[:N_COLUMNS]),
            f"{pair.truth} answered with {pair.answer}: {pair.n} of {pair.n_truth} ({in_percent(pair.n / pair.n_truth)})",
        )
        for pair in pairs
    ]
    return draw_sheet(blocks, title, source, "No classes are confused.", is_stacked=True)


def paste_whole(canvas: Image.Image, image: Image.Image, corner: tuple[int, int], side_px: int) -> None:
    """Paste all of an image into the middle of a square of the canvas."""
    fitted = ImageOps.contain(image, (side_px, side_px), Image.Resampling.LANCZOS)
    x, y = corner
    canvas.paste(fitted, (x + (side_px - fitted.width) // 2, y + (side_px - fitted.height) // 2))


def draw_sheet(
    blocks: Sequence[Block], title: str, source: str, nothing: str, *, is_stacked: bool = False
) -> bytes:
    """A PNG of blocks side by side, as many as fit in a row.

    Args:
        title, source: what is shown; of which data and features, a line or more.
        nothing: said instead of an empty page.
        is_stacked: every block begins a row.
    """
    rows = list(_rows(blocks, is_stacked))
    top = 48 + _LINE * (source.count("\n") + 1) + 8
    height = top + sum(_height(row) for row in rows) + (_MARGIN if rows else 44)
    canvas = Image.new("RGB", (_WIDTH, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    _write(draw, (_MARGIN, 12), title, INK, 18, _WIDTH - 2 * _MARGIN)
    for number, line in enumerate(source.split("\n")):
        _write(draw, (_MARGIN, 40 + _LINE * number), line, FAINT, 12, _WIDTH - 2 * _MARGIN)
    if not rows:
        _write(draw, (_MARGIN, top + 8), nothing, INK, 14, _WIDTH - 2 * _MARGIN)
    y = top
    for row in rows:
        _draw_row(canvas, draw, row, y)
        y += _height(row)
    file = io.BytesIO()
    canvas.save(file, "PNG", optimize=True)
    return file.getvalue()


def _rows(blocks: Sequence[Block], is_stacked: bool) -> Iterator[list[Block]]:
    row: list[Block] = []
    for block in blocks:
        taken = sum(len(one.tiles) for one in row)
        if row and (is_stacked or taken + len(block.tiles) > N_COLUMNS):
            yield row
            row = []
        row.append(block)
    if row:
        yield row


def _height(row: Sequence[Block]) -> int:
    n_lines = max(len(tile.lines) + bool(tile.item_id) for block in row for tile in block.tiles)
    return (_HEADING if any(block.heading for block in row) else 0) + _TILE + 6 + n_lines * _LINE + _GAP


def _draw_row(canvas: Image.Image, draw: ImageDraw.ImageDraw, row: Sequence[Block], y: int) -> None:
    x = _MARGIN
    below = _HEADING if any(block.heading for block in row) else 0
    for block in row:
        if block.heading:
            room = len(block.tiles) * (_TILE + _INSET) if len(row) > 1 else _WIDTH - 2 * _MARGIN
            _write(draw, (x, y), block.heading, INK, 13, room)
        for number, tile in enumerate(block.tiles):
            # Tiles of one block stand close together.
            _draw_tile(canvas, draw, tile, (x + number * (_TILE + _INSET), y + below))
        x += len(block.tiles) * (_TILE + _GAP)


def _draw_tile(canvas: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, corner: tuple[int, int]) -> None:
    x, y = corner
    plate = Image.new("RGB", (_TILE - 2 * _FRAME,) * 2, PLATE)
    if tile.image is not None:
        paste_whole(plate, tile.image, (0, 0), plate.width)
    draw.rectangle((x, y, x + _TILE - 1, y + _TILE - 1), fill=tile.frame)
    canvas.paste(plate, (x + _FRAME, y + _FRAME))
    y += _TILE + 3
    for text, colour in tile.lines:
        _write(draw, (x, y), text, colour, 12, _TILE)
        y += _LINE
    if tile.item_id:
        # The end of an id tells items of one folder apart.
        _write(draw, (x, y), tile.item_id, FAINT, 10, _TILE, keep_end=True)


def _write(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    colour: Colour,
    size: int,
    room: int,
    *,
    keep_end: bool = False,
) -> None:
    font = ImageFont.load_default(size)
    text = shown = one_line(text)
    while text and draw.textlength(shown, font=font) > room:
        text = text[1:] if keep_end else text[:-1]
        shown = f"…{text}" if keep_end else f"{text}…"
    draw.text(corner, shown, fill=colour, font=font)


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
    n_columns = min(_SPRITE_COLUMNS, len(images))
    n_rows = ceil(len(images) / n_columns)
    canvas = Image.new("RGB", (n_columns * side_px, n_rows * side_px), PLATE)
    for i, image in enumerate(images):
        paste_whole(canvas, image, (i % n_columns * side_px, i // n_columns * side_px), side_px)
    return Sprite(data_uri(canvas), side_px, n_columns, n_rows)
