"""Reading a data set's own files, and none outside its folder but where links may lead."""

import configparser
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from deponij.store.errors import DataError, explained

# A file in DVC's cache, of its versions 1 and 2 or since 3, is named by the hash of its content.
_OBJECT = re.compile(r"(files/md5/)?[0-9a-f]{2}/[0-9a-f]{30}")
# No picture is larger, but a file of holes may be of any size.
MAX_PICTURE_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Links:
    """Where symbolic links may lead that leave a data set's folder.

    Attributes:
        folders: with all that lies in them.
        caches: of DVC, which keeps a data set's files there and links to them; only such files.
    """

    folders: tuple[Path, ...] = ()
    caches: tuple[Path, ...] = ()

    @classmethod
    def of(cls, root: Path, folders: Sequence[Path] = ()) -> Self:
        """Those of a data set: named folders, and the cache of the DVC project that it lies in."""
        return cls(
            tuple(existing_folder(one, "folder that links lead into") for one in folders),
            tuple(one.resolve() for one in _dvc_caches(root)),
        )

    def allow(self, resolved: Path) -> bool:
        """Whether a link may lead to this path, which holds no link any more."""
        return any(map(resolved.is_relative_to, self.folders)) or any(
            resolved.is_relative_to(one) and _OBJECT.fullmatch(resolved.relative_to(one).as_posix())
            for one in self.caches
        )


_NO_LINKS = Links()


def read_inside(root: Path, file_name: str, links: Links = _NO_LINKS) -> bytes:
    """Bytes of the file that a data set names, relative to its resolved root folder.

    Args:
        root: the data set's folder, already resolved (`Path.resolve`), so that this is not done per file.
        file_name: the relative path as the data set has it, with forward slashes.
        links: where they may lead.

    Raises:
        DataError: the name is empty, absolute, has `..`, leads elsewhere through a symbolic link, or
            names no readable regular file, or one that is larger than a picture.
    """
    with explained(f"picture {file_name!r} cannot be read", DataError):
        path = file_inside(root, file_name, links)
        refuse_huge(path.stat().st_size)
        return path.read_bytes()


def file_inside(root: Path, file_name: str, links: Links = _NO_LINKS) -> Path:
    """The resolved path of a regular file that a data set names; see `read_inside`.

    Raises:
        DataError: as `read_inside`; but whether it can be read is not known.
    """
    path = path_inside(root, file_name, links)
    with explained(f"picture {file_name!r} cannot be read", DataError):
        if not path.is_file():
            kind = "is not a regular file" if path.exists() else "is missing"
            hint = "; its name holds backslashes, forward slashes are expected" if "\\" in file_name else ""
            raise DataError(f"picture {file_name!r} {kind}{hint}")
    return path


def refuse_huge(n_bytes: int) -> None:
    """Whether a file of this size is read as a picture.

    Raises:
        DataError: it is not.
    """
    if n_bytes > MAX_PICTURE_BYTES:
        raise DataError(
            f"the file has {n_bytes:,} bytes; at most {MAX_PICTURE_BYTES:,} are read as a picture"
        )


def regular_file(path: Path) -> Path:
    """The path itself, but of a pipe or a device, which would be read for ever.

    Raises:
        DataError: it is something else than a file. Whether it is there is not asked.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a regular file")
    return path


def path_inside(root: Path, file_name: str, links: Links = _NO_LINKS) -> Path:
    """The resolved path of `file_name` under the resolved folder `root`, or where its links may lead.

    Raises:
        DataError: the name is empty, absolute, has `..`, or leads elsewhere through a symbolic link.
    """
    if not file_name or "\0" in file_name:
        raise DataError(f"refused: {file_name!r} is not a file name")
    pure = PurePosixPath(file_name)
    if pure.is_absolute() or Path(file_name).is_absolute() or ".." in pure.parts:
        raise DataError(
            f"refused: {file_name!r} points outside the data set's folder; only paths below it are read "
            "(--images DIR says which folder that is)"
        )
    with explained(f"picture {file_name!r} cannot be read", DataError):
        resolved = Path(os.path.realpath(root / pure))
    if not resolved.is_relative_to(root) and not links.allow(resolved):
        raise DataError(
            f"refused: {file_name!r} is a symbolic link that leaves the data set's folder; copy the file, or name the "
            "folder that it leads into (--links-into DIR, `links_into` in a profile)"
        )
    return resolved


def existing_folder(path: Path, what: str) -> Path:
    """The folder, resolved.

    Raises:
        DataError: there is no such folder.
    """
    if not path.is_dir():
        raise DataError(f"{what}: {path} {'is not a folder' if path.exists() else 'does not exist'}")
    return path.resolve()


def _dvc_caches(root: Path) -> Iterator[Path]:
    """The cache of the nearest DVC project above a folder, as `dvc config cache.dir` tells it.

    Of DVC's four files the first that names one counts (https://dvc.org/doc/command-reference/config).
    """
    above = dict.fromkeys(
        (*(start := root.absolute(), *start.parents), *(real := root.resolve(), *real.parents))
    )
    project = next((one / ".dvc" for one in above if (one / ".dvc").is_dir()), None)
    if project is None:
        return
    of_user = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dvc"
    folders = (
        os.environ.get("DVC_GLOBAL_CONFIG_DIR") or of_user,
        os.environ.get("DVC_SYSTEM_CONFIG_DIR") or "/etc/xdg/dvc",
    )
    for file in (project / "config.local", project / "config", *(Path(one) / "config" for one in folders)):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            # Damaged, or of a DVC that writes otherwise: then its links are refused by name.
            continue
        if named := parser.get("cache", "dir", fallback=""):
            yield file.parent / named.strip("\"'")
            return
    yield project / "cache"
