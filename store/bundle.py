"""A bundle: a folder of small files that belong together, written and replaced as one, and read as they were written.

    BUNDLE/_files.json    names the others with size and SHA-256; carries a checksum of itself

The files are written aside and put in the place of the old ones in one step, so that a reader meets the old bundle or
the new one and a kill leaves one of them. What is read is held against the manifest.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from deponij.store.atomic import refuse_foreign, replacing_folder
from deponij.store.errors import StoreError, explained
from deponij.store.sealed import opened, sealed, sha256_of

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


def read_bundle(
    folder: Path, needed: Sequence[str], also: Collection[str] = (), *, what: str, remedy: str
) -> dict[str, bytes]:
    """Files of one bundle by name, all of the same writing.

    Args:
        needed: names that must be there.
        also: names that are read if the bundle has them.
        what: lies there, in the plural, for messages. remedy: how it is made again, as `run its stage again`.

    Raises:
        StoreError: a file is missing, damaged, was edited, or belongs to another bundle.
    """
    for _ in range(_READINGS):
        manifest = _manifest(folder, needed, what, remedy)
        absent = [name for name in needed if name not in manifest]
        if absent:
            raise StoreError(f"there are no {what} in {folder}: it has no {absent[0]}; {remedy}")
        names = [*needed, *sorted(name for name in also if name in manifest)]
        found, wrong = _read(folder, names, manifest)
        # Between reading the manifest and the files these may have been replaced.
        if wrong is None or _manifest(folder, needed, what, remedy) == manifest:
            break
    if wrong is not None:
        raise StoreError(
            f"{folder / wrong} is damaged or was edited: it is not what was written with {MANIFEST} beside it; "
            f"restore the folder, or {remedy}"
        )
    return found


def _read(
    folder: Path, names: Sequence[str], manifest: Mapping[str, object]
) -> tuple[dict[str, bytes], str | None]:
    """Contents by name, and the first name whose content is not the one that is listed."""
    found: dict[str, bytes] = {}
    for name in names:
        try:
            with explained(f"cannot read {folder / name}", passing=(FileNotFoundError,)):
                data = (folder / name).read_bytes()
        except FileNotFoundError:
            return found, name
        if {"size_bytes": len(data), "sha256": sha256_of(data)} != manifest[name]:
            return found, name
        found[name] = data
    return found, None


def _earlier(folder: Path) -> Collection[str]:
    """Names of the files of the bundle that is to be replaced."""
    try:
        return _manifest(folder, (), "", "")
    except StoreError:
        return ()


def _manifest(folder: Path, needed: Sequence[str], what: str, remedy: str) -> Mapping[str, object]:
    path = folder / MANIFEST
    try:
        with explained(f"cannot read {path}", passing=(FileNotFoundError, NotADirectoryError)):
            data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        lacking = [name for name in needed if not (folder / name).is_file()]
        if lacking:
            raise StoreError(f"there are no {what} in {folder}: it has no {lacking[0]}; {remedy}") from None
        raise StoreError(
            f"{folder} lacks {MANIFEST}, which guards its files: an older version of Deponij wrote them, or not all "
            f"were copied; copy the whole folder, or {remedy}"
        ) from None
    body = opened(data, path, remedy)
    files = body.get("files")
    if body.get("format") != FORMAT or not isinstance(files, dict):
        raise StoreError(f"{path} has format {body.get('format')}, this Deponij reads {FORMAT}; {remedy}")
    return files
