"""Pictures of items as a backbone sees them, decoded once: what a training reads again and again.

They lie in a file beside the checkpoints that is gone with the training, so that memory holds of it what fits.

Shape letters: n pictures, h and w sides of the backbone's input.
"""

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.backbones.transform import Transform
from deponij.pipeline.pictures import Route, decode
from deponij.project.frame.console import bar
from deponij.store.errors import PictureError, explained
from deponij.store.items import Items

Pixels = NDArray[np.uint8]
_AHEAD = 4  # pictures a thread


class Pictures:
    """Decoded pictures by their row of the items.

    Attributes:
        failures: row -> reason of those that cannot be read; they are not among the others.
    """

    def __init__(self, pixels: Pixels, places: dict[int, int], failures: dict[int, str]) -> None:
        self._pixels, self._places, self.failures = pixels, places, failures

    def __contains__(self, row: int) -> bool:
        return row in self._places

    def read(self, rows: Sequence[int]) -> Pixels:
        """uint8 [n, h, w, 3] of these rows, in this order; repeats allowed."""
        return self._pixels[[self._places[row] for row in rows]]


@contextmanager
def decoded(
    items: Items,
    rows: Sequence[int],
    transform: Transform,
    *,
    route: Route,
    n_threads: int,
    folder: Path | None = None,
) -> Iterator[Pictures]:
    """Pictures of these rows, after the geometry of a backbone's transform and before its normalisation.

    Args:
        route: how they are decoded. n_threads: that do it.
        folder: where the file lies; among the system's temporary files by default.

    Raises:
        StoreError: the items are damaged, or the disk is full. Pictures that cannot be read are recorded instead.
    """
    height, width = transform.input_px
    wanted = sorted(set(rows))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-", dir=folder) as aside:
        path = Path(aside) / "pixels"
        places: dict[int, int] = {}
        failures: dict[int, str] = {}
        with explained(f"cannot keep decoded pictures in {aside}"), path.open("wb") as file:
            for row, pixels in _decode(items, wanted, transform, route, n_threads):
                if isinstance(pixels, str):
                    failures[row] = pixels
                    continue
                places[row] = len(places)
                file.write(pixels.tobytes())
        shape = (len(places), height, width, 3)
        kept: Pixels = np.memmap(path, np.uint8, "r", shape=shape) if places else np.empty(shape, np.uint8)
        yield Pictures(kept, places, failures)


def _decode(
    items: Items, rows: Sequence[int], transform: Transform, route: Route, n_threads: int
) -> Iterator[tuple[int, Pixels | str]]:
    """(row, pixels or why not), in order, made ahead by threads."""

    def pixels_of(content: bytes) -> Pixels | str:
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
        for row, content in items.contents(rows):
            waiting.append((row, pool.submit(pixels_of, content)))
            if len(waiting) >= _AHEAD * n_threads:
                first, made = waiting.popleft()
                yield first, made.result()
                advance(1, "")
        for row, made in waiting:
            yield row, made.result()
            advance(1, "")
