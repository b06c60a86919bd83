"""The `deponij` command: parses flags, calls one function, prints the answer or the error.

The commands are in `commands/`, a file a group. Exit status: 0 done, 1 failed with a message, 2 wrong
usage, 3 done but some items failed and are in the failure table. With `--json` standard output holds
one JSON document and nothing else; messages and progress go to standard error. Heavy imports sit
inside the commands, so that `--help` is instant.
"""

import os
import sys
from inspect import signature
from typing import Annotated

import typer

from deponij.commands import (
    advising,
    benching,
    comparing,
    data,
    decoding,
    depots,
    features,
    forgetting,
    housekeeping,
    learning,
    machine,
    predicting,
    pushing,
    retrieval,
    scenes,
    segmentation_table,
    segmenting,
    serving,
    tuning,
    whole,
)
from deponij.commands.answers import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, say

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What a person wants to do: commands, and groups of commands by name.
_PANELS: dict[str, tuple[tuple[typer.Typer, ...], dict[str, typer.Typer]]] = {
    "The whole way": ((whole.app, predicting.app, segmenting.app, serving.app), {}),
    "Choosing a backbone": (
        (machine.backbones_app,),
        {"weights": machine.weights_app, "bench": benching.bench_app},
    ),
    "Items": ((data.app, scenes.app), {"data": data.data_app}),
    "Features": ((features.app,), {"depot": depots.depot_app, "view": depots.view_app}),
    "Learning and comparing": (
        (learning.app, comparing.app, decoding.app, segmentation_table.app, tuning.app, pushing.app),
        {},
    ),
    "Searching": ((), {"index": retrieval.index_app, "query": retrieval.query_app}),
    "Looking after pictures": ((advising.app, housekeeping.app, forgetting.app), {}),
    "This machine": ((machine.app,), {"profile": machine.profile_app}),
}
# Commands that a person looks for elsewhere than among those of their file.
_ELSEWHERE = {
    "mistakes": "Looking after pictures",
    "map": "Looking after pictures",
    "retrieval": "Searching",
}
# What the flags of `run` are about; a flag that other commands share stands under the same heading there.
_FLAGS = {
    "Data": (
        "folder",
        "table",
        "coco",
        "images",
        "yolo",
        "voc",
        "parquet",
        "path_column",
        "treat",
        "boxes",
        "keep_crowds",
        "links_into",
        "whole",
        "corrections",
        "keep",
        "embeddings",
        "ids",
    ),
    "Model": ("preset", "backbone", "input_px", "tune", "tune_set", "precision", "classes"),
    "Labels and split": (
        "labels",
        "label_columns",
        "label_separator",
        "split",
        "group_by",
        "fractions",
        "folds",
        "seed",
    ),
    "Machine": ("depot", "device", "batch_size", "workers", "threads"),
}
for _panel, _names in _FLAGS.items():
    for _flag in _names:
        signature(whole.run).parameters[_flag].annotation.__metadata__[0].rich_help_panel = _panel
for _panel, (_flat, _named) in _PANELS.items():
    for _commands in _flat:
        for _command in _commands.registered_commands:
            _called = str(_command.name or getattr(_command.callback, "__name__", ""))
            _command.rich_help_panel = _ELSEWHERE.get(_called, _panel)
        app.add_typer(_commands)
    for _name, _commands in _named.items():
        app.add_typer(_commands, name=_name, rich_help_panel=_panel)


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
    from deponij.project.frame.allocator import keep_pages
    from deponij.store.errors import DeponijError, MachineError, UsageError, exhaustion_told

    try:
        keep_pages()
        # By any way of calling it (`python -m` too) it is one command, which shells complete by its name.
        with exhaustion_told():
            app(prog_name="deponij")
    except MachineError as error:
        # Nothing may have to be imported or laid out for this one.
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(EXIT_FAILED) from None
    except DeponijError as error:
        from deponij.project.frame.console import complain

        complain(f"error: {error}")
        raise SystemExit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED) from None
    except (KeyboardInterrupt, SystemExit) as ended:
        # Of an interrupted command typer makes a silent exit with this status; of one while it starts, nothing.
        if isinstance(ended, SystemExit) and ended.code != EXIT_INTERRUPTED:
            raise
        sys.stderr.write("interrupted; what was committed is kept, run the same command to go on\n")
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of a pipe (head, say) has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_FAILED) from None


def program() -> None:
    """`main` as a process of its own, which ends at once."""
    from deponij.project.frame.leaving import leave

    try:
        main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            leave(ended.code or 0)
        raise


if __name__ == "__main__":
    program()
