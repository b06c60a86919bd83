"""Writes the generated sample: pictures and one COCO annotation file."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from deponij.sample.painter.categories import CATEGORIES, NAMES
from deponij.sample.painter.scene import Instance, area, render
from deponij.store.atomic import write_bytes
from deponij.store.errors import DataError, UsageError

_PICTURE = re.compile(r"\d{6}\.jpg(\.part)?")
_CHUNK = 4
_DESCRIPTION = "Litter-like scenes drawn by Deponij"
# Of an annotation file; the description stands at its very beginning.
_HEAD_BYTES = 200

Record = dict[str, Any]
In = TypeVar("In")
Out = TypeVar("Out")


def generate(
    root: Path,
    *,
    scenes: int,
    seed: int,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `root/annotations.json` (COCO) and `root/images/NNNNNN.jpg`.

    Scene i depends on (seed, i) alone, so that a larger `scenes` adds pictures and changes none. Pictures of
    an earlier, larger run are removed. The annotation file comes last: without it a run was not finished.

    Args:
        root: folder to write to; made if missing.
        scenes: how many pictures, 1 to 999,999.
        seed: not negative.
        workers: processes that draw; the result does not depend on it.
        progress: called with (scenes done, scenes) after each scene.

    Raises:
        UsageError: a number is out of range.
        DataError: the folder cannot be written.
    """
    if not 1 <= scenes <= 999_999:
        raise UsageError(f"scenes must lie between 1 and 999,999, got {scenes}")
    if seed < 0:
        raise UsageError(f"seed must not be negative, got {seed}")
    if workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    folder, annotations = root / "images", root / "annotations.json"
    names = [f"{index:06d}.jpg" for index in range(scenes)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        annotations.unlink(missing_ok=True)
        _remove_others(folder, set(names))
        records: list[tuple[Record, list[Record]]] = []
        for image, objects in _drawn(folder, names, seed, workers):
            records.append((image, objects))
            if progress is not None:
                progress(len(records), scenes)
        write_bytes(annotations, json.dumps(_coco(records, seed), indent=1).encode())
    except OSError as error:
        raise DataError(f"cannot write the sample to {root}: {error.strerror or error}") from error


def _drawn(folder: Path, names: list[str], seed: int, workers: int) -> Iterator[tuple[Record, list[Record]]]:
    jobs = [(folder, name, seed, index) for index, name in enumerate(names)]
    return in_processes(_draw, jobs, workers, _CHUNK)


def in_processes(
    function: Callable[[In], Out], jobs: Sequence[In], workers: int, chunk: int
) -> Iterator[Out]:
    """`map` over so many processes, in the order of the jobs, each process taking `chunk` of them at once."""
    if workers == 1 or len(jobs) <= chunk:
        yield from map(function, jobs)
        return
    # Spawned, not forked: a parent with running threads (torch's, say) cannot be forked safely.
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, jobs, chunksize=chunk)


def _draw(job: tuple[Path, str, int, int]) -> tuple[Record, list[Record]]:
    folder, name, seed, index = job
    scene = render(seed, index)
    write_bytes(folder / name, scene.jpeg())
    image = {"id": index, "file_name": name, "width": scene.image.width, "height": scene.image.height}
    return image | {"ground": scene.ground}, [_annotation(instance) for instance in scene.instances]


def _annotation(instance: Instance) -> Record:
    polygons = [np.round(points, 2) for points in instance.polygons]
    corners = np.concatenate(polygons)
    low, high = corners.min(0), corners.max(0)
    return {
        "category_id": NAMES.index(instance.category) + 1,
        "segmentation": [points.ravel().tolist() for points in polygons],
        "bbox": [round(float(value), 2) for value in (*low, *(high - low))],
        "area": round(sum(map(area, polygons)), 2),
        "iscrowd": 0,
        "caption": instance.caption,
    }


def _coco(records: list[tuple[Record, list[Record]]], seed: int) -> Record:
    owned = ((image["id"], entry) for image, objects in records for entry in objects)
    annotations = [
        {"id": number, "image_id": image_id, **entry}
        for number, (image_id, entry) in enumerate(owned, start=1)
    ]
    categories = [
        {"id": number, "name": row.name, "supercategory": row.supercategory}
        for number, row in enumerate(CATEGORIES.values(), start=1)
    ]
    return {
        "info": {"description": _DESCRIPTION, "version": "1", "seed": seed},
        "images": [image for image, _ in records],
        "annotations": annotations,
        "categories": categories,
    }


def is_drawn(annotations: Path) -> bool:
    """Whether an annotation file is one that `generate` wrote; False where it cannot be read."""
    try:
        with annotations.open("rb") as stream:
            return _DESCRIPTION.encode() in stream.read(_HEAD_BYTES)
    except OSError:
        return False


def _remove_others(folder: Path, keep: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in keep and _PICTURE.fullmatch(path.name):
            path.unlink()
