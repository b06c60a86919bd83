"""`deponij bench backbones`: what backbones cost on this device, each measured in a process of its own.

Pictures are random numbers on the device, so that the model alone is measured; reading and decoding are not
(`deponij run` says before it begins what a whole extraction takes).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

from deponij.pipeline.backbones import sources
from deponij.pipeline.backbones.access import resolved
from deponij.pipeline.backbones.catalog import parse_spec
from deponij.pipeline.training.costs import PeakMemory, gflops_of
from deponij.project.extraction.devices import load_backbone
from deponij.project.extraction.speed import usual_s
from deponij.project.frame.allocator import keep_pages
from deponij.project.frame.device import pick_device
from deponij.project.frame.settings import RunOptions, Section
from deponij.store.errors import DeponijError, UsageError

if TYPE_CHECKING:
    import torch

_LEAST_BATCHES = 3
_ENDED = "its process was ended, as systems do that are out of memory: take smaller batches"


class OfBatch(Section):
    """Batches of one size.

    Attributes:
        pictures_per_s: by the median of several batches; None where one does not fit into the GPU's memory.
        peak_bytes: of memory beyond the loaded model, the batch included; None where the device does not tell.
    """

    size: int
    pictures_per_s: float | None
    peak_bytes: int | None


class Measured(Section):
    """One backbone; what could not be measured is None, and `problem` says why and what to do.

    Attributes:
        n_params: of the tower that looks at pictures.
        gflops: 10^9 operations a picture of the input's size, a multiply-add being two.
        weights_bytes: of its files on the disk.
    """

    name: str
    problem: str | None = None
    n_params: int | None = None
    gflops: float | None = None
    weights_bytes: int | None = None
    input_px: tuple[int, int] | None = None
    batches: tuple[OfBatch, ...] = ()


class Throughput(Section):
    """All of them, and on what they were measured.

    Attributes:
        device: such as `cpu` or `cuda:0`.
        device_name: of a GPU.
        threads: of a CPU.
    """

    device: str
    device_name: str | None
    threads: int
    precision: str
    backbones: tuple[Measured, ...]


def measure_backbones(
    names: Sequence[str],
    batch_sizes: Sequence[int],
    precision: str,
    options: RunOptions,
    on_next: Callable[[str], None] = lambda name: None,
    on_done: Callable[[], None] = lambda: None,
) -> Throughput:
    """Measure backbones one after the other; one that is not here, or fails, is told and ends nothing.

    Args:
        names: of the catalog, or other forms of `parse_spec`.
        batch_sizes: pictures at a time, at least 1 each.
        on_next: told each name before it is measured.
        on_done: called after each.

    Raises:
        UsageError: an unknown name, no size, one below 1, or a device that is not here.
    """
    sizes = sorted(set(batch_sizes))
    if not sizes or sizes[0] < 1:
        raise UsageError(f"batch sizes are whole numbers above 0, such as 1,8,32; got {list(batch_sizes)}")
    device = pick_device(options.device)
    specs = list(dict.fromkeys(names))
    here = {spec: sources.is_present(resolved(parse_spec(spec))) for spec in specs}
    measured = []
    for spec in specs:
        on_next(spec)
        measured.append(
            _in_its_own_process(spec, sizes, device, precision, options.n_threads)
            if here[spec]
            else _absent(spec)
        )
        on_done()
    return Throughput(
        device=device,
        device_name=_device_name(device),
        threads=options.n_threads,
        precision=precision,
        backbones=tuple(measured),
    )


def measure(spec: str, sizes: Sequence[int], device: str, precision: str, n_threads: int) -> Measured:
    """Measure one backbone in this process, whose memory should be its own.

    Args:
        sizes: ascending.

    Raises:
        DeponijError: the model cannot be loaded.
    """
    import torch

    keep_pages()
    backbone = load_backbone(spec, device, precision, n_threads)
    known = backbone.description
    location = sources.locate(resolved(parse_spec(spec)))

    def pictures(size: int) -> torch.Tensor:
        return torch.randn(size, 3, *known.input_px, device=device)

    # What the first pass brings into memory, libraries above all, is not the batch's.
    gflops = gflops_of(backbone.embed_images, pictures(1))
    backbone.embed_images(pictures(1))
    batches: list[OfBatch] = []
    for size in sizes:
        try:
            with PeakMemory(device) as peak:
                batch = pictures(size)
                seconds = usual_s(partial(_once, backbone.embed_images, batch), _LEAST_BATCHES)
            batches.append(OfBatch(size=size, pictures_per_s=size / seconds, peak_bytes=peak.n_bytes))
        except torch.OutOfMemoryError:
            batches.append(OfBatch(size=size, pictures_per_s=None, peak_bytes=None))
    return Measured(
        name=known.name,
        n_params=sum(one.numel() for one in backbone.vision.parameters()),
        gflops=gflops,
        weights_bytes=sum(path.stat().st_size for path in type(backbone).weights_files(location)),
        input_px=known.input_px,
        batches=tuple(batches),
    )


def _in_its_own_process(
    spec: str, sizes: Sequence[int], device: str, precision: str, n_threads: int
) -> Measured:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        try:
            return alone.submit(measure, spec, sizes, device, precision, n_threads).result()
        except BrokenProcessPool:
            return Measured(name=spec, problem=_ENDED)
        except DeponijError as error:
            return Measured(name=spec, problem=str(error))


def _absent(spec: str) -> Measured:
    try:
        sources.locate(resolved(parse_spec(spec)))
    except DeponijError as error:
        return Measured(name=spec, problem=str(error))
    return Measured(
        name=spec, problem=f"its weights are not here: `deponij weights fetch {spec}` brings them"
    )


def _device_name(device: str) -> str | None:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else None


def _once(embed: "Callable[[torch.Tensor], torch.Tensor]", batch: "torch.Tensor") -> None:
    # The answer on the host: only then a GPU is done.
    embed(batch).cpu()
