"""A whole picture as an item: original bytes, keyed by them, proven to decode."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from deponij.pipeline.data.adapters.registry import Progress
from deponij.pipeline.data.item import Item, MetadataValue
from deponij.pipeline.data.parallel import Workers, ordered_map
from deponij.pipeline.likeness.phash import GRID_PX, phash
from deponij.pipeline.pictures import Route, decode, key_of_picture, upright_size_px
from deponij.store.errors import DataError

T = TypeVar("T")
# Pictures that a decoding thread takes at once: pictures of a few pixels cost less than a hand-over.
CHUNK = 8


def each_picture(
    item_of: Callable[[T], Item], entries: Iterable[T], workers: Workers, progress: Progress | None
) -> Iterator[Item]:
    """Items of entries, in order; `progress` is called with 1 as each is handed out."""
    for item in ordered_map(item_of, entries, workers, chunk=CHUNK):
        if progress is not None:
            progress(1)
        yield item


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
    metadata = dict(metadata)
    if content is not None and failure is None:
        try:
            width_px, height_px = upright_size_px(content)
            hashed = phash(decode(content, route=Route.DRAFT, input_px=(GRID_PX, GRID_PX)))
            key = key_of_picture(content)
            return Item(item_id, item_id, content, key, width_px, height_px, hashed, None, given, metadata)
        except DataError as error:
            failure = str(error)
    return Item(item_id, item_id, failure=failure, given=given, metadata=metadata)
