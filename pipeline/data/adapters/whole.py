"""A whole picture as an item: original bytes or the file that holds them, keyed by them, proven to decode."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deponij.pipeline.data.adapters.file_names import spelled
from deponij.pipeline.data.inside import Links, file_inside, refuse_huge
from deponij.pipeline.data.item import Item, MetadataValue
from deponij.pipeline.data.known_files import Facts, KnownFiles
from deponij.pipeline.data.parallel import Workers, ordered_map
from deponij.pipeline.likeness.phash import GRID_PX, phash
from deponij.pipeline.pictures import Route, decode, key_of_picture, upright_size_px
from deponij.store.errors import DataError, explained
from deponij.store.references import FileReference, digest_of, named
from deponij.store.texts import is_storable

if TYPE_CHECKING:
    from deponij.pipeline.data.adapters.registry import Progress

T = TypeVar("T")
# Pictures that a decoding thread takes at once: pictures of a few pixels cost less than a hand-over.
CHUNK = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """How pictures that lie as files are taken.

    Attributes:
        by_reference: named instead of held; a file that is known is then not read at all.
        known: files that were looked at before, which are not decoded again; it cannot be sent to another process.
        home: files below it are named relative to it (`deponij.store.references.home_of`).
    """

    by_reference: bool = False
    known: KnownFiles | None = None
    home: Path | None = None


COPIED = Reading()


def each_picture(
    item_of: Callable[[T], Item],
    entries: Iterable[T],
    workers: Workers,
    progress: "Progress | None",
    size_of: Callable[[T], int] | None = None,
) -> Iterator[Item]:
    """Items of entries, in order; `progress` is called with 1 as each is handed out.

    Args:
        size_of: bytes that an entry, or its item, holds.
    """
    for item in ordered_map(item_of, entries, workers, chunk=CHUNK, size_of=size_of):
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


def bytes_held(path: Path, reading: Reading) -> int:
    """Of a picture's file by its item: all, or none where it is only named; 0 of one that cannot be read, too."""
    try:
        return 0 if reading.by_reference else path.stat().st_size
    except (OSError, ValueError):
        return 0


def picture_in_file(
    item_id: str,
    root: Path,
    file_name: str,
    links: Links,
    reading: Reading,
    *,
    failure: str | None = None,
    given: str | None = None,
    metadata: Mapping[str, MetadataValue],
) -> Item:
    """The item of a picture that lies below a data set's folder; what cannot be read carries the reason.

    Args:
        root: the folder, resolved.
        file_name: as the data set has it.
        links: where they may lead.
        failure: why it is not to be read.
    """
    if failure is not None:
        return whole_picture(item_id, None, failure, given, metadata)
    try:
        with explained(f"picture {file_name!r} cannot be read", DataError):
            path = file_inside(root, file_name, links)
            seen_ns, status = time.time_ns(), path.stat()
            refuse_huge(status.st_size)
            # A name that no table can hold cannot be named.
            by_reference = reading.by_reference and is_storable(str(root / file_name))
            if by_reference and reading.known is not None:
                facts = reading.known.by_status(path, status)
                if facts is not None:
                    item = _of_facts(item_id, facts, given, metadata)
                    return _named(item, named(root / file_name, reading.home), facts)
            content = path.read_bytes()
    except DataError as error:
        return whole_picture(item_id, None, spelled(str(error)), given, metadata)
    digest = digest_of(content)
    facts = None if reading.known is None else reading.known.by_digest(path, digest)
    if facts is not None:
        item = replace(_of_facts(item_id, facts, given, metadata), content=content)
    else:
        item = whole_picture(item_id, content, None, given, metadata)
        facts = _facts_of(item, digest)
    if facts is None:
        return item
    if reading.known is not None:
        reading.known.remember(path, status, seen_ns, facts)
    return _named(item, named(root / file_name, reading.home), facts) if by_reference else item


def _facts_of(item: Item, digest: str) -> Facts | None:
    """None of a failed one, so that a later version may do better."""
    if item.content is None or item.key is None or item.phash is None:
        return None
    if item.width_px is None or item.height_px is None:
        return None
    return Facts(len(item.content), digest, item.key, item.width_px, item.height_px, item.phash)


def _of_facts(item_id: str, facts: Facts, given: str | None, metadata: Mapping[str, MetadataValue]) -> Item:
    return Item(
        item_id,
        item_id,
        key=facts.key,
        width_px=facts.width_px,
        height_px=facts.height_px,
        phash=facts.phash,
        given=given,
        metadata=dict(metadata),
    )


def _named(item: Item, path: str, facts: Facts) -> Item:
    return replace(item, content=None, reference=FileReference(path, facts.size_bytes, facts.digest))
