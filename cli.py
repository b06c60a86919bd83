"""The `deponij` command: parses flags, calls one function, prints the answer or the error.

Exit status: 0 done, 1 failed with a message, 2 wrong usage, 3 done but some items failed and are in
the failure table. With `--json` standard output holds one JSON document and nothing else; messages
and progress go to standard error. Heavy imports sit inside the commands, so that `--help` is instant.
"""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from stages.settings import RunOptions

EXIT_FAILED, EXIT_USAGE, EXIT_PARTLY = 1, 2, 3

app = typer.Typer(
    help="A feature store for vision: crop once, extract once, learn cheaply.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _group(name: str, text: str) -> typer.Typer:
    group = typer.Typer(help=text, no_args_is_help=True)
    app.add_typer(group, name=name)
    return group


data_app = _group("data", "Get a data set: fetch TACO, or draw the sample.")
depot_app = _group("depot", "Look at, check, move and tidy a depot of feature rows.")
view_app = _group("view", "Look at and export a view of features.")
profile_app = _group("profile", "Choose what `dvc repro` runs.")
weights_app = _group("weights", "Bring published weights to this machine.")


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


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Depot = Annotated[str, typer.Option(envvar="DEPONIJ_DEPOT", help="Folder or fsspec URL of the feature rows.")]
Device = Annotated[str, typer.Option(envvar="DEPONIJ_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
BatchSize = Annotated[str, typer.Option(envvar="DEPONIJ_BATCH_SIZE", help="Pictures per forward pass, or auto.")]
Workers = Annotated[int, typer.Option(envvar="DEPONIJ_WORKERS", help="Decoding threads; 0: one per core.")]
Threads = Annotated[int, typer.Option(envvar="DEPONIJ_THREADS", help="Model threads on the CPU; 0: one per core.")]
ItemsArg = Annotated[Path, typer.Option("--items", help="Folder of items.")]
SplitArg = Annotated[Path, typer.Option("--split", help="Split table (Parquet).")]
FeaturesArg = Annotated[Path, typer.Option("--features", help="View of picture features.")]
LabelsArg = Annotated[str, typer.Option("--labels", help="Label column of the items.")]
BackboneArg = Annotated[str, typer.Option("--backbone", help="Name (see `deponij backbones`), folder or family:… form.")]


# ------------------------------------------------------------------ the whole way in one command


@app.command()
def run(
    folder: Annotated[Path | None, typer.Option(help="Folder of class folders.")] = None,
    coco: Annotated[Path | None, typer.Option(help="COCO annotation file; needs --images.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder that the COCO file's names are relative to.")] = None,
    parquet: Annotated[list[Path] | None, typer.Option(help="Hugging Face parquet file; repeatable.")] = None,
    backbone: Annotated[list[str] | None, typer.Option(help="Repeatable; by default the three mini backbones.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Label column; repeatable.")] = None,
    split: Annotated[Strategy | None, typer.Option(help="By default: given where there is one, else by photograph.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for everything this makes.")] = Path("runs/mine"),
    depot: Depot = "depot",
    device: Device = "auto",
    precision: Precision = Precision.FP32,
    batch_size: BatchSize = "auto",
    workers: Workers = 0,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Your own pictures: items, split, features, probe, zero-shot, a table and a page."""
    from stages import whole_way

    source = whole_way.source_of(folder=folder, coco=coco, images=images, parquet=parquet)
    plan = whole_way.Plan(
        source=source,
        backbones=tuple(backbone or whole_way.DEFAULT_BACKBONES),
        labels=tuple(labels or ()),
        strategy=split.value if split else None,
        seed=seed,
        precision=precision.value,
    )
    result = whole_way.run(plan, out=out, options=_options(depot, device, batch_size, workers, threads))
    if as_json:
        _print_json(result.table)
    else:
        from stages.tables import print_results

        print_results(result.table)
    _exit_partly(result.n_failed)


@app.command()
def results(as_json: Json = False) -> None:
    """The table of results of the profile in force, where everything lies and how long it took."""
    from stages.harness import layout
    from stages.tables import collect, print_results

    table = collect(layout(), os.environ.get("DEPONIJ_DEPOT", "depot"))
    if as_json:
        _print_json(table)
    else:
        print_results(table)


# ------------------------------------------------------------------ data


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="taco")],
    root: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("data/taco"),
    limit: Annotated[int | None, typer.Option(help="Only the first N photographs.")] = None,
    annotations: Annotated[str | None, typer.Option(help="Address or path of another annotation file.")] = None,
    workers: Annotated[int, typer.Option(help="Photographs under way at once.")] = 8,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds without an answer or a byte.")] = 30.0,
    retries: Annotated[int, typer.Option(help="Attempts per photograph after the first.")] = 5,
    as_json: Json = False,
) -> None:
    """Fetch a public data set; what is there already is not fetched again."""
    from stages.prepare import fetch, fetch_record

    report = fetch(name, root, limit, annotations, workers=workers, timeout_s=timeout_s, retries=retries)
    _answer(fetch_record(report), report.summary, as_json)
    _exit_partly(report.n_failed)


@data_app.command("sample")
def data_sample(
    root: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("data/sample"),
    scenes: Annotated[int, typer.Option(min=1, help="Number of photographs.")] = 240,
    seed: Annotated[int, typer.Option(help="Scene i depends on the seed and i alone.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw litter-like scenes with COCO annotations and captions."""
    from stages.prepare import draw_sample

    count = draw_sample(root, scenes, seed)
    _answer({"root": str(root), **count}, f"{scenes} scenes, {count['n_instances']} instances -> {root}", as_json)


@app.command()
def crop(
    coco: Annotated[Path, typer.Option(help="COCO annotation file.")],
    images: Annotated[Path, typer.Option(help="Folder that its file names are relative to.")],
    out: Annotated[Path, typer.Option(help="Folder of items to write.")],
    margin: Annotated[float, typer.Option(help="Added on each side, as a fraction of the longer side.")] = 0.0,
    square: Annotated[bool, typer.Option("--square", help="Widen the shorter side.")] = False,
    background: Annotated[Background, typer.Option(help="Outside the instance's outline.")] = Background.KEEP,
    min_size_px: Annotated[int, typer.Option("--min-size", help="Smallest side in pixels.")] = 0,
    label_map: Annotated[list[str] | None, typer.Option(help="Built-in name or CSV file; repeatable.")] = None,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Cut every annotated instance out of its photograph."""
    options: dict[str, Any] = {
        "annotations": coco,
        "images": images,
        "crop": {"margin": margin, "square": square, "background": background.value, "min_size_px": min_size_px},
    }
    if label_map:
        options["label_maps"] = tuple(label_map)
    _items("coco", options, out, workers, as_json)


@app.command("items")
def items_command(
    out: Annotated[Path, typer.Option(help="Folder of items to write.")],
    folder: Annotated[Path | None, typer.Option(help="Folder of class folders.")] = None,
    parquet: Annotated[list[Path] | None, typer.Option(help="Hugging Face parquet file; repeatable.")] = None,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Take whole pictures as items: from class folders or Hugging Face parquet files."""
    from stages.whole_way import source_of

    source = source_of(folder=folder, coco=None, images=None, parquet=parquet)
    _items(source.adapter, source.options, out, workers, as_json)


@app.command("split")
def split_command(
    items: ItemsArg,
    out: Annotated[Path, typer.Option(help="Split table to write (Parquet).")],
    strategy: Annotated[Strategy, typer.Option(help="How.")] = Strategy.GROUP,
    labels: Annotated[str | None, typer.Option(help="Column to balance by; by default label or category.")] = None,
    group_by: Annotated[str, typer.Option(help="Column whose groups stay together.")] = "image_id",
    seed: Annotated[int, typer.Option(help="Any whole number.")] = 0,
    as_json: Json = False,
) -> None:
    """Divide items into train, val and test; report what leaks between them."""
    from pipeline.data.splits import SplitParams
    from stages import split as stage

    params = SplitParams(strategy=strategy.value, labels=labels, group_by=group_by, seed=seed)
    result = stage.run(params, items=items, out=out)
    _answer(result, stage.summary(result), as_json)


# ------------------------------------------------------------------ features


@app.command()
def extract(
    items: ItemsArg,
    backbone: BackboneArg,
    out: Annotated[Path, typer.Option(help="View to write (HDF5).")],
    depot: Depot = "depot",
    kind: Annotated[str, typer.Option(help="embedding, tokens@K or dense@K.")] = "embedding",
    input_px: Annotated[tuple[int, int] | None, typer.Option(help="Height and width other than the model's.")] = None,
    decode: Annotated[DecodeRoute, typer.Option(help="draft: big JPEGs at reduced size.")] = DecodeRoute.DRAFT,
    stored: Annotated[Stored | None, typer.Option(help="By default float32, for dense maps float16.")] = None,
    device: Device = "auto",
    precision: Precision = Precision.FP32,
    batch_size: BatchSize = "auto",
    workers: Workers = 0,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Compute what the depot does not have yet, and write a view of the items' features."""
    from pipeline.pictures import Route
    from stages import extract as stage

    params = stage.ExtractParams(
        kind=kind,
        precision=precision.value,
        stored=stored.value if stored else None,
        decode=Route(decode.value),
        input_px=input_px,
    )
    options = _options(depot, device, batch_size, workers, threads)
    result = stage.run(params, items=items, backbone=backbone, out=out, options=options)
    _answer(result, stage.summary(result), as_json)
    _exit_partly(result.n_failed)


@app.command("extract-text")
def extract_text(
    backbone: BackboneArg,
    out: Annotated[Path, typer.Option(help="View to write (HDF5).")],
    texts: Annotated[Path | None, typer.Option(help="One text a line, or JSON {class: [texts]}.")] = None,
    items: Annotated[Path | None, typer.Option(help="Items whose labels to speak of; needs --labels.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Label column (or caption); repeatable.")] = None,
    template: Annotated[list[str] | None, typer.Option(help="Text with {}, file, or name|photo|simple|imagenet.")] = None,
    depot: Depot = "depot",
    device: Device = "auto",
    precision: Precision = Precision.FP32,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Encode class names, templates, captions or your own texts."""
    from stages import extract_text as stage
    from store.errors import UsageError

    if (texts is None) == (items is None) or (items is None) == bool(labels):
        raise UsageError("give either --texts FILE, or --items ITEMS with --labels COLUMN")
    if texts is not None:
        prompts = stage.prompts_from_file(texts, template or ("name",))
    elif items is not None:
        prompts = stage.prompts_from_labels(items, labels or (), template or ("name", "photo"))
    options = _options(depot, device, "auto", 0, threads)
    params = stage.TextParams(precision=precision.value)
    result = stage.run(params, prompts, backbone=backbone, out=out, options=options)
    _answer(result, stage.summary(result), as_json)


# ------------------------------------------------------------------ learning


@app.command()
def probe(
    features: FeaturesArg,
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    out: Annotated[Path | None, typer.Option(help="Folder for the head, predictions and confusion.")] = None,
    as_json: Json = False,
) -> None:
    """Train a linear probe on a view; C is chosen on the validation part."""
    from stages import probe as stage
    from stages.tables import print_evaluation

    result = stage.run(stage.ProbeParams(), features=features, items=items, split=split, labels=labels, out=out)
    _print_json(result) if as_json else print_evaluation(result)


@app.command("zero-shot")
def zero_shot(
    features: FeaturesArg,
    texts: Annotated[Path, typer.Option(help="View of text vectors.")],
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    out: Annotated[Path | None, typer.Option(help="Folder for predictions and confusion.")] = None,
    as_json: Json = False,
) -> None:
    """Classify by the nearest class text; nothing is learned."""
    from stages import zero_shot as stage
    from stages.tables import print_evaluation

    params = stage.ZeroShotParams()
    result = stage.run(params, features=features, texts=texts, items=items, split=split, labels=labels, out=out)
    _print_json(result) if as_json else print_evaluation(result)


# ------------------------------------------------------------------ the machine


@app.command()
def backbones(as_json: Json = False) -> None:
    """The backbones known by name, and whether their weights are on this machine."""
    from pipeline.backbones import list_backbones
    from stages.tables import print_rows

    rows = list_backbones()
    if as_json:
        _print_json(rows)
        return
    shown = ("name", "family", "dim", "input_px", "has_text", "present", "source")
    print_rows("backbones", [{name: row.get(name) for name in shown} for row in rows])


@weights_app.command("fetch")
def weights_fetch(names: Annotated[list[str], typer.Argument(help="Backbones by name; see `deponij backbones`.")]) -> None:
    """Download published weights, so that this machine can work offline."""
    from stages.weights import fetch

    for name in names:
        _out(f"{name}: {fetch(name)}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine offers: devices, precision, versions, FAISS, disk, weights, data sets."""
    from pipeline.doctor import examine
    from stages.tables import print_doctor

    data_sets = {"sample": Path("data/sample"), "taco": Path("data/taco")}
    depot = os.environ.get("DEPONIJ_DEPOT", "depot")
    report = examine(data_sets=data_sets, folders={"depot": Path(depot)} if "://" not in depot else {})
    _print_json(report) if as_json else print_doctor(report)


@profile_app.command("use")
def profile_use(
    name: Annotated[str, typer.Argument(help="A file of profiles/, without ending.")],
    force: Annotated[bool, typer.Option("--force", help="Drop edits of params.yaml.")] = False,
) -> None:
    """Put a profile into force: copy it to params.yaml."""
    from stages.profiles import use

    _out(use(name, force=force))


@profile_app.command("list")
def profile_list(as_json: Json = False) -> None:
    """The profiles there are; the one in force is marked."""
    from stages.profiles import known
    from stages.tables import print_rows

    rows = known()
    _print_json(rows) if as_json else print_rows("profiles", rows)


# ------------------------------------------------------------------ depot and views


@depot_app.command("info")
def depot_info(depot: Annotated[str, typer.Argument(envvar="DEPONIJ_DEPOT")] = "depot", as_json: Json = False) -> None:
    """What a depot holds, by identity."""
    from stages import depots

    info = depots.info(depot)
    _answer(info, depots.describe_info(info), as_json)


@depot_app.command("verify")
def depot_verify(
    depot: Annotated[str, typer.Argument(envvar="DEPONIJ_DEPOT")] = "depot",
    repair: Annotated[bool, typer.Option("--repair", help="Set damaged shards aside, to be computed again.")] = False,
    items: Annotated[Path | None, typer.Option(help="Items, to extract random rows again.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Whose rows to extract again.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many random rows.")] = 16,
    seed: Annotated[int, typer.Option(help="Which random rows.")] = 0,
    as_json: Json = False,
) -> None:
    """Check every byte; with items and backbone, extract random rows again and report their drift."""
    from stages import depots

    report = depots.verify(depot, repair=repair, items=items, backbone=backbone, n_rows=rows, seed=seed)
    _answer(report, depots.describe_verify(report), as_json)
    if not report["sound"]:
        raise typer.Exit(EXIT_FAILED)


@depot_app.command("merge")
def depot_merge(
    source: Annotated[str, typer.Argument(help="Depot to take rows from.")],
    depot: Annotated[str, typer.Argument(envvar="DEPONIJ_DEPOT", help="Depot to bring them to.")] = "depot",
    as_json: Json = False,
) -> None:
    """Bring rows of another depot (filled on a GPU machine, say) into this one."""
    from stages import depots

    report = depots.merge(source, depot)
    _answer(report, depots.describe(report), as_json)


@depot_app.command("compact")
def depot_compact(depot: Annotated[str, typer.Argument(envvar="DEPONIJ_DEPOT")] = "depot", as_json: Json = False) -> None:
    """Turn many small shards into few large ones."""
    from stages import depots

    report = depots.compact(depot)
    _answer(report, depots.describe(report), as_json)


@depot_app.command("gc")
def depot_gc(
    depot: Annotated[str, typer.Argument(envvar="DEPONIJ_DEPOT")] = "depot",
    keep_view: Annotated[list[Path] | None, typer.Option(help="Keep the rows of this view; repeatable.")] = None,
    keep_items: Annotated[list[Path] | None, typer.Option(help="Keep all rows of these items; repeatable.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Do it; without this only what would go is shown.")] = False,
    as_json: Json = False,
) -> None:
    """Drop the rows that no named view or items need. A dry run unless --delete."""
    from stages import depots

    report = depots.gc(depot, keep_view or [], keep_items or [], delete=delete)
    _answer(report, depots.describe(report), as_json)


@depot_app.command("migrate")
def depot_migrate(depot: Annotated[str, typer.Argument(envvar="DEPONIJ_DEPOT")] = "depot", as_json: Json = False) -> None:
    """Bring an older depot up to this version's format."""
    from stages import depots

    report = depots.migrate(depot)
    _answer(report, depots.describe(report), as_json)


@view_app.command("info")
def view_info(view: Annotated[Path, typer.Argument(help="A view's file.")], as_json: Json = False) -> None:
    """What a view holds, its identity and its failure table."""
    from stages import depots

    info = depots.view_info(view)
    _answer(info, depots.describe_view(info), as_json)


@view_app.command("export")
def view_export(
    view: Annotated[Path, typer.Argument(help="A view's file.")],
    out: Annotated[Path, typer.Argument(help="File to write: .parquet, .npz or .npy.")],
    items: Annotated[Path | None, typer.Option(help="Items whose metadata to join.")] = None,
) -> None:
    """Write a view's vectors, with metadata, in a format of everybody's tools."""
    from stages import depots

    _out(depots.export(view, out, items))


# ------------------------------------------------------------------ plumbing


def _items(adapter: str, options: dict[str, Any], out: Path, workers: int, as_json: bool) -> None:
    from stages import items as stage
    from stages.console import say
    from stages.settings import RunOptions

    result = stage.run(adapter, options, out=out, run_options=RunOptions(workers=workers))
    for note in result.notes:
        say(f"note: {note}")
    _answer(result, stage.summary(result), as_json)
    _exit_partly(result.n_failed)


def _options(depot: str, device: str, batch_size: str, workers: int, threads: int) -> "RunOptions":
    from stages.settings import RunOptions, check
    from store.errors import UsageError

    if batch_size != "auto" and not batch_size.isdigit():
        raise UsageError(f"--batch-size is a number or auto, got {batch_size!r}")
    size = 0 if batch_size == "auto" else int(batch_size)
    values = {"depot": depot, "device": device, "batch_size": size, "workers": workers, "threads": threads}
    return check(RunOptions, values, "the command line")


def _answer(value: "BaseModel | dict[str, Any]", text: str, as_json: bool) -> None:
    if as_json:
        _print_json(value)
    else:
        _out(text)


def _print_json(value: Any) -> None:
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    _out(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _out(text: str) -> None:
    sys.stdout.write(text + "\n")


def _exit_partly(n_failed: int) -> None:
    if n_failed:
        from stages.console import warn

        warn(f"{n_failed} failed; the failure table names each with its reason")
        raise typer.Exit(EXIT_PARTLY)


def main() -> None:
    """Entry point: one message instead of a traceback for everything a user can cause."""
    from store.errors import DeponijError, UsageError

    try:
        app()
    except DeponijError as error:
        from stages.console import stderr

        stderr.print(f"error: {error}", style="red", markup=False)
        raise SystemExit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was committed is kept, run the same command to go on\n")
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of a pipe (head, say) has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_FAILED) from None


if __name__ == "__main__":
    main()
