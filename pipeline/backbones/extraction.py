"""From encoded pictures to feature rows: decode ahead, run the model, keep it fed.

Pictures are decoded and transformed by threads (Pillow and NumPy release the interpreter lock)
while the model computes; the model's thread never decodes. Batches are consecutive runs of pictures
that can be read and have finite features, so a run that goes on after a kill meets the same batches as
one that was never disturbed, and one picture that fails changes no bit of the others' rows.

Where rows are kept, and under which identity, is the caller's business.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.backbones.transform import Transform
from deponij.pipeline.pictures import Route, decode
from deponij.store.errors import BackboneError, PictureError

if TYPE_CHECKING:
    import torch

    from deponij.pipeline.backbones.contract import Backbone

Array = npt.NDArray[Any]
AUTO_BATCH = {"cpu": 32, "cuda": 256, "mps": 64}
# Batches decoded ahead of the model: enough to ride out a large photograph, small in memory.
AHEAD = 3
SWITCH_INTERVAL_S = 0.0005


@dataclass(frozen=True, slots=True)
class Picture:
    """One thing to look at: its key and its encoded bytes, or why there are none."""

    key: str
    content: bytes
    failure: str | None = None


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
        failures: (key, reason) of pictures that could not be read or whose features are not finite.
        busy_s: seconds of work per part, summed over its threads; forward is the model's own.
        waited_s: seconds in which the model had nothing to do.
        load_s: seconds of importing and loading the model.
        working_s: seconds from the first picture to the last committed row, without `load_s`.
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
    load_s: float = 0.0
    working_s: float = 0.0

    def rates(self) -> dict[str, float]:
        """Pictures per second that each part could do on its own, with its threads."""
        n_threads = {"decode": self.n_workers, "transform": self.n_workers}
        done = self.n_rows + len(self.failures)
        return {
            part: done * n_threads.get(part, 1) / seconds
            for part, seconds in self.busy_s.items()
            if seconds > 0
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
        load: gives the backbone on its device; called once, when the first batch is decoded.
        transform: the backbone's own.
        kind: what to compute.
        route: how to decode.
        stored: `float32` or `float16`.
        progress: kept up to date; failures are recorded in it.

    Raises:
        BackboneError: the model does not have this kind of feature, or one picture alone does not
            fit into the device's memory.
    """
    decoded = _Decoded(_decode_ahead(pictures, transform, route, progress))
    runner: _Runner | None = None
    waiting: deque[_Launched] = deque()
    while (batch := list(islice(decoded, progress.batch_size))) or waiting:
        runner = runner or _Runner(load(), kind, stored, progress)
        waiting.extend(runner.launch(batch) if batch else ())
        # A GPU computes one batch while the next is stacked and sent, so its rows are fetched one later.
        while len(waiting) > bool(batch):
            launched = waiting.popleft()
            rows, failures = runner.finish(launched)
            if not failures:
                progress.n_rows += len(rows.keys)
                yield rows
                continue
            # As if those had never been there: the others go into batches with the pictures that follow.
            progress.failures += failures.items()
            decoded.put_back(
                [one for part in (launched, *waiting) for one in part.batch if one[0] not in failures]
            )
            waiting.clear()


class _Decoded:
    """Decoded pictures in order, of which some may be put back."""

    def __init__(self, pictures: Iterator[tuple[str, Array]]) -> None:
        self._first: deque[tuple[str, Array]] = deque()
        self._rest = pictures

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[str, Array]:
        return self._first.popleft() if self._first else next(self._rest)

    def put_back(self, pictures: Sequence[tuple[str, Array]]) -> None:
        """They come next, in this order."""
        self._first.extendleft(reversed(pictures))


def _decode_ahead(
    pictures: Iterable[Picture], transform: Transform, route: Route, progress: Progress
) -> Iterator[tuple[str, Array]]:
    """(key, uint8 [h, w, 3]) of readable pictures, in order, made ahead by threads."""

    def prepare(picture: Picture) -> tuple[Array, float, float]:
        # Threads share cores with the model: their own processor time is the honest measure.
        start = time.thread_time()
        if picture.failure is not None:
            raise PictureError(picture.failure)
        image = decode(
            picture.content, route=route, input_px=transform.input_px, keep_alpha=transform.keeps_alpha
        )
        middle = time.thread_time()
        return transform.pixels(image), middle - start, time.thread_time() - middle

    def prepare_within_memory(picture: Picture) -> tuple[Array, float, float]:
        try:
            return prepare(picture)
        except MemoryError as error:
            raise PictureError("decoding and resizing it takes more memory than there is") from error

    source = iter(pictures)
    # Many threads hand the interpreter lock to and fro; at CPython's 5 ms each waits too long for its turn
    # (16 threads decoded 1,860 pictures/s instead of 1,610, and 16 processes 2,270).
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
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
                    window.append((picture.key, pool.submit(prepare_within_memory, picture)))
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
            sys.setswitchinterval(interval_s)
            for _, future in window:
                future.cancel()


