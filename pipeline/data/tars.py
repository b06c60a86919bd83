"""Samples in tar files as `webdataset` lays them out: members of one name but for the ending stand side by side.

    cats/001.jpg  cats/001.cls  cats/001.txt    one sample of the key `cats/001`

Members are read where they stand, in one pass, and nothing is ever unpacked: a name is a name only, and links, devices
and folders hold no bytes. Format: https://github.com/webdataset/webdataset#the-webdataset-format
"""

import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from deponij.pipeline.data.endings import has_picture_ending
from deponij.store.errors import DataError

# A member that claims to be larger is not read.
MAX_MEMBER_BYTES = 1 << 30
_BESIDE = ("cls", "json", "txt")
_GZIP = b"\x1f\x8b"
# As webdataset splits names: the ending begins at the first dot of the last part.
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)
_OF_WRITER = re.compile(r"__[^/]*__($|/)")
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError)


@dataclass(slots=True)
class Sample:
    """Members of one key.

    Attributes:
        ending: of the picture; empty where there is none.
        picture: its bytes; None where there is none, or members are not read.
        beside: bytes of `cls`, `json` and `txt`, of those that are there.
        n_more: pictures beyond the first.
        problem: why the picture cannot be read.
    """

    key: str
    ending: str = ""
    picture: bytes | None = None
    beside: dict[str, bytes] = field(default_factory=dict)
    endings: set[str] = field(default_factory=set)
    n_more: int = 0
    problem: str | None = None


class _Info(tarfile.TarInfo):
    """Tells the end mark from damage, which `tarfile` both takes for the end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Info":
        try:
            return cast("_Info", super().fromtarfile(tar))
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            cast(Any, tar).has_end_mark = True
            raise


def samples(path: Path, *, with_bytes: bool = True) -> Iterator[Sample]:
    """The samples of a tar file, plain or compressed, in order; what cannot be read at the end is an error.

    Args:
        with_bytes: read members; else only their names and sizes.

    Raises:
        DataError: the file is damaged or cut off; all samples that were whole before that have been given.
    """
    with ExitStack() as stack:
        try:
            tar = _open(path, stack)
            current: Sample | None = None
            while (member := tar.next()) is not None:
                # They would pile up.
                tar.members = []  # type: ignore[attr-defined]
                found = _NAME.match(member.name)
                if found is None or not (member.isreg() or member.islnk() or member.issym()):
                    continue
                if _OF_WRITER.match(member.name):
                    continue
                key, ending = found[1], found[2].lower()
                if current is None or current.key != key or ending in current.endings:
                    if current is not None:
                        yield current
                    current = Sample(key)
                _take(current, ending, member, tar, with_bytes=with_bytes)
            if not getattr(tar, "has_end_mark", False):
                raise tarfile.ReadError("there is no end mark where the tar file ends")
            if current is not None:
                yield current
        except _DAMAGE as error:
            raise DataError(f"tar file {path} is damaged or cut off: {error}; get it again") from error


def _take(
    sample: Sample, ending: str, member: tarfile.TarInfo, tar: tarfile.TarFile, *, with_bytes: bool
) -> None:
    sample.endings.add(ending)
    is_picture = has_picture_ending(f"x.{ending}") and "." not in ending
    if not is_picture and ending not in _BESIDE:
        return
    if is_picture and sample.ending:
        sample.n_more += 1
        return
    if is_picture:
        sample.ending = ending
    if not member.isreg():
        sample.problem = (
            f"{member.name!r} is a link within the tar file; only members with bytes of their own are read"
        )
    elif member.size > MAX_MEMBER_BYTES:
        sample.problem = f"{member.name!r} has {member.size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read"
    elif with_bytes:
        stream = tar.extractfile(member)
        content = b"" if stream is None else stream.read()
        if len(content) != member.size:
            raise tarfile.ReadError("unexpected end of data")
        if is_picture:
            sample.picture = content
        else:
            sample.beside[ending] = content


def _open(path: Path, stack: ExitStack) -> tarfile.TarFile:
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP
    if not is_gzip:
        return stack.enter_context(tarfile.open(path, "r:*", tarinfo=_Info))
    from isal import igzip

    inside = cast("IO[bytes]", stack.enter_context(igzip.open(path, "rb")))
    return stack.enter_context(tarfile.open(fileobj=inside, mode="r|", tarinfo=_Info))


def expanded(pattern: str) -> list[str]:
    """`a-{000..002}.tar` and `{x,y}.tar`, written out as a shell does; zeros in front stay."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    if span is not None:
        first, last = int(span[1]), int(span[2])
        width = max(len(span[1]), len(span[2])) if span[1].startswith("0") or span[2].startswith("0") else 0
        step = 1 if last >= first else -1
        choices = [f"{number:0{width}d}" for number in range(first, last + step, step)]
    else:
        choices = found[1].split(",")
    return [
        one
        for choice in choices
        for one in expanded(f"{pattern[: found.start()]}{choice}{pattern[found.end() :]}")
    ]
