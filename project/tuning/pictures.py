"""Pictures of items as a backbone sees them, decoded once: what a training reads again and again.

They lie in a folder beside the checkpoints that goes when the training is done, so that memory holds of them what fits. A
training that was interrupted finds them there.

    FOLDER/pixels       uint8 [n, h, w, 3]
    FOLDER/made.json    whose they are, with the checksum of `pixels`

Shape letters: n pictures, h and w sides of the backbone's input.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.backbones.transform import Transform
from deponij.pipeline.pictures import Route, decode
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.frame.console import bar
from deponij.project.frame.settings import Section, check
from deponij.store.atomic import replacing_folder
from deponij.store.errors import PictureError, StoreError, UsageError
from deponij.store.items import Items
from deponij.store.sealed import read_sealed, sealed, sha256_of

Pixels = NDArray[np.uint8]
_AHEAD = 4  # pictures a thread
_PIXELS, _RECORD = "pixels", "made.json"
_REMEDY = "it is made again"


class _Made(Section):
    """Of pictures on the disk.

    Attributes:
        of: stands for what was decoded, and how.
        rows: of the items, in order.
        failures: row -> reason.
    """

    of: str
    rows: list[int]
    failures: dict[int, str]
    sha256: str


class Pictures:
    """Decoded pictures by their row of the items.

    Attributes:
        failures: row -> reason of those that cannot be read; they are not among the others.
        were_there: whether an earlier call had decoded them.
    """

    def __init__(
        self, pixels: Pixels, places: dict[int, int], failures: dict[int, str], *, were_there: bool = False
    ) -> None:
        self._pixels, self._places, self.failures = pixels, places, failures
        self.were_there = were_there

    def __contains__(self, row: int) -> bool:
        return row in self._places

    def read(self, rows: Sequence[int]) -> Pixels:
        """uint8 [n, h, w, 3] of these rows, in this order; repeats allowed."""
        return self._pixels[[self._places[row] for row in rows]]


def decoded(
    items: Items, rows: Sequence[int], found: FoundBackbone, *, route: Route, n_threads: int, folder: Path
) -> Pictures:
    """Pictures of these rows, after the geometry of a backbone's transform and before its normalisation.

    Args:
        route: how they are decoded.
        n_threads: that do it.
        folder: where they lie; it is replaced as a whole. What an earlier call left there is taken where it is of the same
            pictures for the same input, and whole.

    Raises:
        StoreError: items are damaged, or the disk is full. Pictures that cannot be read are recorded instead.
    """
    wanted = sorted(set(rows))
    keys = [[row, items.keys[row]] for row in wanted]
    of = sha256_of(json.dumps([found.identity.transform, route, keys]).encode())
    earlier = _earlier(folder, of)
    made = earlier
    if made is None:
        made = _written(folder, of, _decode(items, wanted, found.description.transform, route, n_threads))
    shape = (len(made.rows), *found.description.transform.input_px, 3)
    path = folder / _PIXELS
    kept: Pixels = np.memmap(path, np.uint8, "r", shape=shape) if made.rows else np.empty(shape, np.uint8)
    places = {row: place for place, row in enumerate(made.rows)}
    return Pictures(kept, places, made.failures, were_there=earlier is not None)


def _earlier(folder: Path, of: str) -> _Made | None:
    """What lies there, if it is that and whole."""
    try:
        made = check(_Made, read_sealed(folder / _RECORD, _REMEDY), str(folder))
        with (folder / _PIXELS).open("rb") as file:
            is_whole = made.of == of and hashlib.file_digest(file, "sha256").hexdigest() == made.sha256
    except (StoreError, UsageError, OSError):
        return None
    return made if is_whole else None


def _written(folder: Path, of: str, pictures: Iterable[tuple[int, Pixels | str]]) -> _Made:
    rows: list[int] = []
    failures: dict[int, str] = {}
    digest = hashlib.sha256()
    with replacing_folder(folder) as part:
        with (part / _PIXELS).open("wb") as file:
            for row, pixels in pictures:
                if isinstance(pixels, str):
                    failures[row] = pixels
                    continue
                rows.append(row)
                content = pixels.tobytes()
                file.write(content)
                digest.update(content)
        made = _Made(of=of, rows=rows, failures=failures, sha256=digest.hexdigest())
        (part / _RECORD).write_bytes(sealed(made.model_dump(mode="json")))
    return made


def _decode(
    items: Items, rows: Sequence[int], transform: Transform, route: Route, n_threads: int
) -> Iterator[tuple[int, Pixels | str]]:
    """(row, pixels or why not), in order, made ahead by threads."""

    def pixels_of(content: bytes | StoreError) -> Pixels | str:
        if isinstance(content, StoreError):
            return str(content)
        try:
            image = decode(
                content, route=route, input_px=transform.input_px, keep_alpha=transform.keeps_alpha
            )
            return transform.pixels(image)
        except PictureError as error:
            return str(error)

    waiting: deque[tuple[int, Future[Pixels | str]]] = deque()
    with (
        bar("decode", len(rows), "pictures") as advance,
        ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool,
    ):
        for row, content in items.found(rows):
            waiting.append((row, pool.submit(pixels_of, content)))
            if len(waiting) >= _AHEAD * n_threads:
                first, made = waiting.popleft()
                yield first, made.result()
                advance(1, "")
        for row, made in waiting:
            yield row, made.result()
            advance(1, "")
