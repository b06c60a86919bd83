"""Tuning a backbone on items with labels or captions."""

from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import print_json, say
from deponij.commands.options import (
    BatchSize,
    Depot,
    Device,
    ItemsArg,
    Json,
    LabelsArg,
    LogDir,
    SplitArg,
    Threads,
    Track,
    Workers,
    run_options,
    tracking_of,
)

app = typer.Typer()
# As `deponij.project.tuning.params.Recipe` knows them, which takes seconds to import.
RECIPES = ("lora", "full", "last-blocks", "norms", "biases")


@app.command()
def tune(
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    backbone: Annotated[
        str,
        typer.Option(
            help="Name (see `deponij backbones`), folder or family:… form; new:NETWORK@SIZE is trained from nothing."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the tuned backbone, which every command takes as one.")
    ],
    recipe: Annotated[
        str, typer.Option(help=f"What of it learns: {', '.join(RECIPES)}.", metavar="|".join(RECIPES))
    ] = "lora",
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Distil: a backbone that it learns from beside the labels, by the probe of its features. `--set "
            "teacher.kind=soft`, `teacher.share`, `teacher.temperature`."
        ),
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=VALUE of the recipe, as augment=deit, lora.rank=16 or training.epochs=20; learns=captions where "
            "--labels names a column of texts and the backbone knows words; repeatable. `--set help` lists them.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="How often each picture is seen.")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate at the begin; it falls by a cosine.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the answers of the network's own classifier, or the recall of captions."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch", min=1, help="Pictures a step of learning.")
    ] = None,
    track: Track = None,
    log_dir: LogDir = Path("logs"),
    processes: Annotated[
        int,
        typer.Option(envvar="DEPONIJ_PROCESSES", min=1, help="That train together, one a GPU (torchrun)."),
    ] = 1,
    depot: Depot = "depot",
    device: Device = "auto",
    forward_batch: BatchSize = "auto",
    workers: Workers = 0,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Tune a backbone on items: it learns labels or captions on the part train, and the best epoch on val is kept."""
    from deponij.services import tune as service
    from deponij.services.tune import TuneRequest

    if argument == ["help"]:
        say(service.listed_arguments())
        raise typer.Exit
    request = TuneRequest(
        backbone=backbone,
        recipe=recipe,
        teacher=teacher,
        arguments=tuple(argument or ()),
        training={
            name: value
            for name, value in (("epochs", epochs), ("lr", lr), ("seed", seed), ("batch_size", batch_size))
            if value is not None
        },
    )
    record = service.run(
        request,
        items=items,
        split=split,
        labels=labels,
        out=out,
        results=results,
        options=run_options(depot, device, forward_batch, workers, threads).model_copy(
            update={"processes": processes}
        ),
        tracking=tracking_of(track, log_dir, out.name),
    )
    if as_json:
        print_json(record)
    else:
        say(service.told(record, out))
