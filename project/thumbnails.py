"""Small pictures of items, for pages and sheets. This is no stage."""

from collections.abc import Collection

from PIL import Image

from deponij.pipeline.reports.samples import thumbnail
from deponij.store.items import Items

# Of a sheet's tile.
TILE_PX = 144


def images_of(items: Items, wanted: Collection[str], side_px: int = TILE_PX) -> dict[str, Image.Image]:
    """Thumbnails by item id, of those that can be decoded; failed and unknown items have none."""
    chosen = frozenset(wanted)
    pairs = enumerate(zip(items.ids, items.keys, strict=True))
    rows = {row: item_id for row, (item_id, key) in pairs if item_id in chosen and key is not None}
    images = {}
    for row, content in items.contents(list(rows)):
        image = thumbnail(content, side_px)
        if image is not None:
            images[rows[row]] = image
    return images
