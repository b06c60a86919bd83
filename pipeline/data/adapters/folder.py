"""A folder of pictures, one subfolder a class, as items that keep the pictures' original bytes.

    root/cat/1.jpg                      label `cat`
    root/cat/kitten/2.jpg               label `cat`
    root/3.jpg                          no label
    root/train/cat/1.jpg                label `cat`, given `train`; so are root/images/training_set/cat/1.jpg
    root/cat/train/1.jpg                and this one (`deponij.pipeline.data.parts`)

Hidden files are left aside. Files that are no pictures, by their endings and first bytes, are counted in the notes.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pydantic import Field

from deponij.pipeline.data.adapters.file_names import spelled
from deponij.pipeline.data.adapters.registry import Progress, SourceParams, register_source
from deponij.pipeline.data.adapters.whole import COPIED, Reading, bytes_held, each_picture, picture_in_file
from deponij.pipeline.data.endings import (
    PICTURE_ENDINGS,
    counted,
    ending_of,
    has_picture_ending,
    is_picture_file,
)
from deponij.pipeline.data.inside import Links, existing_folder
from deponij.pipeline.data.item import Item, ToAct
from deponij.pipeline.data.parallel import Workers
from deponij.pipeline.data.parts import Folders, Place, Treatment, is_left_out, places, refuse_unknown
from deponij.pipeline.data.try_out import first_in_turn, told_part
from deponij.store.errors import DataError

_NOT_DATA = frozenset(("__MACOSX", "Thumbs.db", "desktop.ini"))
# Folders without pictures that a note names.
_NAMED_FOLDERS = 5


class FolderParams(SourceParams):
    """Where the pictures lie.

    Attributes:
        folder: its subfolders are the classes, or parts such as `train` and `test` above or below the classes.
        treat: what folders are whose names leave it open: `train`, `val`, `test`, `class`, or `skip` to leave
            them out. Keys are names, or paths below the folder.
        links_into: folders that symbolic links may lead into; DVC's cache is one by itself.
    """

    folder: Path
    treat: dict[str, Treatment] = Field(default_factory=dict)
    links_into: tuple[Path, ...] = ()


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
        self.links = Links.of(params.folder, params.links_into)
        # Of files that are no pictures, by folder; of pictures in spite of their ending.
        self._ignored: dict[PurePosixPath, Counter[str]] = {}
        self._by_content: Counter[str] = Counter()
        self._filled: set[PurePosixPath] = set()
        self._empty: list[_Entry] = []
        self._n_skipped = 0
        self._inner: list[str] = []
        self._above: Folders = ()
        self._entries = self._listed(params.treat)
        if not self._entries:
            found = f"; it holds {self._left_aside()}" if self._ignored else ""
            raise DataError(
                f"no pictures in {params.folder}; expected files such as CLASS/NAME.jpg with one of the "
                f"endings {' '.join(sorted(PICTURE_ENDINGS))}{found}"
            )
        self._part: tuple[ToAct, ...] = ()
        if params.limit is not None:
            places = first_in_turn([(one.given, one.label) for one in self._entries], params.limit)
            self._part = told_part(len(places), len(self._entries), "one of each class in turn, by path")
            self._entries, self._empty = [self._entries[place] for place in places], []

    @property
    def n_items(self) -> int:
        """One item per picture, one per symbolic link that is refused, and one per class folder without any picture."""
        return len(self._entries) + len(self._empty)

    @property
    def notes(self) -> tuple[str, ...]:
        """Folders without pictures, files that are none, pictures by their bytes alone, and those without a label."""
        notes: list[str] = [*self._part]
        if empty := self._without_pictures():
            named = [f"{spelled(str(folder))!r} ({counted(found)})" for folder, found in empty.items()]
            more = ["…"] if len(named) > _NAMED_FOLDERS else []
            told = ", ".join(named[:_NAMED_FOLDERS] + more)
            notes.append(ToAct(f"folders without any picture, which are no classes: {len(named):,}: {told}"))
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
        outside = [entry.item_id for entry in self._entries if entry.given is None]
        if 0 < len(outside) < len(self._entries):
            notes.append(
                f"pictures in no part of the given split: {len(outside):,}, the first: {outside[0]!r}"
            )
        if self._above:
            notes.append(f"folders that all classes lie in, no classes themselves: {'/'.join(self._above)}")
        if self._inner:
            notes.append(
                ToAct(
                    f"every class folder holds the same folders ({', '.join(map(spelled, self._inner))}), which are not "
                    "told apart; if these are the classes, move them up"
                )
            )
        if self._n_skipped:
            notes.append(f"pictures in folders that are left out as asked: {self._n_skipped:,}")
        return tuple(notes)

    def picture_files(self) -> Iterator[Path]:
        """Every picture."""
        return (self.root / one.path for one in self._entries if one.problem is None)

    def items(
        self, *, workers: Workers = 1, progress: Progress | None = None, reading: Reading = COPIED
    ) -> Iterator[Item]:
        """One item per picture, sorted by path; what cannot be read carries its failure. Folders without any follow."""
        one = partial(_item, root=self.root, links=self.links, reading=reading)
        entries = chain(self._entries, self._empty)
        return each_picture(
            one, entries, workers, progress, lambda entry: bytes_held(self.root / entry.path, reading)
        )

    def _listed(self, treat: Mapping[str, Treatment]) -> list[_Entry]:
        found = sorted(self._walk(), key=lambda pair: PurePosixPath(pair[0]).parts)
        self._filled = {folder for path, _ in found for folder in PurePosixPath(path).parents}
        empty = self._without_pictures()
        refuse_unknown(treat, [*(_folders(*pair) for pair in found), *(folder.parts for folder in empty)])
        place_of = places((_folders(*pair) for pair in found), treat)
        kept = [(pair, place) for pair in found if not (place := place_of[_folders(*pair)]).is_skipped]
        self._n_skipped = len(found) - len(kept)
        self._above = next((place.above for _, place in kept if place.above), ())
        depths = {_folders(*pair).index(place.others[0]) + 1 for pair, place in kept if place.others}
        self._empty = [
            _empty(folder, files)
            for folder, files in empty.items()
            if len(folder.parts) in depths and not is_left_out(folder.parts, treat)
        ]
        self._inner = _shared_folders([place.others for _, place in kept])
        return [_entry(*pair, place) for pair, place in kept]

    def _walk(self) -> Iterator[tuple[str, str | None]]:
        """Relative POSIX paths of pictures, with the reason where one is refused."""
        seen: set[Path] = set()
        for folder, subfolders, files in os.walk(self.root, followlinks=True):
            relative = PurePosixPath(Path(folder).relative_to(self.root).as_posix())
            followed = []
            for name in sorted(filter(_is_data, subfolders)):
                problem = self._link_problem(Path(folder, name), seen)
                if problem is None:
                    followed.append(name)
                else:
                    yield str(relative / name), f"refused: {problem}"
            subfolders[:] = followed
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
        empty: dict[PurePosixPath, Counter[str]] = {}
        for folder, found in sorted(self._ignored.items()):
            above = [one for one in (folder, *folder.parents) if one not in self._filled]
            if above:
                empty.setdefault(above[-1], Counter()).update(found)
        return empty

    def _link_problem(self, folder: Path, seen: set[Path]) -> str | None:
        """Why a link to a folder is not followed; None where it is, and for a folder that is no link."""
        if not folder.is_symlink():
            return None
        real = folder.resolve()
        if not any(map(real.is_relative_to, self.links.folders)):
            return "links to folders are not followed; copy the folder, or name the one it leads into (--links-into DIR)"
        if real in seen or self.root.is_relative_to(real):
            return "this link leads to a folder whose pictures are read already"
        seen.add(real)
        return None


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_DATA


def _folders(path: str, problem: str | None) -> Folders:
    parts = PurePosixPath(path).parts
    # A refused link to a folder stands for the class that it would have been.
    return parts if problem and len(parts) == 1 else parts[:-1]


def _entry(path: str, problem: str | None, place: Place) -> _Entry:
    label = spelled(place.others[0]) if place.others else None
    return _Entry(path, spelled(path), label, place.given, problem)


def _shared_folders(paths: Sequence[Folders]) -> list[str]:
    """Folders that lie in each of two or more classes, as classes do in folds; none where classes differ in theirs."""
    within: dict[str, set[str]] = {path[0]: set() for path in paths if path}
    for path in paths:
        if path:
            within[path[0]] |= set(path[1:2])
    inner, *others = within.values() or [set()]
    return sorted(inner) if len(inner) > 1 and others and all(one == inner for one in others) else []


def _empty(folder: PurePosixPath, files: Counter[str]) -> _Entry:
    """A folder that would be a class if its files were pictures; as a failure it does not vanish."""
    name = spelled(str(folder))
    said = f"no picture in this folder: {counted(files)}; --treat {name}=skip leaves it out"
    return _Entry(str(folder), name, None, None, said)


def _item(entry: _Entry, *, root: Path, links: Links, reading: Reading) -> Item:
    return picture_in_file(
        entry.item_id,
        root,
        entry.path,
        links,
        reading,
        failure=entry.problem,
        given=entry.given,
        metadata={"label": entry.label},
    )
