"""Flags that several commands share, and what they are turned into."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast

import typer

from deponij.pipeline.registry import names_in
from deponij.pipeline.training.trackers import TRACKERS

if TYPE_CHECKING:
    from deponij.pipeline.training.trackers import TrackerName, Tracking
    from deponij.project.frame.settings import RunOptions

    Blend: TypeAlias = str
    Strategy: TypeAlias = str
    How: TypeAlias = str
    IndexType: TypeAlias = str
    Preset: TypeAlias = str
else:
    _PRESETS = Path(str(files("deponij.pipeline"))) / "backbones" / "presets.json"
    # Whatever the registries hold: their rooms are read as text, so that `--help` imports nothing heavy.
    Strategy = Literal[names_in("deponij.pipeline.data.splitting")]
    How = Literal[names_in("deponij.pipeline.ensembles")]
    IndexType = Literal[("auto", *names_in("deponij.pipeline.retrieval"))]
    # Heads that start from texts; zero-shot learns nothing from pictures.
    Blend = Literal[tuple(sorted({*names_in("deponij.pipeline.heads.words")} - {"zero-shot"}))]
    Preset = Literal[tuple(one["name"] for one in json.loads(_PRESETS.read_bytes()))]
# No choice, for a program of the user's may have entered a head of its own.
HEADS = names_in("deponij.pipeline.heads")
Stored = Literal["float32", "float16"]
Token = Literal["class", "mean"]
PixelLoss = Literal["cross_entropy", "boundary"]
Learns = Literal["all", "last", "none"]
DecodeRoute = Literal["full", "draft"]
Background = Literal["keep", "blank", "blur"]
BoxForm = Literal["xywh", "xyxy", "cxcywh", "xywh-normalised", "xyxy-normalised", "cxcywh-normalised"]

Precision = Annotated[
    Literal["fp32", "bf16", "fp16"],
    typer.Option("--precision", help="Of computing; features of each precision are kept apart."),
]

PresetOpt = Annotated[
    Preset | None,
    typer.Option(
        "--preset", help="Backbones that go together, instead of --backbone; `deponij backbones` shows them."
    ),
]

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
Cluster = Annotated[
    str,
    typer.Option(
        "--cluster",
        envvar="DEPONIJ_CLUSTER",
        metavar="ADDRESS",
        help="Work on a Dask cluster: tcp://HOST:PORT of its scheduler, or local[:N], processes of this machine.",
    ),
]
RunOpt = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="FOLDER",
        help="Of this run; by default of the last one that finished in this folder.",
    ),
]
ItemsArg = Annotated[Path, typer.Option("--items", help="Folder of items.")]
SplitArg = Annotated[Path, typer.Option("--split", help="Split table (Parquet).")]
# What is learned from; what is not named is the run's.
FeaturesMeant = Annotated[Path | None, typer.Option("--features", help="View of picture features.")]
ItemsMeant = Annotated[Path | None, typer.Option("--items", help="Folder of items.")]
SplitMeant = Annotated[Path | None, typer.Option("--split", help="Split table (Parquet).")]
LabelsMeant = Annotated[str | None, typer.Option("--labels", help="Label column of the items.")]
TextsMeant = Annotated[Path | None, typer.Option("--texts", help="View of text vectors.")]
LabelsArg = Annotated[str, typer.Option("--labels", help="Label column of the items.")]
BackboneArg = Annotated[
    str, typer.Option("--backbone", help="Name (see `deponij backbones`), folder or family:… form.")
]

OutArg = Annotated[
    Path | None, typer.Option("--out", help="Folder for predictions, confusion and what was learned.")
]
CocoOpt = Annotated[Path | None, typer.Option("--coco", help="COCO annotation file; needs --images.")]
CocosOpt = Annotated[
    list[Path] | None,
    typer.Option("--coco", help="COCO annotation file; needs --images. Repeatable, as for train and val."),
]
ImagesOpt = Annotated[
    Path | None,
    typer.Option("--images", help="Folder that the names in the COCO file or table are relative to."),
]
YoloOpt = Annotated[
    Path | None, typer.Option("--yolo", help="data.yaml of a YOLO detection data set, or its folder.")
]
VocOpt = Annotated[Path | None, typer.Option("--voc", help="Folder of a Pascal VOC data set.")]
TableOpt = Annotated[
    Path | None, typer.Option("--table", help="CSV, TSV or Parquet file with the columns path and label.")
]
ParquetsOpt = Annotated[
    list[Path] | None, typer.Option("--parquet", help="Hugging Face parquet file; repeatable.")
]
ShardsOpt = Annotated[
    list[Path] | None,
    typer.Option(
        "--shards",
        metavar="FILES",
        help="Tar shards of webdataset: a file, folder, or pattern as 'data-{000..123}.tar'; repeatable.",
    ),
]
VideoOpt = Annotated[
    Path | None, typer.Option("--video", help="Folder of videos, or one; frames become pictures.")
]
FpsOpt = Annotated[float | None, typer.Option("--fps", help="Frames a second of videos; by default 1.")]
EveryOpt = Annotated[
    int | None, typer.Option("--every", min=1, help="Take each n-th frame of videos instead.")
]
LabelFieldOpt = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Field of the JSON in tar shards that is the label."),
]
LimitOpt = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="For a try-out: so many items, of each class in turn."),
]
CopyOpt = Annotated[
    Literal["auto", "always", "never"],
    typer.Option(
        "--copy", help="Copy pictures into the items, or name their files; auto: copy up to 1 GB of them."
    ),
]
FetchOpt = Annotated[
    bool, typer.Option("--fetch", help="Fetch pictures that a table names by http(s) addresses.")
]
ClassFolderOpt = Annotated[Path | None, typer.Option("--folder", help="Folder of class folders.")]
PathColumnOpt = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Column of paths in a table, where its name is none of the usual ones."
    ),
]
LabelSeparatorOpt = Annotated[
    str | None,
    typer.Option(metavar="SIGN", help="Between the labels of a picture in a table, such as '|' or ';'."),
]
LabelColumnsOpt = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Columns of 0 and 1 in a table, one a class, in place of a label."),
]
WholeOpt = Annotated[
    bool,
    typer.Option("--whole", help="No crops: whole photographs, each with the categories annotated on it."),
]
TreatOpt = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=WHAT",
        help="What a folder or file is that could be part of a split: train, val, test, class or skip; repeatable.",
    ),
]
LinksOpt = Annotated[
    list[Path] | None,
    typer.Option("--links-into", metavar="DIR", help="Follow symbolic links into this folder; repeatable."),
]
BoxesOpt = Annotated[
    BoxForm | None, typer.Option(help="Form of the COCO file's boxes, where it is not COCO's own (xywh).")
]
KeepCrowdsOpt = Annotated[
    bool, typer.Option("--keep-crowds", help="Cut annotations that are marked as crowds, too.")
]
CorrectionsOpt = Annotated[
    list[Path] | None,
    typer.Option(help="CSV of other labels, and of items to leave out (`deponij advice`); repeatable."),
]
KeepOpt = Annotated[
    Path | None,
    typer.Option(help="List of the only items to take, as `deponij duplicates --keep` writes it."),
]
SheetOpt = Annotated[Path | None, typer.Option("--sheet", help="Page of pictures to write (.png).")]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="|".join(TRACKERS),
        help="Tell losses and figures of validation to this tracker too; repeatable.",
    ),
]
LogDir = Annotated[Path, typer.Option(help="Where trackers write, in a folder of the training's name.")]
ParquetOpt = Annotated[Path | None, typer.Option("--parquet", help="Table to write, of all (.parquet).")]


def run_options(
    depot: str, device: str, batch_size: str, workers: int, threads: int, cluster: str = ""
) -> "RunOptions":
    from deponij.project.frame.settings import RunOptions, check
    from deponij.store.errors import UsageError

    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device) is None:
        raise UsageError(f"--device is auto, cpu, cuda, cuda:N or mps, got {device!r}")
    if batch_size != "auto" and not batch_size.isdigit():
        raise UsageError(f"--batch-size is a number or auto, got {batch_size!r}")
    size = 0 if batch_size == "auto" else int(batch_size)
    values = {
        "depot": depot,
        "device": device,
        "batch_size": size,
        "workers": workers,
        "threads": threads,
        "cluster": cluster,
    }
    return check(RunOptions, values, "the command line")


def tracking_of(track: list[str] | None, log_dir: Path, name: str) -> "Tracking | None":
    """Who is told of a training; a tracker that is not installed is said at once."""
    from deponij.pipeline.training.trackers import Tracking

    if not track:
        return None
    tracking = Tracking(cast("list[TrackerName]", track), log_dir, name)
    tracking.check()
    return tracking


def treatments(treat: list[str] | None) -> dict[str, str]:
    """What `--treat` says, by name; whether it can be said is for the data set to check."""
    from deponij.store.errors import UsageError

    found = {}
    for one in treat or ():
        name, _, what = one.rpartition("=")
        if not name:
            raise UsageError(f"--treat is NAME=WHAT, such as samples=skip, got {one!r}")
        found[name] = what
    return found


def listed_names(names: str | None) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name for one in (names or "").split(",") if (name := one.strip()))
