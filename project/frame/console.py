"""What a person sees while a stage works: lines and progress bars on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from deponij.store.texts import lines

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class Advance(Protocol):
    """Moves a bar."""

    def __call__(self, n: int, note: str = "", total: int | None = None) -> None:
        """By n things; `note` is shown behind the bar until another one comes, `total` is how many there are."""


def say(message: str) -> None:
    """One line for the user."""
    stderr.print(lines(message), markup=False)


def complain(message: str) -> None:
    """One line that says why it ends here."""
    stderr.print(lines(message), style="red", markup=False)


def warn(message: str) -> None:
    """One line that the user should not miss."""
    stderr.print(f"warning: {lines(message)}", style="yellow", markup=False)


class _Rate(ProgressColumn):
    """Things per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {self._unit}/s", style="cyan")


@contextmanager
def bar(label: str, total: int | None, unit: str) -> Iterator[Advance]:
    """A progress bar with rate and remaining time; yields a function that advances it by n.

    Nothing is drawn where standard error is no terminal.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(label, total=total, note="")

        def advance(n: int, note: str = "", total: int | None = None) -> None:
            more: dict[str, Any] = {"note": note} if note else {}
            progress.update(task, advance=n, total=total, **more)

        yield advance


@contextmanager
def counted(label: str, total: int | None, unit: str) -> Iterator[Callable[..., None]]:
    """A bar for work that says how much of it is done, and maybe of how much; what else it says is ignored."""
    n_before = 0
    with bar(label, total, unit) as advance:

        def reached(n_done: int, n_total: int | None = None, *_: object) -> None:
            nonlocal n_before
            advance(n_done - n_before, total=n_total)
            n_before = n_done

        yield reached
