"""Pictures that labelling tools name otherwise than they lie in the folder: on Windows, on a server, above the folder.

What tools write, and is found here: `images\\1.jpg`, `C:\\data\\1.jpg`, `/data/upload/1/ab12-1.jpg`,
`/data/local-files/?d=set/1.jpg`, `https://host/set/1.jpg`, `../media/1.jpg`, and names that begin with the folder itself.
Label Studio's exports have had all of the forms with `data`, `media`, `images\\1/` and backslashes
(https://github.com/HumanSignal/label-studio/issues/7294, https://github.com/HumanSignal/label-studio-converter/issues/139).
Only a file that is there is found, and every name that was read otherwise is counted and told.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:/", re.IGNORECASE)


@dataclass(slots=True)
class Finder:
    """Finds pictures below a folder.

    Attributes:
        root: the folder, resolved.
        beside: further folders that names may be relative to, as those of annotation files; only what lies in root counts.
        n_other: names that were read otherwise.
        first: one of them, and what it was read as.
    """

    root: Path
    beside: tuple[Path, ...] = ()
    n_other: int = 0
    first: tuple[str, str] = field(default=("", ""))

    def find(self, name: str) -> str:
        """The path below the root, with forward slashes; the name itself where nothing is there."""
        if self._is_there(name):
            return name
        for other in _others(name, self.root.name):
            for folder in self._folders():
                path = f"{folder}{other}"
                if self._is_there(path):
                    self.n_other += 1
                    self.first = self.first if self.first[0] else (name, path)
                    return path
        return name

    @property
    def notes(self) -> tuple[str, ...]:
        """How many names were read otherwise; nothing where none was."""
        if not self.n_other:
            return ()
        name, path = self.first
        return (
            f"names of pictures that were read otherwise: {self.n_other:,}, such as {name!r} as {path!r}",
        )

    def _folders(self) -> Iterator[str]:
        yield ""
        for one in self.beside:
            if one.is_relative_to(self.root) and one != self.root:
                yield f"{one.relative_to(self.root).as_posix()}/"

    def _is_there(self, name: str) -> bool:
        pure = PurePosixPath(name)
        if not name or "\0" in name or pure.is_absolute() or ".." in pure.parts:
            return False
        try:
            return (self.root / pure).is_file()
        except OSError:
            return False


def is_address(name: str) -> bool:
    """Whether a picture is named by an address instead of a path."""
    return _ADDRESS.match(name) is not None


def _others(name: str, folder: str) -> Iterator[str]:
    """Other readings of a name, the nearest first."""
    plain = name.replace("\\", "/")
    yield plain
    if is_address(plain):
        plain = "/" + unquote(urlsplit(plain).path).lstrip("/")
    if "?d=" in plain:
        plain = "/" + unquote(plain.split("?d=", 1)[1]).lstrip("/")
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    if len(parts) > 1 and parts[0] == folder:
        yield "/".join(parts[1:])
    if "\\" in name and len(parts) > 2 and parts[1].isdigit():
        # A project's number that is no folder of the export.
        yield "/".join((parts[0], *parts[2:]))
    if plain.startswith("/") or _DRIVE.match(plain) or ".." in plain.split("/"):
        yield from _endings(parts)


def _endings(parts: Sequence[str]) -> Iterator[str]:
    """`a/b/c`, `b/c`, `c`."""
    return ("/".join(parts[start:]) for start in range(len(parts)))


def spelled(name: str) -> str:
    """A file's name, with bytes that are not UTF-8 on disk spelled out, so that tables can hold it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def distinct_names(files: Sequence[Path]) -> list[str]:
    """A name for each file, for ids to begin with: its own, or where names repeat its path below the folder of all."""
    names = [path.name for path in files]
    if len(set(names)) == len(names):
        return list(map(spelled, names))
    # Links stay as they are named: in the hub's cache they lead to files that are named by a hash.
    absolute = [Path(os.path.abspath(path)) for path in files]  # noqa: PTH100
    common = os.path.commonpath([path.parent for path in absolute])
    return [spelled(path.relative_to(common).as_posix()) for path in absolute]


def numbered(prefix: str, number: int, taken: set[str]) -> str:
    """A name of its own for what would be the second of one: `prefix` and this number, or the next that is free.

    Args:
        taken: names that others have; the new one is added.
    """
    while (name := f"{prefix}{number}") in taken:
        number += 1
    taken.add(name)
    return name
