"""Small pictures of items, for pages and sheets. This is no stage."""

from collections.abc import Collection

from PIL import Image

from deponij.pipeline.reports.samples import thumbnail
from deponij.store.items import Items

# Of a sheet's tile.
TILE_PX = 144


def images_of(items: Items, wanted: Collection[str], side_px: int = TILE_PX) -> dict[str, Image.Image]:
    """Thumbnails by item id, of those that can be decoded; failed and unknown items have none."""
    known = {item_id for item_id in wanted if item_id in items.places}
    rows = {items.places[i]: i for i in known if items.keys[items.places[i]] is not None}
    images = {}
    for row, content in items.contents(list(rows), only_there=True):
        image = thumbnail(content, side_px)
        if image is not None:
            images[rows[row]] = image
    return images
