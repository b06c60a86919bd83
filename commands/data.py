"""Getting data sets, cutting items out of them, dividing them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deponij.commands.answers import answer, exit_partly
from deponij.commands.options import (
    Background,
    BoxesOpt,
    ClassFolderOpt,
    Cluster,
    CocosOpt,
    CopyOpt,
    EveryOpt,
    FetchOpt,
    FpsOpt,
    ImagesOpt,
    ItemsArg,
    Json,
    KeepCrowdsOpt,
    LabelColumnsOpt,
    LabelFieldOpt,
    LabelSeparatorOpt,
    LimitOpt,
    LinksOpt,
    ParquetsOpt,
    PathColumnOpt,
    ShardsOpt,
    Strategy,
    TableOpt,
    TreatOpt,
    VideoOpt,
    VocOpt,
    Workers,
    YoloOpt,
    listed_names,
    treatments,
)

if TYPE_CHECKING:
    from deponij.project.frame.settings import RunOptions

app = typer.Typer()
data_app = typer.Typer(help="Get a data set: fetch TACO, or draw the sample.", no_args_is_help=True)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="taco")],
    root: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("data/taco"),
    limit: Annotated[int | None, typer.Option(help="Only the first N photographs.")] = None,
    annotations: Annotated[
        str | None, typer.Option(help="Address or path of another annotation file.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Photographs under way at once.")] = 8,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Seconds without an answer or a byte.")
    ] = 30.0,
    retries: Annotated[int, typer.Option(help="Attempts per photograph after the first.")] = 5,
    as_json: Json = False,
) -> None:
    """Fetch a public data set; what is there already is not fetched again."""
    from deponij.stages.prepare import fetch, fetch_record

    report = fetch(name, root, limit, annotations, workers=workers, timeout_s=timeout_s, retries=retries)
    answer(fetch_record(report), report.summary, as_json)
    exit_partly(report.n_failed, f"{root / 'failures.parquet'}")


@data_app.command("sample")
def data_sample(
    root: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("data/sample"),
    scenes: Annotated[int, typer.Option(min=1, help="Number of photographs.")] = 240,
    seed: Annotated[int, typer.Option(help="Scene i depends on the seed and i alone.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw litter-like scenes with COCO annotations and captions."""
    from deponij.project.frame.settings import n_cores
    from deponij.stages.prepare import draw_sample

    count = draw_sample(root, scenes, seed, n_cores())
    answer(
        {"root": str(root), **count}, f"{scenes} scenes, {count['n_instances']} instances -> {root}", as_json
    )


@app.command()
def crop(
    out: Annotated[Path, typer.Option(help="Folder of items to write.")],
    coco: CocosOpt = None,
    images: ImagesOpt = None,
    yolo: YoloOpt = None,
    voc: VocOpt = None,
    margin: Annotated[
        float, typer.Option(help="Added on each side, as a fraction of the longer side.")
    ] = 0.0,
    square: Annotated[bool, typer.Option("--square", help="Widen the shorter side.")] = False,
    background: Annotated[Background, typer.Option(help="Outside the instance's outline.")] = "keep",
    min_size_px: Annotated[int, typer.Option("--min-size", help="Smallest side in pixels.")] = 0,
    boxes: BoxesOpt = None,
    keep_crowds: KeepCrowdsOpt = False,
    label_map: Annotated[
        list[str] | None, typer.Option(help="Built-in name or CSV file; repeatable.")
    ] = None,
    treat: TreatOpt = None,
    links_into: LinksOpt = None,
    limit: LimitOpt = None,
    workers: Workers = 0,
    cluster: Cluster = "",
    as_json: Json = False,
) -> None:
    """Cut every annotated instance out of its photograph."""
    from deponij.project.data_sets import source_of
    from deponij.project.frame.settings import RunOptions

    source = source_of(
        coco=coco,
        images=images,
        yolo=yolo,
        voc=voc,
        treat=treatments(treat),
        boxes=boxes,
        links_into=links_into or (),
        offered=("--coco", "--yolo", "--voc"),
    )
    cut = {
        "margin": margin,
        "square": square,
        "background": background,
        "min_size_px": min_size_px,
        "keep_crowds": keep_crowds,
    }
    options: dict[str, Any] = {**source.options, "crop": cut}
    if label_map:
        options["label_maps"] = tuple(label_map)
    _items(source.adapter, options, out, RunOptions(workers=workers, cluster=cluster), as_json, limit)


