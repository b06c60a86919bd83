"""What adapters of annotated photographs share: files below a folder, blanks, names that occur twice or are others."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from deponij.pipeline.data.adapters.coco import Annotation, CocoDataset, Photograph
from deponij.pipeline.data.adapters.file_names import Finder, is_address, numbered


def files_below(root: Path) -> Iterator[Path]:
    """Every file in a folder and those below, sorted within each; what is hidden is left aside."""
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))


def blank(index: int, problem: str | None = None) -> Annotation:
    """An annotation of which nothing is known yet, or of which only the problem is."""
    return Annotation(index, None, None, None, None, None, False, None, problem)


def each_once(photographs: Sequence[Photograph], said: str) -> list[Photograph]:
    """Two entries of one picture would make items of one id: the later ones are refused.

    Args:
        said: why, with the picture's name for `{}`.
    """
    seen: dict[str, int] = {}
    taken = {one.image_id for one in photographs}
    checked = []
    for one in photographs:
        seen[one.image_id] = seen.get(one.image_id, 0) + 1
        if (again := seen[one.image_id]) > 1:
            name = numbered(f"{one.file_name}~", again, taken)
            problem = one.problem or said.format(repr(one.file_name))
            checked.append(replace(one, file_name=name, image_id=name, problem=problem))
        else:
            checked.append(one)
    return checked


def without_lone_part(photographs: Sequence[Photograph]) -> list[Photograph]:
    """One part alone is no split."""
    if len({one.given for one in photographs}) > 1:
        return list(photographs)
    return [replace(one, given=None) for one in photographs]


def with_found_names(
    dataset: CocoDataset, root: Path, beside: Sequence[Path] = ()
) -> tuple[CocoDataset, tuple[str, ...]]:
    """The photographs by the names that their files have, and what to say of names that were read otherwise.

    Args:
        root: the photographs' folder, resolved.
        beside: folders of the annotation files, resolved.
    """
    finder = Finder(root, tuple(beside))
    named = []
    for one in dataset.photographs:
        name = one.file_name if one.problem else finder.find(one.file_name)
        if name != one.file_name:
            named.append(replace(one, file_name=name, image_id=name))
        elif is_address(name) and not one.problem:
            said = f"{name!r} is an address; fetch the picture into the folder of the photographs, under its name"
            named.append(replace(one, problem=said))
        else:
            named.append(one)
    photographs = each_once(named, "a second entry of the annotations is of the picture {}")
    return replace(dataset, photographs=tuple(photographs)), finder.notes
