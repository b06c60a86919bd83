"""A tuned backbone to the hub."""

from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import print_json, say
from deponij.commands.options import Json

app = typer.Typer()


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="Folder of a tuned backbone (`deponij tune --out`).")],
    repo: Annotated[str, typer.Option(metavar="USER/NAME", help="Repository of the hub.")],
    create: Annotated[
        bool, typer.Option("--create", help="Make the repository, or the branch, where there is none.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make it private; with --create.")] = False,
    revision: Annotated[str, typer.Option(help="Branch.")] = "main",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace what else lies there; the repository's history keeps it."),
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where the base's is not known, or another one is wanted."),
    ] = None,
    token_from: Annotated[
        str | None,
        typer.Option(
            metavar="ENV",
            help="Variable that holds the hub's token; by default HF_TOKEN, or what `hf auth login` kept.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Upload a tuned backbone to the Hugging Face hub, with its card and its record, by one commit.

    What it has learned from goes along: learned_from.parquet holds hashes of the pictures, by which whoever has such a
    picture finds out that it was one of them, and nothing else of it. HF_ENDPOINT names another hub.
    """
    from deponij.project.frame.console import say as tell
    from deponij.services import push as service

    request = service.PushRequest(repo, revision, create, private, overwrite, licence, token_from)
    pushed = service.push(folder, request, tell)
    print_json(pushed) if as_json else say(service.told(pushed))
