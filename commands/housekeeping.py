"""Looking after embeddings: near-duplicates and what leaks by them, outliers, what a new batch adds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deponij.commands.answers import lead, print_json
from deponij.commands.options import Json, ParquetOpt, RunOpt, SheetOpt, Threads

app = typer.Typer()

FeaturesOpt = Annotated[
    Path | None,
    typer.Option(
        "--features", help="View of picture features; by default that of the run's chosen backbone."
    ),
]
ItemsOpt = Annotated[
    Path | None,
    typer.Option("--items", help="Folder of items; by default those of the view's run."),
]
LabelsOpt = Annotated[str | None, typer.Option("--labels", help="Label column of the items.")]
BackboneOpt = Annotated[str | None, typer.Option("--backbone", help="Whose features, of the run.")]
TopOpt = Annotated[int, typer.Option("--top", min=1, help="How many are printed and drawn.")]
BitsOpt = Annotated[
    int | None,
    typer.Option(
        "--max-bits",
        min=0,
        max=64,
        help="Bits of 64 that hashes of near-duplicates differ in: by default 10 where features confirm them, else 4.",
    ),
]
CosineOpt = Annotated[
    float,
    typer.Option("--min-cosine", max=1.0, help="Cosine of features that suffices without hashes."),
]
ConfirmOpt = Annotated[
    float,
    typer.Option(
        "--confirm-cosine",
        min=-1.0,
        max=1.0,
        help="Cosine that confirms equal hashes; each differing bit asks for 0.025 more. -1: hashes need none.",
    ),
]


@app.command()
def duplicates(
    features: FeaturesOpt = None,
    of_run: RunOpt = None,
    items: ItemsOpt = None,
    backbone: BackboneOpt = None,
    split: Annotated[
        list[Path] | None,
        typer.Option(help="Split table, to see what leaks; repeatable; by default the run's."),
    ] = None,
    labels: LabelsOpt = None,
    min_cosine: CosineOpt = 0.97,
    max_bits: BitsOpt = None,
    confirm_cosine: ConfirmOpt = 0.65,
    keep: Annotated[
        Path | None, typer.Option(help="List to write (.txt or .parquet) of items no two of which are alike.")
    ] = None,
    top: TopOpt = 20,
    parquet: ParquetOpt = None,
    sheet: SheetOpt = None,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Groups of items that show the same thing: leaks across a split, labels that differ, what can be left out."""
    from deponij.project.frame.console import say
    from deponij.project.frame.settings import RunOptions, check
    from deponij.project.record_files import check_ending
    from deponij.services.curate import duplicates as looking
    from deponij.services.curate import files as writing
    from deponij.services.curate.collection import Gathered, choose

    check_ending(keep, "--keep", ".txt", ".parquet")
    check_ending(parquet, "--parquet", ".parquet")
    check_ending(sheet, "--sheet", ".png")
    values = {"min_cosine": min_cosine, "max_bits": max_bits, "confirm_cosine": confirm_cosine}
    params = check(looking.DuplicatesParams, values, "the command line")
    gathered = Gathered(choose(features, items, split or (), labels, backbone, of_run))
    if sheet is not None:
        gathered.require_items()
    report = looking.run(params, gathered, threads=RunOptions(threads=threads).n_threads)
    if keep is not None:
        say(f"{writing.write_kept(keep, report, gathered):,} of {report.n:,} items are kept -> {keep}")
    if parquet is not None:
        writing.write_groups(parquet, report)
    if sheet is not None:
        writing.draw_groups(sheet, report, gathered, top)
    lead(gathered.where.said, as_json)
    if as_json:
        print_json(report)
    else:
        from deponij.commands.show.curate import print_duplicates

        print_duplicates(report, top)


@app.command()
def outliers(
    features: FeaturesOpt = None,
    of_run: RunOpt = None,
    items: ItemsOpt = None,
    backbone: BackboneOpt = None,
    labels: LabelsOpt = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Measured to the K-th nearest other.")] = 10,
    own_photo: Annotated[
        bool, typer.Option("--own-photo", help="Count crops of the item's own photograph as others too.")
    ] = False,
    new: Annotated[
        Path | None, typer.Option("--new", help="View of a new batch: what does it add to the features?")
    ] = None,
    new_items: Annotated[Path | None, typer.Option("--new-items", help="The new batch's items.")] = None,
    pick: Annotated[
        int, typer.Option("--pick", min=0, help="Choose this many new items that together add most.")
    ] = 0,
    quantile: Annotated[
        float, typer.Option(help="New items are novel beyond this quantile of the archive's own distances.")
    ] = 0.95,
    min_cosine: CosineOpt = 0.97,
    max_bits: BitsOpt = None,
    confirm_cosine: ConfirmOpt = 0.65,
    top: TopOpt = 20,
    parquet: ParquetOpt = None,
    sheet: SheetOpt = None,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Items that are far from all others or among another class; with --new, what a new batch adds to an archive."""
    from deponij.commands.show.curate import print_batch, print_outliers
    from deponij.project.frame.settings import RunOptions, check
    from deponij.project.record_files import check_ending
    from deponij.services.curate import batches as judging
    from deponij.services.curate import files as writing
    from deponij.services.curate import outliers as looking
    from deponij.services.curate.collection import Gathered, choose
    from deponij.store.errors import UsageError

    check_ending(parquet, "--parquet", ".parquet")
    check_ending(sheet, "--sheet", ".png")
    if new is None and (new_items is not None or pick):
        raise UsageError("--new-items and --pick are about a new batch; name its view with --new VIEW")
    gathered = Gathered(choose(features, items, (), labels, backbone, of_run))
    batch = None if new is None else Gathered(choose(new, new_items, (), None, None))
    if sheet is not None:
        (batch or gathered).require_items()
    values: dict[str, Any] = {"k": k, "own_photo": own_photo}
    n_threads = RunOptions(threads=threads).n_threads
    report: looking.OutliersReport | judging.BatchReport
    if batch is None:
        report = looking.run(
            check(looking.OutliersParams, values, "the command line"), gathered, threads=n_threads
        )
    else:
        values |= {"quantile": quantile, "pick": pick}
        values |= {"min_cosine": min_cosine, "max_bits": max_bits, "confirm_cosine": confirm_cosine}
        report = judging.run(
            check(judging.BatchParams, values, "the command line"), gathered, batch, threads=n_threads
        )
    if parquet is not None:
        writing.write_items(parquet, report.items)
    if sheet is not None:
        if isinstance(report, judging.BatchReport):
            writing.draw_batch(sheet, report, gathered, batch or gathered, top)
        else:
            writing.draw_outliers(sheet, report, gathered, top)
    lead(gathered.where.said, as_json)
    if as_json:
        print_json(report.first(top))
    elif isinstance(report, judging.BatchReport):
        print_batch(report, top)
    else:
        print_outliers(report, top)
