"""A folder of pictures, one subfolder a class, as items that keep the pictures' original bytes.

    root/cat/1.jpg                      label `cat`
    root/cat/kitten/2.jpg               label `cat`
    root/3.jpg                          no label
    root/train/cat/1.jpg                label `cat`, given `train`, if all folders of the root are parts

Hidden files are left aside. Files that are no pictures, by their endings and first bytes, are counted in the notes.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import pyarrow as pa

from deponij.pipeline.data.adapters.registry import Progress, register_source
from deponij.pipeline.data.adapters.whole import each_picture, whole_picture
from deponij.pipeline.data.endings import (
    PICTURE_ENDINGS,
    counted,
    ending_of,
    has_picture_ending,
    is_picture_file,
)
from deponij.pipeline.data.inside import existing_folder, read_inside
from deponij.pipeline.data.item import Item, given_part
from deponij.pipeline.record_lists import Record
from deponij.store.errors import DataError

_NOT_DATA = frozenset(("__MACOSX", "Thumbs.db", "desktop.ini"))
# Folders without pictures that a note names.
_NAMED_FOLDERS = 5


class FolderParams(Record):
    """Where the pictures lie.

    Attributes:
        folder: its subfolders are the classes, or the parts `train`, `val`, `test` above the classes.
    """

    folder: Path


@dataclass(frozen=True, slots=True)
class _Entry:
    """One path below the root: its name on disk, its name as an id, and what its folders say."""

    path: str
    item_id: str
    label: str | None
    given: str | None
    problem: str | None


@register_source("folder")
class FolderSource:
    """A folder of pictures, listed."""

    Params = FolderParams
    metadata_schema = pa.schema([("label", pa.string())])

    def __init__(self, params: FolderParams) -> None:
        """List the folder.

        Raises:
            DataError: there is no such folder, or no picture in it.
        """
        self.root = existing_folder(params.folder, "folder of pictures")
        # Of files that are no pictures, by folder; of pictures in spite of their ending.
        self._ignored: dict[PurePosixPath, Counter[str]] = {}
        self._by_content: Counter[str] = Counter()
        self._entries = self._listed()
        if not self._entries:
            found = f"; it holds {self._left_aside()}" if self._ignored else ""
            raise DataError(
                f"no pictures in {params.folder}; expected files such as CLASS/NAME.jpg with one of the "
                f"endings {' '.join(sorted(PICTURE_ENDINGS))}{found}"
            )

    @property
    def n_items(self) -> int:
        """One item per picture, and one per symbolic link that is refused."""
        return len(self._entries)

    @property
    def notes(self) -> tuple[str, ...]:
        """Folders without pictures, files that are none, pictures by their bytes alone, and those without a label."""
        notes = []
        empty = self._without_pictures()
        if empty:
            named = [f"{_utf8(str(folder))!r} ({counted(found)})" for folder, found in empty.items()]
            more = ["…"] if len(named) > _NAMED_FOLDERS else []
            notes.append(
                f"folders without any picture, which are no classes: {len(named):,}: "
                f"{', '.join(named[:_NAMED_FOLDERS] + more)}"
            )
        if self._ignored:
            notes.append(f"files that are not pictures: {self._left_aside()}")
        if self._by_content:
            notes.append(
                f"pictures by their content, not by their ending: {self._by_content.total():,} "
                f"({counted(self._by_content)})"
            )
        n_unlabelled = sum(entry.label is None for entry in self._entries)
        if n_unlabelled:
            notes.append(f"pictures in no class folder, without a label: {n_unlabelled:,}")
        return tuple(notes)

    def items(self, *, workers: int = 1, progress: Progress | None = None) -> Iterator[Item]:
        """One item per picture, sorted by path; what cannot be read carries its failure."""
        return each_picture(partial(_item, root=self.root), self._entries, workers, progress)

    def _listed(self) -> list[_Entry]:
        found = sorted(self._walk(), key=lambda pair: PurePosixPath(pair[0]).parts)
        tops = {parts[0] for path, _ in found if len(parts := PurePosixPath(path).parts) > 1}
        in_parts = bool(tops) and all(given_part(top) for top in tops)
        return [_entry(path, problem, in_parts=in_parts) for path, problem in found]

    def _walk(self) -> Iterator[tuple[str, str | None]]:
        """Relative POSIX paths of pictures, with the reason where one is refused."""
        for folder, subfolders, files in os.walk(self.root):
            relative = PurePosixPath(Path(folder).relative_to(self.root).as_posix())
            subfolders[:] = sorted(name for name in subfolders if _is_data(name))
            for name in subfolders:
                if Path(folder, name).is_symlink():
                    yield str(relative / name), "refused: links to folders are not followed; copy the folder"
            for name in filter(_is_data, files):
                if is_picture_file(Path(folder, name)):
                    if not has_picture_ending(name):
                        self._by_content[ending_of(name)] += 1
                    yield str(relative / name), None
                else:
                    self._ignored.setdefault(relative, Counter())[ending_of(name)] += 1

    def _left_aside(self) -> str:
        found = sum(self._ignored.values(), Counter[str]())
        return f"{found.total():,} ({counted(found)})"

    def _without_pictures(self) -> dict[PurePosixPath, Counter[str]]:
        """The topmost folders with files but no picture in them or below, with what they hold."""
        filled = {folder for entry in self._entries for folder in PurePosixPath(entry.path).parents}
        empty: dict[PurePosixPath, Counter[str]] = {}
        for folder, found in sorted(self._ignored.items()):
            above = [one for one in (folder, *folder.parents) if one not in filled]
            if above:
                empty.setdefault(above[-1], Counter()).update(found)
        return empty


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_DATA


def _entry(path: str, problem: str | None, *, in_parts: bool) -> _Entry:
    folders = PurePosixPath(path).parts[:-1]
    # A refused link to a folder stands for the class that it would have been.
    folders = PurePosixPath(path).parts if problem and not folders else folders
    given = given_part(folders[0]) if in_parts and folders else None
    labels = folders[1:] if in_parts else folders
    return _Entry(path, _utf8(path), _utf8(labels[0]) if labels else None, given, problem)


def _utf8(text: str) -> str:
    """Names that are not UTF-8 on disk, with their odd bytes spelled out, so that tables can hold them."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _item(entry: _Entry, *, root: Path) -> Item:
    content, failure = None, entry.problem
    if failure is None:
        try:
            content = read_inside(root, entry.path)
        except DataError as error:
            failure = _utf8(str(error))
    return whole_picture(entry.item_id, content, failure, entry.given, {"label": entry.label})
