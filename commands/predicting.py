"""A learned classifier's answers to new pictures."""

from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import EXIT_FAILED, EXIT_PARTLY, lead, print_json, say
from deponij.commands.options import (
    Background,
    BatchSize,
    BoxesOpt,
    CocoOpt,
    Device,
    ImagesOpt,
    Json,
    KeepCrowdsOpt,
    RunOpt,
    Threads,
    Workers,
    run_options,
)

app = typer.Typer()


@app.command()
def predict(
    pictures: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, and folders of them with all that is below.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Results folder (with result.json), or a run's."),
    ] = None,
    of_run: RunOpt = None,
    coco: CocoOpt = None,
    images: ImagesOpt = None,
    top: Annotated[int, typer.Option(help="Answers a picture.")] = 3,
    backbone: Annotated[str | None, typer.Option(help="Choose among this backbone's (or A+B's).")] = None,
    labels: Annotated[str | None, typer.Option(help="Choose among those of this label column.")] = None,
    split: Annotated[str | None, typer.Option(help="Choose among those of this split.")] = None,
    backbone_spec: Annotated[
        list[str] | None,
        typer.Option(help="Where the model's backbone is: name, folder or family:… form; repeatable."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Of crops, as in `deponij crop`. None of these four: as the model's profile cuts."),
    ] = None,
    square: Annotated[bool | None, typer.Option("--square/--no-square", help="Of crops.")] = None,
    background: Annotated[Background | None, typer.Option(help="Of crops.")] = None,
    min_size_px: Annotated[int | None, typer.Option("--min-size", help="Of crops.")] = None,
    boxes: BoxesOpt = None,
    keep_crowds: KeepCrowdsOpt = False,
    depot: Annotated[
        str | None, typer.Option(help="Take rows that this depot has; nothing is written to it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Table to write: .parquet or .csv.")] = None,
    device: Device = "auto",
    batch_size: BatchSize = "auto",
    workers: Workers = 0,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Answer new pictures, or instances of a COCO file, with a learned classifier.

    Without --model it is the one with the best validation top-1 of the last run here (or of --run) whose backbone is
    on this machine.
    """
    from deponij.commands.show.predictions import model_lines, print_predictions
    from deponij.project.frame.console import warn
    from deponij.project.meant import run_meant
    from deponij.project.new_pictures import check_named, named_pictures
    from deponij.project.record_files import check_ending
    from deponij.services.predict import predict as predicting
    from deponij.store.errors import UsageError
    from deponij.store.texts import one_line

    if model is not None and of_run is not None:
        raise UsageError("--model names a classifier or a run already; leave --run out")
    options = run_options(depot or "depot", device, batch_size, workers, threads)
    check_ending(out, "--out", *predicting.TABLE_ENDINGS)
    given = {
        "margin": margin,
        "square": square,
        "background": background,
        "min_size_px": min_size_px,
        "keep_crowds": keep_crowds or None,
    }
    crop = {name: value for name, value in given.items() if value is not None}
    check_named(pictures or (), coco, images, crop | ({"boxes": boxes} if boxes else {}))
    meant = run_meant(of_run) if model is None else None
    chosen = predicting.choose(
        model if meant is None else meant.at.root,
        backbone=backbone,
        labels=labels,
        split=split,
        specs=backbone_spec or (),
    )
    cut = predicting.crop_of(chosen, crop) if coco is not None else {}
    named = named_pictures(pictures or (), coco, images, cut, boxes)
    result = predicting.run(chosen, named, top=top, options=options, depot=depot)
    if meant is not None:
        lead(meant.said(f"{chosen.evaluation.title} of {chosen.evaluation.backbone}"), as_json)
    if out is not None:
        predicting.write_predictions(out, result)
    if as_json:
        print_json(result)
    elif out is not None:
        say("\n".join([f"{len(result.predictions)} answers -> {out}", *model_lines(result)]))
    else:
        print_predictions(result)
    for failure in result.failures:
        warn(f"{one_line(failure.item_id or failure.path)}: {failure.reason}")
    if result.failures:
        n_all = len(result.failures) + len(result.predictions)
        warn(f"{len(result.failures)} of {n_all} could not be answered")
        raise typer.Exit(EXIT_PARTLY if result.predictions else EXIT_FAILED)
