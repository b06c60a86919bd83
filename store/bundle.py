"""A bundle: a folder of small files that belong together, written and replaced as one, and read as they were written.

    BUNDLE/_files.json    names the others with size and SHA-256; carries a checksum of itself

The files are written aside and put in the place of the old ones in one step, so that a reader meets the old bundle or
the new one and a kill leaves one of them. What is read is held against the manifest.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deponij.store.atomic import refuse_foreign, replacing_folder
from deponij.store.errors import StoreError, explained
from deponij.store.sealed import opened, sealed, sha256_of, unsealed
from deponij.store.what_is import instead

MANIFEST = "_files.json"
FORMAT = 1
_READINGS = 5


def write_bundle(folder: Path, files: Mapping[str, bytes], *, what: str) -> None:
    """Replace a bundle by these files; equal files give equal bytes.

    Args:
        folder: made where it is missing.
        what: lies in it, for messages.

    Raises:
        StoreError: the folder holds anything else, cannot be written, or another process keeps writing it.
    """
    known = {MANIFEST, *files, *_earlier(folder)}
    refuse_foreign(folder, lambda path: path.name in known, what)
    listed = {
        name: {"size_bytes": len(data), "sha256": sha256_of(data)} for name, data in sorted(files.items())
    }
    with replacing_folder(folder) as part:
        for name, data in files.items():
            (part / name).write_bytes(data)
        (part / MANIFEST).write_bytes(sealed({"format": FORMAT, "files": listed}))


def refuse_foreign_bundle(folder: Path, *, what: str) -> None:
    """Refuse a folder to write that holds anything but a bundle, before what shall lie there is made.

    Raises:
        StoreError: it is a file, or holds other files.
    """
    known = {MANIFEST, *_earlier(folder)}
    refuse_foreign(folder, lambda path: path.name in known, what)


def read_bundle(
    folder: Path, needed: Sequence[str], also: Collection[str] = (), *, what: str, remedy: str
) -> dict[str, bytes]:
    """Files of one bundle by name, all of the same writing.

    Args:
        needed: names that must be there.
        also: names that are read if the bundle has them.
        what: lies there, in the plural, for messages.
        remedy: how it is made again, as `run its stage again`.

    Raises:
        StoreError: a file is missing, damaged, was edited, or belongs to another bundle.
    """
    for _ in range(_READINGS):
        # What is replaced in the meantime stays readable by its descriptor, or is found to have gone.
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise StoreError(f"cannot read {folder}: {error.strerror or error}") from error
        try:
            return _read(_Folder(folder, descriptor), needed, also, what, remedy)
        except FileNotFoundError as error:
            if _is_still_there(descriptor, folder):
                raise StoreError(_without(folder, str(error), needed, what, remedy)) from None
        finally:
            os.close(descriptor)
    raise StoreError(f"there are no {what} in {folder}: there is no such folder; {remedy}{instead(folder)}")


def bundle_digest(folder: Path, *, what: str, remedy: str) -> str:
    """What stands for all files of a bundle: SHA-256 of its manifest.

    Raises:
        StoreError: as `read_bundle`.
    """
    read_bundle(folder, (), what=what, remedy=remedy)
    with explained(f"cannot read {folder / MANIFEST}"):
        return sha256_of((folder / MANIFEST).read_bytes())


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that was opened, by whatever name it goes now."""

    path: Path
    descriptor: int

    def read(self, name: str) -> bytes:
        """A file's content. Raises FileNotFoundError of the name alone."""
        with explained(f"cannot read {self.path / name}", passing=(FileNotFoundError,)):
            try:
                with open(
                    name, "rb", opener=lambda one, how: os.open(one, how, dir_fd=self.descriptor)
                ) as file:
                    return file.read()
            except FileNotFoundError:
                raise FileNotFoundError(name) from None


def _without(folder: Path, name: str, needed: Sequence[str], what: str, remedy: str) -> str:
    """What to say of a folder that lacks a file."""
    if name != MANIFEST:
        return f"{folder / name} is missing; restore the folder, or {remedy}"
    lacking = [one for one in needed if not (folder / one).is_file()]
    if lacking:
        return f"there are no {what} in {folder}: it has no {lacking[0]}; {remedy}{instead(folder)}"
    return (
        f"{folder} lacks {MANIFEST}, which guards its files: an older version of Deponij wrote them, or not all were "
        f"copied; copy the whole folder, or {remedy}"
    )


def _is_still_there(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def _read(
    folder: _Folder, needed: Sequence[str], also: Collection[str], what: str, remedy: str
) -> dict[str, bytes]:
    """As `read_bundle`; raises FileNotFoundError where a file has gone."""
    path = folder.path / MANIFEST
    body = opened(folder.read(MANIFEST), path, remedy)
    listed = body.get("files")
    if body.get("format") != FORMAT or not isinstance(listed, dict):
        raise StoreError(f"{path} has format {body.get('format')}, this Deponij reads {FORMAT}; {remedy}")
    absent = [name for name in needed if name not in listed]
    if absent:
        raise StoreError(f"there are no {what} in {folder.path}: it has no {absent[0]}; {remedy}")
    contents = {}
    for name in [*needed, *sorted(name for name in also if name in listed)]:
        data = contents[name] = folder.read(name)
        if {"size_bytes": len(data), "sha256": sha256_of(data)} != listed[name]:
            raise StoreError(
                f"{folder.path / name} is damaged or was edited: it is not what was written with {MANIFEST} beside it; "
                f"restore the folder, or {remedy}"
            )
    return contents


def _earlier(folder: Path) -> Collection[str]:
    """Names of the files of the bundle that is to be replaced."""
    try:
        files = unsealed((folder / MANIFEST).read_bytes())["files"]
        return set(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
