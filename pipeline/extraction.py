"""From encoded pictures to feature rows: decode ahead, run the model, keep it fed.

Pictures are decoded and transformed by threads (Pillow and NumPy release the interpreter lock)
while the model computes; the model's thread never decodes. Batches are consecutive runs of pictures
that could be read, so a run that goes on after a kill meets the same batches as one that was never
disturbed.

Where rows are kept, and under which identity, is the caller's business.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.backbones.transform import Transform
from pipeline.kinds import Kind
from pipeline.pictures import Route, decode
from store.errors import BackboneError, PictureError

if TYPE_CHECKING:
    import torch

    from pipeline.backbones.contract import Backbone

Array = npt.NDArray[Any]
AUTO_BATCH = {"cpu": 32, "cuda": 256, "mps": 64}
# Batches decoded ahead of the model: enough to ride out a large photograph, small in memory.
AHEAD = 3


@dataclass(frozen=True, slots=True)
class Picture:
    """One thing to look at: its key and its encoded bytes."""

    key: str
    content: bytes


@dataclass(frozen=True)
class Rows:
    """Features of one batch: n keys and arrays name -> [n, …]."""

    keys: list[str]
    arrays: dict[str, Array]


@dataclass
class Progress:
    """What has been done and where the time went.

    Attributes:
        n_rows: pictures whose features are computed.
        failures: (key, reason) of pictures that could not be read.
        busy_s: seconds of work per part, summed over its threads; forward is the model's own.
        waited_s: seconds in which the model had nothing to do.
        n_workers: decoding threads.
        batch_size: the one in use; smaller than asked for after CUDA ran out of memory.
    """

    n_workers: int
    batch_size: int
    n_rows: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    busy_s: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("read", "decode", "transform", "forward", "write"), 0.0)
    )
    waited_s: float = 0.0

    def rates(self) -> dict[str, float]:
        """Pictures per second that each part could do on its own, with its threads."""
        n_threads = {"decode": self.n_workers, "transform": self.n_workers}
        done = self.n_rows + len(self.failures)
        return {
            part: done * n_threads.get(part, 1) / seconds for part, seconds in self.busy_s.items() if seconds > 0
        }

    @property
    def bottleneck(self) -> str | None:
        """The slowest part; None before anything was done."""
        rates = self.rates()
        return min(rates, key=lambda part: rates[part]) if rates else None


def extract(
    pictures: Iterable[Picture],
    load: "Callable[[], Backbone]",
    *,
    transform: Transform,
    kind: Kind,
    route: Route,
    stored: str,
    progress: Progress,
) -> Iterator[Rows]:
    """Features of pictures, in their order, batch by batch.

    Args:
        pictures: an iterable that reads lazily.
        load: gives the backbone on its device; called once, when the first picture is decoded.
        transform: the backbone's own.
        kind: what to compute.
        route: how to decode.
        stored: `float32` or `float16`.
        progress: kept up to date; failures are recorded in it.

    Raises:
        BackboneError: the model does not have this kind of feature, or one picture alone does not
            fit into the device's memory.
    """
    ready = _decoded(pictures, transform, route, progress)
    batch: list[tuple[str, Array]] = []
    model: Backbone | None = None
    for picture in ready:
        batch.append(picture)
        if len(batch) >= progress.batch_size:
            model = model or load()
            yield from _run(model, batch, kind, stored, progress)
            batch = []
    if batch:
        yield from _run(model or load(), batch, kind, stored, progress)


def _decoded(
    pictures: Iterable[Picture], transform: Transform, route: Route, progress: Progress
) -> Iterator[tuple[str, Array]]:
    """(key, float32 [3, h, w]) of readable pictures, in order, computed ahead by threads."""

    def prepare(picture: Picture) -> tuple[Array, float, float]:
        # Threads share cores with the model: their own processor time is the honest measure.
        start = time.thread_time()
        image = decode(
            picture.content, route=route, input_px=transform.input_px, keep_alpha=transform.keeps_alpha
        )
        middle = time.thread_time()
        return transform.apply(image), middle - start, time.thread_time() - middle

    source = iter(pictures)
    window: deque[tuple[str, Future[tuple[Array, float, float]]]] = deque()
    with ThreadPoolExecutor(progress.n_workers, thread_name_prefix="decode") as pool:
        try:
            while True:
                while len(window) < max(AHEAD * progress.batch_size, 2 * progress.n_workers):
                    start = time.perf_counter()
                    picture = next(source, None)
                    progress.busy_s["read"] += time.perf_counter() - start
                    if picture is None:
                        break
                    window.append((picture.key, pool.submit(prepare, picture)))
                if not window:
                    return
                key, future = window.popleft()
                start = time.perf_counter()
                try:
                    pixels, decode_s, transform_s = future.result()
                except PictureError as error:
                    progress.failures.append((key, str(error)))
                    continue
                finally:
                    progress.waited_s += time.perf_counter() - start
                progress.busy_s["decode"] += decode_s
                progress.busy_s["transform"] += transform_s
                yield key, pixels
        finally:
            for _, future in window:
                future.cancel()


def _run(
    model: "Backbone", batch: list[tuple[str, Array]], kind: Kind, stored: str, progress: Progress
) -> Iterator[Rows]:
    """Forward one batch; on CUDA out-of-memory halve it, and all that follow."""
    import torch

    queue = deque([batch])
    while queue:
        part = queue.popleft()
        keys = [key for key, _ in part]
        try:
            start = time.perf_counter()
            arrays = _forward(model, np.stack([pixels for _, pixels in part]), kind, stored)
            progress.busy_s["forward"] += time.perf_counter() - start
        except torch.cuda.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if len(part) == 1:
                raise BackboneError("one picture alone does not fit into the GPU's memory; use --device cpu") from error
            half = (len(part) + 1) // 2
            progress.batch_size = min(progress.batch_size, half)
            queue.extendleft([part[half:], part[:half]])
            continue
        progress.n_rows += len(keys)
        yield Rows(keys, arrays)


def _forward(model: "Backbone", pixels: Array, kind: Kind, stored: str) -> dict[str, Array]:
    import torch

    batch = torch.from_numpy(pixels)
    if model.device.startswith("cuda"):
        batch = batch.pin_memory().to(model.device, non_blocking=True)
    with torch.inference_mode():
        tensors = kind.compute(model, batch)
        return {name: _to_numpy(tensor, stored) for name, tensor in tensors.items()}


def _to_numpy(tensor: "torch.Tensor", stored: str) -> Array:
    import torch

    array: Array = tensor.to(getattr(torch, stored)).cpu().numpy()
    return array
