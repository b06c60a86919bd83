"""The `deponij` command: parses flags, calls one function, prints the answer or the error.

The commands are in `commands/`, a file a group. Exit status: 0 done, 1 failed with a message, 2 wrong
usage, 3 done but some items failed and are in the failure table. With `--json` standard output holds
one JSON document and nothing else; messages and progress go to standard error. Heavy imports sit
inside the commands, so that `--help` is instant.
"""

import os
import sys

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
from deponij.commands.answers import EXIT_FAILED, EXIT_USAGE

app = typer.Typer(
    help="A feature store for vision: crop once, extract once, learn cheaply.",
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


def main() -> None:
    """Entry point: one message instead of a traceback for everything a user can cause."""
    from deponij.project.frame.allocator import keep_pages
    from deponij.store.errors import DeponijError, UsageError

    keep_pages()
    try:
        app()
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
