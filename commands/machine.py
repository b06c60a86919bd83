"""What this machine has and which profile is in force."""

import os
from pathlib import Path
from typing import Annotated

import typer

from commands.answers import print_json, say
from commands.options import Json

app = typer.Typer()
profile_app = typer.Typer(help="Choose what `dvc repro` runs.", no_args_is_help=True)
weights_app = typer.Typer(help="Bring published weights to this machine.", no_args_is_help=True)


@app.command()
def backbones(as_json: Json = False) -> None:
    """The backbones known by name, and whether their weights are on this machine."""
    from pipeline.backbones import list_backbones
    from stages.printing import print_rows

    rows = list_backbones()
    if as_json:
        print_json(rows)
        return
    shown = ("name", "family", "dim", "input_px", "has_text", "present", "source")
    print_rows("backbones", [{name: row.get(name) for name in shown} for row in rows])


@weights_app.command("fetch")
def weights_fetch(
    names: Annotated[list[str], typer.Argument(help="Backbones by name; see `deponij backbones`.")],
) -> None:
    """Download published weights, so that this machine can work offline."""
    from stages.weights import fetch

    for name in names:
        say(f"{name}: {fetch(name)}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine offers: devices, precision, versions, FAISS, disk, weights, data sets."""
    from pipeline.doctor import examine
    from stages.allocator import keep_pages
    from stages.printing import print_doctor

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
    from stages.profiles import use

    say(use(name, force=force))


@profile_app.command("list")
def profile_list(as_json: Json = False) -> None:
    """The profiles there are; the one in force is marked."""
    from stages.printing import print_rows
    from stages.profiles import known
    from store.errors import UsageError

    rows = known()
    if not rows and not as_json:
        raise UsageError(
            "there are no profiles here; run this in the checkout, where the folder profiles/ is"
        )
    print_json(rows) if as_json else print_rows("profiles", rows)
