"""Several COCO files as one data set, such as one each for train and val. Reading one lives in `coco`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deponij.pipeline.data.adapters.annotated import each_once, without_lone_part
from deponij.pipeline.data.adapters.coco import CocoDataset, read_coco
from deponij.pipeline.data.boxes import Boxes
from deponij.pipeline.data.parts import Treatments, parts_of_files, refuse_unknown
from deponij.store.errors import DataError, UsageError


def read_several(
    paths: Sequence[Path], *, boxes: Boxes | None = None, treat: Treatments | None = None
) -> CocoDataset:
    """Read and check annotation files, one after the other; a single one is `read_coco`.

    Where the names of the files or their folders are those of parts (`instances_train2017.json`,
    `train/_annotations.coco.json`), they say which part of the split their photographs are.

    Raises:
        DataError: as `read_coco`, or it is open which part a file is.
        UsageError: no file, one twice, or all are to be left out.
    """
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(
            f"name one COCO file or several different ones, got {', '.join(map(str, paths)) or 'none'}"
        )
    treat = treat or {}
    if len(paths) == 1:
        return read_coco(paths[0], boxes=boxes, treat=treat)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"annotation file {missing[0]} does not exist")
    refuse_unknown(treat, [one for path in paths for one in (path.parts, (path.stem,))])
    parts = parts_of_files(paths, treat)
    kept = [(path, part) for path, part in zip(paths, parts, strict=True) if part != "skip"]
    if not kept:
        raise UsageError("all COCO files are to be left out (treat: skip); leave one to read")
    read = [(read_coco(path, boxes=boxes), part) for path, part in kept]
    photographs = [
        one if part is None else replace(one, given=str(part))
        for dataset, part in read
        for one in dataset.photographs
    ]
    categories = {category.name: category for dataset, _ in read for category in dataset.categories}
    return CocoDataset(
        read[0][0].path,
        tuple(
            without_lone_part(each_once(photographs, "an earlier annotation file is of the picture {} too"))
        ),
        tuple(categories.values()),
    )
