"""How a command answers: words or one JSON document on standard output, and its exit status."""

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

EXIT_FAILED, EXIT_USAGE, EXIT_PARTLY, EXIT_INTERRUPTED = 1, 2, 3, 130


def answer(value: "BaseModel | dict[str, Any]", text: str, as_json: bool) -> None:
    """A report as JSON, or its summary."""
    if as_json:
        print_json(value)
    else:
        from deponij.store.texts import lines

        say(lines(text))


def print_json(value: Any) -> None:
    """Records, or lists of them, as one JSON document; NaN is refused, for it is no JSON."""
    from pydantic_core import to_jsonable_python

    say(json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False, allow_nan=False))


def lead(said: str | None, as_json: bool) -> None:
    """The first line of an answer: which run's files were taken; beside a JSON document on standard error."""
    if said is None:
        return
    if as_json:
        from deponij.project.frame.console import say as tell

        tell(said)
    else:
        say(said)


def say(text: str) -> None:
    """Lines on standard output."""
    sys.stdout.write(text + "\n")


def exit_partly(n_failed: int, where: str) -> None:
    """Exit status 3 where something is in the failure table.

    Args:
        where: the table, and how to look into it.

    Raises:
        Exit: with `EXIT_PARTLY`.
    """
    if n_failed:
        from deponij.project.frame.console import warn

        warn(f"{n_failed} failed; each stands with its reason in {where}")
        raise typer.Exit(EXIT_PARTLY)
