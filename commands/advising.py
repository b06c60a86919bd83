"""What to do next: advice on a run, and which pictures to label first."""

from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import lead, print_json, say
from deponij.commands.options import BatchSize, Depot, Device, Json, SheetOpt, Threads, Workers, run_options

app = typer.Typer()

RunArg = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN", help="Folder of a run; by default the last one that finished in this folder."
    ),
]


@app.command()
def advice(
    folder: RunArg = None,
    take: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Take what this finding proposes, such as labels; repeatable."),
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="File of corrections (.csv) that it goes into; what it has stays.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Pictures of each finding that are named.")] = 3,
    as_json: Json = False,
) -> None:
    """What to do next with a run: each finding with its pictures and the commands that act on it."""
    from deponij.commands.show.advice import print_advice, print_taken
    from deponij.project.meant import run_meant
    from deponij.services.advice import read_advice
    from deponij.services.advice import take as taking
    from deponij.store.errors import UsageError

    if bool(take) != (into is not None):
        raise UsageError("--take KIND and --into FILE.csv go together")
    meant = run_meant(folder)
    run_advice = read_advice(meant.at.root)
    lead(meant.said("advice"), as_json)
    if not take or into is None:
        print_json(run_advice) if as_json else print_advice(run_advice, top)
        return
    taken = taking(run_advice, take, into)
    print_json(taken) if as_json else print_taken(taken, into, run_advice)


@app.command()
def suggest(
    run: RunArg = None,
    folder: Annotated[
        Path | None, typer.Option(help="New pictures to choose from; by default the run's without a label.")
    ] = None,
    items: Annotated[Path | None, typer.Option(help="Items to choose from; needs --features.")] = None,
    features: Annotated[Path | None, typer.Option(help="Their view, by a backbone of the run.")] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Pictures in the batch.")] = 20,
    done: Annotated[
        list[Path] | None,
        typer.Option(help="Earlier batch (.csv), whose pictures are not suggested again; repeatable."),
    ] = None,
    between: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="Two classes alone are of interest; give it twice."),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Label column; by default the run's first.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Whose features, of the run.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice.")] = 0,
    csv: Annotated[
        Path | None,
        typer.Option(help="Batch to write (.csv): fill in `label`, and give it to run --corrections."),
    ] = None,
    sheet: SheetOpt = None,
    depot: Depot = "depot",
    device: Device = "auto",
    batch_size: BatchSize = "auto",
    workers: Workers = 0,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Which pictures to label first: those that the classifier doubts and that differ from each other."""
    from deponij.commands.show.advice import print_suggestions
    from deponij.project.record_files import check_ending
    from deponij.services.curate import suggest as suggesting

    check_ending(csv, "--csv", ".csv")
    check_ending(sheet, "--sheet", ".png")
    request = suggesting.SuggestRequest(
        run=run,
        folder=folder,
        items=items,
        features=features,
        n=n,
        done=tuple(done or ()),
        between=tuple(between or ()),
        labels=labels,
        backbone=backbone,
        seed=seed,
    )
    batch = suggesting.choose_batch(
        request, run_options(depot, device, batch_size, workers, threads), sheet=sheet
    )
    if csv is not None:
        suggesting.write_batch(csv, batch)
    print_json(batch) if as_json else print_suggestions(batch)
    if not as_json and csv is not None:
        say(f"{len(batch.pictures)} to label -> {csv}")