@dataclass(frozen=True)
class _Launched:
    """A batch whose forward pass has been asked for; on CUDA it may still run."""

    batch: list[tuple[str, Array]]
    tensors: "dict[str, torch.Tensor]"
    timer: "_Timer"


class _Runner:
    """Sends batches to the model and fetches what it made of them."""

    def __init__(self, model: "Backbone", kind: Kind, stored: str, progress: Progress) -> None:
        import torch

        self._model = model
        self._kind = kind
        self._dtype_name = stored
        self._dtype: torch.dtype = getattr(torch, stored)
        self._progress = progress

    def launch(self, batch: list[tuple[str, Array]]) -> list[_Launched]:
        """Start one batch; on CUDA out-of-memory halve it, and all that follow."""
        import torch

        queue, launched = deque([batch]), []
        while queue:
            part = queue.popleft()
            try:
                launched.append(self._start(part))
            except torch.cuda.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                if len(part) == 1:
                    text = "one picture alone does not fit into the GPU's memory; use --device cpu"
                    raise BackboneError(text) from error
                half = (len(part) + 1) // 2
                self._progress.batch_size = min(self._progress.batch_size, half)
                queue.extendleft([part[half:], part[:half]])
        return launched

    def _start(self, batch: list[tuple[str, Array]]) -> _Launched:
        import torch

        on_cuda = self._model.device.startswith("cuda")
        pixels = torch.from_numpy(np.stack([one for _, one in batch]))  # uint8 [n, h, w, 3]
        if on_cuda:
            pixels = pixels.pin_memory().to(self._model.device, non_blocking=True)
        with torch.inference_mode():
            timer = _Timer(on_cuda)
            tensors = self._kind.compute(self._model, self._model.normalise(pixels))
            timer.stop()
        return _Launched(batch, tensors, timer)

    def finish(self, launched: _Launched) -> tuple[Rows, dict[str, str]]:
        """Wait for a batch and bring its rows to NumPy in the stored dtype; also key -> reason of those not finite."""
        start = time.perf_counter()
        arrays: dict[str, Array] = {n: t.to(self._dtype).cpu().numpy() for n, t in launched.tensors.items()}
        fetched_s = time.perf_counter() - start
        self._progress.busy_s["forward"] += launched.timer.seconds() or fetched_s
        keys = [key for key, _ in launched.batch]
        finite = np.ones(len(keys), bool)
        for values in arrays.values():
            finite &= np.isfinite(values.reshape(len(keys), -1)).all(axis=1)
        failures = {keys[row]: self._why(launched, row) for row in np.flatnonzero(~finite).tolist()}
        return Rows(keys, arrays), failures

    def _why(self, launched: _Launched, row: int) -> str:
        """Why a row is not finite, and what to do about it."""
        import torch

        model, precision = self._model.description.name, self._model.precision
        for name, values in launched.tensors.items():
            if not values[row].isfinite().all():
                worst = "NaN" if values[row].isnan().any() else "infinity"
                return f"its features by {model} ({name}) hold {worst} when computed in {precision}; " + (
                    "compute in bf16 or fp32 (`precision`)"
                    if precision == "fp16"
                    else "look at the picture, or take another backbone"
                )
        largest = max(float(values[row].abs().max()) for values in launched.tensors.values())
        return (
            f"its features by {model} reach {largest:.3g}, past {self._dtype_name}, which ends at "
            f"{torch.finfo(self._dtype).max:,.0f}; store float32 (`stored`)"
        )


class _Timer:
    """Seconds of a forward pass: the device's own clock on CUDA, where launching returns at once."""

    def __init__(self, on_cuda: bool) -> None:
        self._events: tuple[Any, Any] | None = None
        if on_cuda:
            import torch

            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            self._events = (begin, end)
            self._events[0].record()
        self._start = time.perf_counter()
        self._stop = self._start

    def stop(self) -> None:
        """Right behind the forward pass."""
        self._stop = time.perf_counter()
        if self._events is not None:
            self._events[1].record()

    def seconds(self) -> float:
        """After the results have been fetched."""
        if self._events is not None:
            return float(self._events[0].elapsed_time(self._events[1])) / 1000.0
        return self._stop - self._start