@app.command("items")
def items_command(
    out: Annotated[Path, typer.Option(help="Folder of items to write.")],
    folder: ClassFolderOpt = None,
    table: TableOpt = None,
    images: ImagesOpt = None,
    parquet: ParquetsOpt = None,
    shards: ShardsOpt = None,
    video: VideoOpt = None,
    fps: FpsOpt = None,
    every: EveryOpt = None,
    label_field: LabelFieldOpt = None,
    fetch: FetchOpt = False,
    path_column: PathColumnOpt = None,
    label_separator: LabelSeparatorOpt = None,
    label_columns: LabelColumnsOpt = None,
    treat: TreatOpt = None,
    links_into: LinksOpt = None,
    limit: LimitOpt = None,
    copy_pictures: CopyOpt = "auto",
    workers: Workers = 0,
    cluster: Cluster = "",
    as_json: Json = False,
) -> None:
    """Take whole pictures as items: from class folders, a table, Hugging Face parquet files, tar shards, or videos."""
    from deponij.project.data_sets import source_of
    from deponij.project.frame.settings import RunOptions

    source = source_of(
        folder=folder,
        table=table,
        images=images,
        parquet=parquet,
        shards=shards,
        video=video,
        fps=fps,
        every=every,
        label_field=label_field,
        fetch=fetch,
        path_column=path_column,
        label_separator=label_separator,
        label_columns=listed_names(label_columns),
        treat=treatments(treat),
        links_into=links_into or (),
        offered=("--folder", "--table", "--parquet", "--shards", "--video"),
    )
    run_options = RunOptions(workers=workers, cluster=cluster)
    _items(source.adapter, source.options, out, run_options, as_json, limit, copy_pictures)


@app.command("split")
def split_command(
    items: ItemsArg,
    out: Annotated[Path, typer.Option(help="Split table to write (Parquet).")],
    strategy: Annotated[Strategy, typer.Option(help="How.")] = "group",
    labels: Annotated[
        str | None, typer.Option(help="Column to balance by; by default label or category.")
    ] = None,
    group_by: Annotated[str, typer.Option(help="Column whose groups stay together.")] = "image_id",
    fractions: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="TRAIN VAL TEST", help="Shares, of random and group."),
    ] = (0.8, 0.1, 0.1),
    n_folds: Annotated[int, typer.Option("--folds", help="How many, of folds.")] = 10,
    seed: Annotated[int, typer.Option(help="Any whole number.")] = 0,
    as_json: Json = False,
) -> None:
    """Divide items into train, val and test, or into folds; report what leaks between them."""
    from deponij.pipeline.data.splitting.strategies import SplitParams
    from deponij.project.frame.settings import check
    from deponij.stages import split as stage

    given = {
        "strategy": strategy,
        "labels": labels,
        "group_by": group_by,
        "fractions": fractions,
        "n_folds": n_folds,
        "seed": seed,
    }
    params = check(SplitParams, given, "the split")
    result = stage.run(params, items=items, out=out)
    answer(
        {"split": str(out), **result.model_dump(mode="json")}, f"{stage.summary(result)}\n-> {out}", as_json
    )


def _items(
    adapter: str,
    options: Mapping[str, Any],
    out: Path,
    run_options: "RunOptions",
    as_json: bool,
    limit: int | None,
    copy_pictures: Literal["auto", "always", "never"] = "auto",
) -> None:
    from deponij.stages import items as stage

    result = stage.run(
        adapter, options, out=out, run_options=run_options, limit=limit, copy_pictures=copy_pictures
    )
    answer(
        {"items": str(out), **result.model_dump(mode="json")}, f"{stage.summary(result)} -> {out}", as_json
    )
    exit_partly(result.n_failed, f"the column `failure` of the items ({out})")
