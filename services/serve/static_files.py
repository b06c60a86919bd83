"""The page's files, read into memory once; a request can name nothing else."""

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "page"
INDEX = "index.html"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file: its bytes, what they are, and their entity tag."""

    content: bytes
    media_type: str
    etag: str


def read_files(folder: Path = PAGE) -> Mapping[str, StaticFile]:
    """All files of a folder by their name; hidden ones and those of subfolders are left out."""
    if not folder.is_dir():
        return {}
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: _read(path) for path in paths}


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return StaticFile(content, kind, f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"')
