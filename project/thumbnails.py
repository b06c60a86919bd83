"""Small pictures of items, for pages and sheets. This is no stage."""

from collections.abc import Collection

from PIL import Image

from deponij.pipeline.reports.samples import thumbnail
from deponij.project.frame.console import warn
from deponij.store.errors import StoreError
from deponij.store.items import Items

# Of a sheet's tile.
TILE_PX = 144


def images_of(items: Items, wanted: Collection[str], side_px: int = TILE_PX) -> dict[str, Image.Image]:
    """Thumbnails by item id, of those that can be decoded; failed and unknown items have none, nor those whose files are
    gone or have changed, which are told.
    """
    known = {item_id for item_id in wanted if item_id in items.places}
    rows = {items.places[i]: i for i in known if items.keys[items.places[i]] is not None}
    images, gone = {}, list[str]()
    for row, content in items.found(list(rows), only_there=True):
        if isinstance(content, StoreError):
            gone.append(str(content))
            continue
        image = thumbnail(content, side_px)
        if image is not None:
            images[rows[row]] = image
    if gone:
        warn(f"pictures that cannot be shown: {len(gone):,}; the first: {gone[0]}")
    return images
