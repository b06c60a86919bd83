"""What this machine has and which profile is in force."""

import os
from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import print_json, say
from deponij.commands.options import Device, Json, Precision, PresetOpt, Threads, run_options

app = typer.Typer()
backbones_app = typer.Typer()
profile_app = typer.Typer(help="Choose what `dvc repro` runs.", no_args_is_help=True)
weights_app = typer.Typer(help="Bring published weights to this machine.", no_args_is_help=True)


@backbones_app.command()
def backbones(
    pictures: Annotated[
        int | None,
        typer.Option(
            min=1, help="Say how long so many pictures take on this device; it is measured for a second."
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """The backbones known by name and the presets of them: size, licence, work a picture, whether they are here."""
    from deponij.commands.show.backbones import print_backbones
    from deponij.project.extraction.forecast import catalog_rows

    options = run_options(os.environ.get("DEPONIJ_DEPOT", "depot"), device, "auto", 0, threads)
    rows = catalog_rows(pictures, precision, options)
    print_json(rows) if as_json else print_backbones(rows, pictures)


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Backbones by name; see `deponij backbones`.", show_default=False),
    ] = None,
    preset: PresetOpt = None,
) -> None:
    """Download published weights, so that this machine can work offline. What it takes is said first."""
    from deponij.project.frame.console import say as tell
    from deponij.services.fetch_weights import fetch_all, origin

    for name, folder in fetch_all(names or (), preset, tell).items():
        say(f"{name}: {folder}{origin(name)}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine offers: devices, precision, versions, FAISS, disk, weights, data sets."""
    from deponij.commands.show.results import print_doctor
    from deponij.project.frame.allocator import keep_pages
    from deponij.services.doctor import examine

    data_sets = {"sample": Path("data/sample"), "taco": Path("data/taco")}
    depot = os.environ.get("DEPONIJ_DEPOT", "depot")
    folders = {"depot": Path(depot)} if "://" not in depot else {}
    report = examine(data_sets=data_sets, folders=folders, pages=keep_pages())
    print_json(report) if as_json else print_doctor(report)


@profile_app.command("use")
def profile_use(
    name: Annotated[str, typer.Argument(help="A file of profiles/, without ending.")],
    force: Annotated[bool, typer.Option("--force", help="Drop edits of params.yaml.")] = False,
) -> None:
    """Put a profile into force: copy it to params.yaml."""
    from deponij.project.frame.profiles import use
    from deponij.project.last_run import forget_last

    told = use(name, force=force)
    # From now on it is this profile's run that is meant.
    forget_last()
    say(told)


@profile_app.command("list")
def profile_list(as_json: Json = False) -> None:
    """The profiles there are; the one in force is marked."""
    from deponij.commands.show.tables import show_records
    from deponij.project.frame.profiles import known
    from deponij.project.frame.settings import how_a_profile_is_had
    from deponij.store.errors import UsageError

    rows = known()
    if not rows and not as_json:
        raise UsageError(f"there are no profiles here; {how_a_profile_is_had()}")
    print_json(rows) if as_json else show_records("profiles", rows)
