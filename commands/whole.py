"""The whole way in one command, and what it brought out."""

from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import exit_partly, lead, print_json
from deponij.commands.options import (
    BatchSize,
    BoxesOpt,
    ClassFolderOpt,
    Cluster,
    CocosOpt,
    CopyOpt,
    CorrectionsOpt,
    Depot,
    Device,
    EveryOpt,
    FetchOpt,
    FpsOpt,
    ImagesOpt,
    Json,
    KeepCrowdsOpt,
    KeepOpt,
    LabelColumnsOpt,
    LabelFieldOpt,
    LabelSeparatorOpt,
    LimitOpt,
    LinksOpt,
    ParquetsOpt,
    PathColumnOpt,
    Precision,
    PresetOpt,
    RunOpt,
    ShardsOpt,
    Strategy,
    TableOpt,
    Threads,
    TreatOpt,
    VideoOpt,
    VocOpt,
    WholeOpt,
    Workers,
    YoloOpt,
    listed_names,
    run_options,
    treatments,
)
from deponij.commands.tuning import RECIPES

app = typer.Typer()


@app.command()
def run(
    folder: ClassFolderOpt = None,
    table: TableOpt = None,
    coco: CocosOpt = None,
    images: ImagesOpt = None,
    yolo: YoloOpt = None,
    voc: VocOpt = None,
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
    whole: WholeOpt = False,
    embeddings: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Made elsewhere: .npy, .npz, Parquet, CSV or HDF5; in the place of a backbone, or of pictures. Repeatable.",
        ),
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(metavar="FILE|COLUMN", help="Of the embeddings: a file, one a line; or their column."),
    ] = None,
    treat: TreatOpt = None,
    boxes: BoxesOpt = None,
    keep_crowds: KeepCrowdsOpt = False,
    links_into: LinksOpt = None,
    corrections: CorrectionsOpt = None,
    keep: KeepOpt = None,
    limit: LimitOpt = None,
    copy_pictures: CopyOpt = "auto",
    preset: PresetOpt = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="Name (see `deponij backbones`), folder or family:… form; repeatable."),
    ] = None,
    input_px: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width of what backbones see, other than their own."),
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(RECIPES),
            help="Tune the first backbone on these pictures too, and compare: what it bought, and at what cost. Repeatable.",
        ),
    ] = None,
    tune_set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of these recipes, as `deponij tune --set`; repeatable."),
    ] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Label column; repeatable.")] = None,
    split: Annotated[
        Strategy | None,
        typer.Option(
            help="By default: given where there is one; else folds under 100 test items, and by photograph above."
        ),
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="Column whose groups stay together; by default the photograph.")
    ] = None,
    fractions: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="TRAIN VAL TEST", help="Shares of one split, such as 0.8 0.1 0.1."),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-validate with so many folds.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="'A, B, …'", help="Answer every picture with one of these, by words alone (zero-shot)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for everything this makes.")] = Path("runs/mine"),
    depot: Depot = "depot",
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = "auto",
    workers: Workers = 0,
    threads: Threads = 0,
    cluster: Cluster = "",
    as_json: Json = False,
) -> None:
    """Your own pictures through all stages: features, heads, retrieval, an index, curves, mistakes, tables, a page."""
    from deponij.project.data_sets import source_of
    from deponij.project.extraction import default_backbones
    from deponij.project.frame.console import say as tell
    from deponij.services import run as whole_way
    from deponij.store.errors import UsageError

    source = source_of(
        folder=folder,
        table=table,
        coco=coco,
        images=images,
        yolo=yolo,
        voc=voc,
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
        whole=whole,
        treat=treatments(treat),
        boxes=boxes,
        keep_crowds=keep_crowds,
        links_into=links_into or (),
        embeddings=embeddings or (),
        ids=ids,
    )
    if ids is not None and not embeddings:
        raise UsageError("--ids are of --embeddings FILE; name it, too")
    names: tuple[str, ...] = ()
    note = ""
    if backbone or preset or not embeddings:
        names, note = default_backbones.chosen(backbone or (), preset)
    if note:
        tell(note)
    plan = whole_way.Plan(
        source=source,
        backbones=names,
        labels=tuple(labels or ()),
        strategy=split,
        group_by=group_by,
        fractions=fractions,
        n_folds=folds,
        seed=seed,
        precision=precision,
        offered=default_backbones.OFFERED if not (backbone or preset or embeddings) else None,
        embeddings=tuple(embeddings or ()),
        ids=ids,
        input_px=input_px,
        tune=tuple(dict.fromkeys(tune or ())),
        tune_arguments=tuple(tune_set or ()),
        classes=tuple(name.strip() for name in classes.split(",")) if classes is not None else (),
        corrections=tuple(corrections or ()),
        keep=keep,
        limit=limit,
        copy_pictures=copy_pictures,
    )
    from deponij.commands.show.forecast import print_work_ahead
    from deponij.commands.show.results import print_first_results, print_results

    options = run_options(depot, device, batch_size, workers, threads, cluster)
    on_first = (lambda table: None) if as_json else print_first_results
    result = whole_way.run(
        plan, out=out, options=options, on_work_ahead=print_work_ahead, on_first_table=on_first
    )
    print_json(result) if as_json else print_results(result)
    exit_partly(result["n_failed"], f"the page, {result['page']}")


@app.command()
def results(
    folder: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="The same as --run.", show_default=False)
    ] = None,
    of_run: RunOpt = None,
    whole: Annotated[
        bool, typer.Option("--all", help="All classifiers, not the first of each backbone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The table of results of a run, where everything lies and how long it took."""
    from deponij.commands.show.results import print_results
    from deponij.project.meant import run_meant
    from deponij.services import run as whole_way
    from deponij.store.errors import UsageError

    if folder is not None and of_run is not None:
        raise UsageError("name one run: `deponij results RUN` and --run RUN are the same")
    meant = run_meant(folder or of_run)
    record = whole_way.results(meant.at.root)
    lead(meant.said("results"), as_json)
    print_json(record) if as_json else print_results(record, whole=whole)
