"""Flags that several commands share, and what they are turned into."""

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deponij.project.frame.settings import RunOptions


class Precision(StrEnum):
    """Of computing."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class Stored(StrEnum):
    """Of rows on disk."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class DecodeRoute(StrEnum):
    """How pictures become pixels."""

    FULL = "full"
    DRAFT = "draft"


class Background(StrEnum):
    """What is around an instance in its crop."""

    KEEP = "keep"
    BLANK = "blank"
    BLUR = "blur"


class Strategy(StrEnum):
    """How items are split."""

    RANDOM = "random"
    GROUP = "group"
    GIVEN = "given"
    THESIS = "thesis"


class Blend(StrEnum):
    """How zero-shot and labelled pictures are blended."""

    WISE_FT = "wise-ft"
    TIP_ADAPTER = "tip-adapter"


class How(StrEnum):
    """How the answers of an ensemble's members become one."""

    MEAN_LOGITS = "mean-logits"
    MEAN_PROBS = "mean-probs"
    CALIBRATED = "calibrated"
    WEIGHTED = "weighted"
    STACKING = "stacking"
    GREEDY = "greedy"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Depot = Annotated[str, typer.Option(envvar="DEPONIJ_DEPOT", help="Folder or fsspec URL of the feature rows.")]
Device = Annotated[str, typer.Option(envvar="DEPONIJ_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
BatchSize = Annotated[
    str, typer.Option(envvar="DEPONIJ_BATCH_SIZE", help="Pictures per forward pass, or auto.")
]
Workers = Annotated[int, typer.Option(envvar="DEPONIJ_WORKERS", help="Decoding threads; 0: one per core.")]
Threads = Annotated[
    int, typer.Option(envvar="DEPONIJ_THREADS", help="Model threads on the CPU; 0: one per core.")
]
ItemsArg = Annotated[Path, typer.Option("--items", help="Folder of items.")]
SplitArg = Annotated[Path, typer.Option("--split", help="Split table (Parquet).")]
FeaturesArg = Annotated[Path, typer.Option("--features", help="View of picture features.")]
LabelsArg = Annotated[str, typer.Option("--labels", help="Label column of the items.")]
BackboneArg = Annotated[
    str, typer.Option("--backbone", help="Name (see `deponij backbones`), folder or family:… form.")
]


def run_options(depot: str, device: str, batch_size: str, workers: int, threads: int) -> "RunOptions":
    from deponij.project.frame.settings import RunOptions, check
    from deponij.store.errors import UsageError

    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device) is None:
        raise UsageError(f"--device is auto, cpu, cuda, cuda:N or mps, got {device!r}")
    if batch_size != "auto" and not batch_size.isdigit():
        raise UsageError(f"--batch-size is a number or auto, got {batch_size!r}")
    size = 0 if batch_size == "auto" else int(batch_size)
    values = {"depot": depot, "device": device, "batch_size": size, "workers": workers, "threads": threads}
    return check(RunOptions, values, "the command line")
