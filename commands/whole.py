"""The whole way in one command, and what it brought out."""

import os
from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import exit_partly, print_json
from deponij.commands.options import (
    BatchSize,
    Depot,
    Device,
    Json,
    Precision,
    Strategy,
    Threads,
    Workers,
    run_options,
)

app = typer.Typer()


@app.command()
def run(
    folder: Annotated[Path | None, typer.Option(help="Folder of class folders.")] = None,
    coco: Annotated[Path | None, typer.Option(help="COCO annotation file; needs --images.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that the COCO file's names are relative to.")
    ] = None,
    parquet: Annotated[list[Path] | None, typer.Option(help="Hugging Face parquet file; repeatable.")] = None,
    backbone: Annotated[
        list[str] | None, typer.Option(help="Repeatable; by default the three mini backbones.")
    ] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Label column; repeatable.")] = None,
    split: Annotated[
        Strategy | None, typer.Option(help="By default: given where there is one, else by photograph.")
    ] = None,
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
    from deponij.project.frame.console import say as tell
    from deponij.services import run as whole_way

    source = whole_way.source_of(folder=folder, coco=coco, images=images, parquet=parquet)
    if not backbone:
        tell(
            "note: no --backbone given, so the mini ones are used. They learnt from drawn litter and are here to\n"
            "  try things out; for pictures of your own take published ones, such as --backbone dinov2-base\n"
            "  (`deponij backbones` lists them, `deponij weights fetch NAME` brings their weights)"
        )
    plan = whole_way.Plan(
        source=source,
        backbones=tuple(backbone or whole_way.DEFAULT_BACKBONES),
        labels=tuple(labels or ()),
        strategy=split.value if split else None,
        seed=seed,
        precision=precision.value,
    )
    from deponij.commands.show.results import print_first_results, print_results

    options = run_options(depot, device, batch_size, workers, threads)
    on_first = (lambda table: None) if as_json else print_first_results
    result = whole_way.run(plan, out=out, options=options, on_first_table=on_first)
    print_json(result.table) if as_json else print_results(result.table)
    exit_partly(result.n_failed, f"the page, {result.table['page']}")


@app.command()
def results(
    whole: Annotated[
        bool, typer.Option("--all", help="All classifiers, not the best of each backbone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The table of results of the profile in force, where everything lies and how long it took."""
    from deponij.commands.show.results import print_results
    from deponij.project.frame.harness import layout
    from deponij.project.frame.settings import load
    from deponij.project.report.summary import collect
    from deponij.stages import report

    backbones = load(report.Params).backbones
    table = collect(layout(), os.environ.get("DEPONIJ_DEPOT", "depot"), backbones, is_in_force=True)
    if as_json:
        print_json(table)
    else:
        print_results(table, whole=whole)
