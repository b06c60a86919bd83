"""Reading a data set's own files, and none outside its folder."""

import os
from pathlib import Path, PurePosixPath

from deponij.store.errors import DataError


def read_inside(root: Path, file_name: str) -> bytes:
    """Bytes of the file that a data set names, relative to its resolved root folder.

    Args:
        root: the data set's folder, already resolved (`Path.resolve`), so that this is not done per file.
        file_name: the relative path as the data set has it, with forward slashes.

    Raises:
        DataError: the name is empty, absolute, has `..`, leads outside through a symbolic link, or
            names no readable regular file.
    """
    path = path_inside(root, file_name)
    try:
        if not path.is_file():
            kind = "is not a regular file" if path.exists() else "is missing"
            hint = "; its name holds backslashes, forward slashes are expected" if "\\" in file_name else ""
            raise DataError(f"picture {file_name!r} {kind}{hint}")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"picture {file_name!r} cannot be read: {error.strerror or error}") from error


def path_inside(root: Path, file_name: str) -> Path:
    """The resolved path of `file_name` under the resolved folder `root`.

    Raises:
        DataError: the name is empty, absolute, has `..`, or leads outside through a symbolic link.
    """
    if not file_name or "\0" in file_name:
        raise DataError(f"refused: {file_name!r} is not a file name")
    pure = PurePosixPath(file_name)
    if pure.is_absolute() or Path(file_name).is_absolute() or ".." in pure.parts:
        raise DataError(
            f"refused: {file_name!r} points outside the data set's folder; only paths below it are read"
        )
    try:
        resolved = Path(os.path.realpath(root / pure))
    except OSError as error:
        raise DataError(f"picture {file_name!r} cannot be read: {error.strerror or error}") from error
    if not resolved.is_relative_to(root):
        raise DataError(f"refused: {file_name!r} is a symbolic link that leaves the data set's folder")
    return resolved


def existing_folder(path: Path, what: str) -> Path:
    """The folder, resolved.

    Raises:
        DataError: there is no such folder.
    """
    if not path.is_dir():
        raise DataError(f"{what}: {path} {'is not a folder' if path.exists() else 'does not exist'}")
    return path.resolve()
