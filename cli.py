"""The `deponij` command: parses flags, calls one function, prints the answer or the error.

The commands are in `commands/`, a file a group. Exit status: 0 done, 1 failed with a message, 2 wrong
usage, 3 done but some items failed and are in the failure table. With `--json` standard output holds
one JSON document and nothing else; messages and progress go to standard error. Heavy imports sit
inside the commands, so that `--help` is instant.
"""

import os
import sys
from typing import Annotated

import typer

from deponij.commands import (
    data,
    depots,
    features,
    housekeeping,
    learning,
    machine,
    predicting,
    retrieval,
    serving,
    whole,
)
from deponij.commands.answers import EXIT_FAILED, EXIT_USAGE, say

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (whole, data, features, learning, predicting, housekeeping, serving, machine):
    app.add_typer(group.app)
app.add_typer(data.data_app, name="data")
app.add_typer(depots.depot_app, name="depot")
app.add_typer(depots.view_app, name="view")
app.add_typer(retrieval.index_app, name="index")
app.add_typer(retrieval.query_app, name="query")
app.add_typer(machine.profile_app, name="profile")
app.add_typer(machine.weights_app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        from deponij import __version__

        say(f"deponij {__version__}")
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A feature store for vision: crop once, extract once, learn cheaply."""


def main() -> None:
    """Entry point: one message instead of a traceback for everything a user can cause."""
    from deponij.store.errors import DeponijError, UsageError

    try:
        # By any way of calling it (`python -m` too) it is one command, which shells complete by its name.
        app(prog_name="deponij")
    except DeponijError as error:
        from deponij.project.frame.console import stderr

        stderr.print(f"error: {error}", style="red", markup=False)
        raise SystemExit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was committed is kept, run the same command to go on\n")
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of a pipe (head, say) has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_FAILED) from None


if __name__ == "__main__":
    main()
