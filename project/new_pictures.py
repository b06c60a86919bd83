"""Pictures that a user names to be answered: files, folders, or instances of a COCO file. This is no stage.

They are read lazily. One that cannot be read carries the reason; decoding comes later.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.endings import PICTURE_ENDINGS, counted, ending_of, is_picture_file
from deponij.pipeline.data.inside import refuse_huge
from deponij.pipeline.data.item import ToAct
from deponij.pipeline.pictures import key_of_picture
from deponij.project.frame.console import note, warn
from deponij.store.errors import DataError, UsageError

# Of what is held at once, encoded.
_CHUNK_BYTES = 256 * 2**20
_CHUNK_PICTURES = 2048


@dataclass(frozen=True, slots=True)
class NewPicture:
    """One thing to answer.

    Attributes:
        path: of the picture or photograph.
        item_id: of a crop.
        key: of its content.
        content: encoded bytes; both None after a failure.
        failure: why it cannot be read.
    """

    path: str
    item_id: str | None = None
    key: str | None = None
    content: bytes | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class NewPictures:
    """What was named, opened.

    Attributes:
        n: how many there are.
        read: gives each once, by so many threads, in an order that depends on what was named alone.
    """

    n: int
    read: Callable[[int], Iterator[NewPicture]]


def named_pictures(
    pictures: Sequence[Path],
    coco: Path | None,
    images: Path | None,
    crop: Mapping[str, Any],
    boxes: str | None = None,
) -> NewPictures:
    """What the flags name.

    Args:
        pictures: files, and folders that are searched with all folders in them.
        coco, images: annotation file and the folder of its photographs, instead of `pictures`.
        crop: fields of `CropParams`.
        boxes: the form of the annotation file's boxes, where it is not COCO's own.

    Raises:
        UsageError: as `check_named`.
        DataError: a folder without pictures, or an annotation file that cannot be used.
    """
    check_named(pictures, coco, images, crop)
    if coco is None or images is None:
        listed = _listed(pictures)
        return NewPictures(len(listed), lambda _: (_read(path, problem) for path, problem in listed.items()))
    options = {"annotations": coco, "images": images, "crop": dict(crop), "label_maps": (), "boxes": boxes}
    source = open_source("coco", options)
    for told in source.notes:
        (warn if isinstance(told, ToAct) else note)(told)
    return NewPictures(
        source.n_items,
        lambda workers: (
            NewPicture(shown(images / item.image_id), item.item_id, item.key, item.content, item.failure)
            for item in source.items(workers=workers)
        ),
    )


def check_named(
    pictures: Sequence[Path], coco: Path | None, images: Path | None, crop: Mapping[str, Any]
) -> None:
    """Refuse flags that name nothing, or too much.

    Raises:
        UsageError: neither pictures nor a COCO file, both, a COCO file without its folder, or crops
            without a COCO file.
    """
    if (coco is None) != (images is None):
        raise UsageError("--coco FILE and --images DIR go together")
    if bool(pictures) == (coco is not None):
        raise UsageError("name pictures or folders of them, or else --coco FILE --images DIR")
    if crop and coco is None:
        said = ", ".join(name.replace("_", " ").removesuffix(" px") for name in crop)
        raise UsageError(
            f"{said}: only instances of a COCO file are cut out (--coco); whole pictures are not"
        )


def chunks(pictures: Iterator[NewPicture], n_at_once: int | None = None) -> Iterator[list[NewPicture]]:
    """Runs of pictures that fit into memory together; no more than `n_at_once`, where their features are large."""
    chunk: list[NewPicture] = []
    n_bytes = 0
    for picture in pictures:
        chunk.append(picture)
        n_bytes += len(picture.content or b"")
        if n_bytes >= _CHUNK_BYTES or len(chunk) >= (n_at_once or _CHUNK_PICTURES):
            yield chunk
            chunk, n_bytes = [], 0
    if chunk:
        yield chunk


def shown(path: Path) -> str:
    """A path as text; bytes that are not UTF-8 are spelled out, so that JSON and tables can hold them."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _listed(pictures: Sequence[Path]) -> dict[Path, str | None]:
    """The files, each with what speaks against reading it."""
    problem_of: dict[Path, str | None] = {}
    for path in pictures:
        if not path.is_dir():
            problem_of.setdefault(path, None)
            continue
        others: Counter[str] = Counter()
        inside = list(_inside(path, others))
        holds = f"holds files that are not pictures: {others.total():,} ({counted(others)})"
        if not inside:
            raise DataError(
                f"no pictures in {path}; looked, in all folders below it, for files that end in "
                f"{' '.join(sorted(PICTURE_ENDINGS))}{f'; it {holds}' if others else ''}"
            )
        if others:
            warn(f"{path} {holds}")
        for one, problem in inside:
            problem_of.setdefault(one, problem)
    return problem_of


def _inside(root: Path, others: Counter[str]) -> Iterator[tuple[Path, str | None]]:
    """Pictures below a folder, sorted by path within each folder; hidden files are left aside.

    Args:
        others: counts the endings of files that are no pictures.
    """
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in subfolders:
            if Path(folder, name).is_symlink():
                yield Path(folder, name), "links to folders are not followed; name the folder itself"
        for name in sorted(name for name in files if not name.startswith(".")):
            if is_picture_file(Path(folder, name)):
                yield Path(folder, name), None
            else:
                others[ending_of(name)] += 1


def _read(path: Path, problem: str | None) -> NewPicture:
    name = shown(path)
    if problem is not None:
        return NewPicture(name, failure=problem)
    try:
        # A pipe or device would be read for ever.
        if path.exists() and not path.is_file():
            return NewPicture(name, failure="it is not a regular file")
        refuse_huge(path.stat().st_size)
        content = path.read_bytes()
    except DataError as error:
        return NewPicture(name, failure=str(error))
    except OSError as error:
        return NewPicture(name, failure=f"it cannot be read: {error.strerror or error}")
    return NewPicture(name, key=key_of_picture(content), content=content)
