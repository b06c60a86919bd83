"""Whole photographs as items, each labelled with the set of the categories that are annotated on it.

Cutting them into crops lives in `instances`.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from deponij.pipeline.data.adapters.coco import CocoDataset, Photograph
from deponij.pipeline.data.adapters.label_sets import LABEL_SET
from deponij.pipeline.data.adapters.registry import Progress
from deponij.pipeline.data.adapters.whole import COPIED, Reading, bytes_held, each_picture, picture_in_file
from deponij.pipeline.data.inside import Links
from deponij.pipeline.data.item import Item, MetadataValue
from deponij.pipeline.data.parallel import Workers

WHOLE_COLUMNS = pa.schema([("label", LABEL_SET), ("n_annotations", pa.int64())])


def whole_photographs(
    dataset: CocoDataset,
    root: Path,
    links: Links,
    *,
    workers: Workers = 1,
    progress: Progress | None = None,
    reading: Reading = COPIED,
) -> Iterator[Item]:
    """One item per photograph, in file order. One without an annotation shows none of the classes: an empty set.

    Boxes do not matter, and crowds count as what they are; but where an annotation has no category that the file knows,
    nobody knows the whole set, and the item fails.

    Args:
        root: the photographs' folder, resolved.
        links: where links may lead.
        workers: decoding threads; 0 works in the calling thread.
        reading: how the files are taken.
    """
    return each_picture(
        partial(_item, root=root, links=links, reading=reading),
        dataset.photographs,
        workers,
        progress,
        lambda photograph: bytes_held(root / photograph.file_name, reading),
    )


def _item(photograph: Photograph, *, root: Path, links: Links, reading: Reading) -> Item:
    without = next((one for one in photograph.annotations if one.category is None), None)
    failure = photograph.problem
    if failure is None and without is not None:
        failure = without.problem or f"annotation {without.index} has no category"
    names = sorted({one.category.name for one in photograph.annotations if one.category is not None})
    metadata: dict[str, MetadataValue] = {
        "label": names if without is None else None,
        "n_annotations": len(photograph.annotations),
    }
    return picture_in_file(
        photograph.file_name,
        root,
        photograph.file_name,
        links,
        reading,
        failure=failure,
        given=photograph.given,
        metadata=metadata,
    )
