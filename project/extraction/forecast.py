"""What an extraction will take, said before it begins: licence, weights, memory, new pictures and time. This is no stage.

Time is that of a trial, where the weights are here: a real forward pass of a few of these very pictures. Where they
are not, it is the catalog's operations over what this device does in a second (`speed`). Showing it is not done here.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

from deponij.pipeline.backbones import list_backbones, parse_spec
from deponij.pipeline.backbones.catalog import Entry
from deponij.pipeline.backbones.extraction import AUTO_BATCH, Progress
from deponij.pipeline.backbones.presets import Preset
from deponij.pipeline.backbones.sources import is_present
from deponij.project.extraction.devices import free_memory_bytes
from deponij.project.extraction.feature_maker import FeatureMaker, FoundBackbone, pictures_of
from deponij.project.extraction.speed import gflops_per_s
from deponij.project.frame.device import pick_device
from deponij.project.frame.settings import RunOptions
from deponij.store.depot import FeatureStore
from deponij.store.items import Items

N_TRIAL = 10
# Beside model and batch, on a CPU: Python with its libraries 0.8 GB, decoded pictures and kept pages 0.4 GB; measured as the
# peak of extracting 374 pictures by efficientnet-lite0 (1.66 GB in all) and 120 by dinov2-small (1.42 GB).
PROCESS_BYTES = 1_200_000_000
# A trial of a slow model stops at fewer pictures; weights that take long to read are not tried at all.
TRIAL_S = 1.5
_MOST_TRIED_BYTES = 1_500_000_000

Basis = Literal["known", "trial", "estimate", "few", "unknown"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """One backbone's part of the work to come.

    Attributes:
        backbone: what the run calls it.
        licence: of its weights; None where nobody wrote it down.
        is_here: its weights are on this machine.
        weights_bytes: about their size; None for a folder of the user's.
        memory_bytes: about what extracting takes on the device; None where the catalog has no figures.
        memory_free_bytes: what the device has left now; None where it does not tell.
        n_pictures: distinct pictures.
        n_new: those whose features the depot does not have.
        seconds: of extracting the new ones; None where nothing is new, or nothing is known of the model.
        basis: `known` (nothing is new), `trial` (of n_tried pictures), `estimate` (operations over the device's rate),
            `few` (no more than a trial would take), `unknown`.
    """

    backbone: str
    licence: str | None
    is_here: bool
    weights_bytes: int | None
    memory_bytes: int | None
    memory_free_bytes: int | None
    n_pictures: int
    n_new: int
    seconds: float | None
    basis: Basis
    n_tried: int = 0

    def to_record(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a preset would take for the same pictures, all of them new to it, on a device (`cpu`, `cuda:0`, …)."""

    preset: Preset
    device: str
    n_pictures: int
    fetch_bytes: int
    seconds: float

    def to_record(self) -> dict[str, Any]:
        """All of it, and what the preset takes, as JSON values."""
        preset = {"preset": self.preset.name, "backbones": list(self.preset.backbones)}
        preset["licences"] = list(self.preset.licences)
        return preset | {
            name: getattr(self, name) for name in ("device", "n_pictures", "fetch_bytes", "seconds")
        }


def forecasts(backbones: Sequence[FoundBackbone], items: Path, options: RunOptions) -> tuple[Forecast, ...]:
    """One for each backbone, whose weights are here, in their order. Takes a few seconds where there is work to do.

    Args:
        items: folder of the items that will be looked at.

    Raises:
        DeponijError: items, depot, device or a model cannot be used.
    """
    table = Items(items)
    keys = list(dict.fromkeys(key for key in table.keys if key is not None))
    store = FeatureStore(options.depot, create=True)
    return tuple(_forecast(backbone, table, keys, store, options) for backbone in backbones)


def offer(preset: Preset, n_pictures: int, precision: str, options: RunOptions) -> Offer:
    """What a preset would take on this device, by the catalog."""
    rate = gflops_per_s(options.device, precision, options.n_threads)
    return Offer(
        preset=preset,
        device=pick_device(options.device),
        n_pictures=n_pictures,
        fetch_bytes=fetch_bytes(preset.entries),
        seconds=sum(seconds_by_rate(entry, n_pictures, rate) or 0.0 for entry in preset.entries),
    )


def fetch_bytes(entries: Sequence[Entry]) -> int:
    """About how many bytes a download of those that are not here brings."""
    return sum(entry.weights_bytes or 0 for entry in entries if not is_present(entry))


def seconds_by_rate(entry: Entry, n_pictures: int, rate: float) -> float | None:
    """Of the forward passes alone. Args: rate: of the device, in 10^9 operations a second."""
    return None if entry.gflops is None else n_pictures * entry.gflops / rate


def memory_bytes(entry: Entry, precision: str, options: RunOptions) -> int | None:
    """About what an extraction takes on its device: the model and a batch, on a CPU with the process around them."""
    kind = pick_device(options.device).partition(":")[0]
    taken = entry.memory_bytes(options.batch_size or AUTO_BATCH[kind], precision)
    return taken + PROCESS_BYTES if taken is not None and kind == "cpu" else taken


def catalog_rows(n_pictures: int | None, precision: str, options: RunOptions) -> list[dict[str, Any]]:
    """`list_backbones`, and of each the `memory_bytes` of extracting on a CPU.

    With a number of pictures also the `seconds` that they take here, by the catalog's operations; only then anything is
    measured.
    """
    rate = None
    if n_pictures is not None:
        rate = gflops_per_s(options.device, precision, options.n_threads)
    rows = []
    for row in list_backbones():
        entry = parse_spec(row["name"])
        size = entry.memory_bytes(options.batch_size or AUTO_BATCH["cpu"], precision)
        more: dict[str, Any] = {"memory_bytes": None if size is None else size + PROCESS_BYTES}
        if n_pictures is not None and rate is not None:
            more["seconds"] = seconds_by_rate(entry, n_pictures, rate)
        rows.append(row | more)
    return rows


def _forecast(
    backbone: FoundBackbone, table: Items, keys: Sequence[str], store: FeatureStore, options: RunOptions
) -> Forecast:
    entry, precision = parse_spec(backbone.spec), backbone.identity.precision
    new = store.missing(backbone.identity, keys)
    free = free_memory_bytes(pick_device(options.device))
    seconds, basis, n_tried = _time(backbone, entry, table, new, options)
    return Forecast(
        backbone=backbone.name,
        licence=entry.licence,
        is_here=True,
        weights_bytes=entry.weights_bytes,
        memory_bytes=memory_bytes(entry, precision, options),
        memory_free_bytes=free,
        n_pictures=len(keys),
        n_new=len(new),
        seconds=seconds,
        basis=basis,
        n_tried=n_tried,
    )


def _time(
    backbone: FoundBackbone, entry: Entry, table: Items, new: Sequence[str], options: RunOptions
) -> tuple[float | None, Basis, int]:
    if not new:
        return None, "known", 0
    if len(new) <= N_TRIAL:
        return None, "few", 0
    if (entry.weights_bytes or 0) <= _MOST_TRIED_BYTES:
        n_tried, picture_s = trial(FeatureMaker(backbone, options), table, new)
        if n_tried:
            return picture_s * len(new), "trial", n_tried
    rate = gflops_per_s(options.device, backbone.identity.precision, options.n_threads)
    seconds = seconds_by_rate(entry, len(new), rate)
    return seconds, "unknown" if seconds is None else "estimate", 0


def trial(maker: FeatureMaker, table: Items, new: Sequence[str]) -> tuple[int, float]:
    """How many of the new pictures were tried, evenly spread over them, and the seconds that one took.

    The first passes of a model make kernels and take memory: one picture warms it up, and once more shows whether all
    fit into the time as one batch, or two by two as many as do. A fast model looks at them again and again: on a busy
    machine a moment says little.
    """
    chosen = [new[place * len(new) // N_TRIAL] for place in range(N_TRIAL)]
    for warming in (maker.progress(), maker.progress()):
        _look_at(maker, table, chosen[:1], warming)
    size = N_TRIAL
    if N_TRIAL * warming.busy_s["forward"] < TRIAL_S / 4:
        # Kernels for this size of batch.
        _look_at(maker, table, chosen, maker.progress())
    else:
        size = 2
    tried, n_looked, begin = maker.progress(), 0, time.perf_counter()
    for start in cycle(range(0, N_TRIAL, size)):
        _look_at(maker, table, chosen[start : start + size], tried)
        n_looked += size
        elapsed_s = time.perf_counter() - begin
        if elapsed_s >= TRIAL_S or tried.failures:
            break
    if not tried.n_rows:
        return 0, 0.0
    if maker.device == "cpu":
        # Decoding and the model share the cores, and what each takes adds up. Reading is left out: a few pictures bring
        # as much from the disk as all that lie beside them.
        return min(n_looked, N_TRIAL), (elapsed_s - tried.busy_s["read"]) / tried.n_rows
    # There the slowest part sets the pace.
    return min(n_looked, N_TRIAL), max(1 / rate for part, rate in tried.rates().items() if part != "read")


def _look_at(maker: FeatureMaker, table: Items, keys: Sequence[str], progress: Progress) -> None:
    """Compute these pictures' features, which nobody keeps."""
    for _ in maker.rows(pictures_of(table, keys), progress):
        pass
