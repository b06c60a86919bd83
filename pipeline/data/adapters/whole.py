"""A whole picture as an item: original bytes, keyed by them, proven to decode."""

from collections.abc import Mapping

from deponij.pipeline.data.item import Item, MetadataValue
from deponij.pipeline.likeness.phash import GRID_PX, phash
from deponij.pipeline.pictures import Route, decode, upright_size_px
from deponij.store.errors import DataError
from deponij.store.keys import key_of_bytes

# Pictures that a decoding thread takes at once: pictures of a few pixels cost less than a hand-over.
CHUNK = 8


def whole_picture(
    item_id: str,
    content: bytes | None,
    failure: str | None,
    given: str | None,
    metadata: Mapping[str, MetadataValue],
) -> Item:
    """The item of one picture file; if its bytes do not decode, the item carries the reason.

    The picture is decoded to prove that it can be and for its perceptual hash; large JPEG files at
    reduced size, which reads all of their bytes too.

    Args:
        content: encoded bytes; None after a failure to read them.
        failure: why there are none.
    """
    if content is not None and failure is None:
        try:
            width_px, height_px = upright_size_px(content)
            image = decode(content, route=Route.DRAFT, input_px=(GRID_PX, GRID_PX))
        except DataError as error:
            failure = str(error)
        else:
            key = key_of_bytes(content)
            hashed = phash(image)
            return Item(
                item_id, item_id, content, key, width_px, height_px, hashed, None, given, dict(metadata)
            )
    return Item(item_id=item_id, image_id=item_id, failure=failure, given=given, metadata=dict(metadata))
