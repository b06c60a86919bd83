"""What a person sees while a stage works: lines and progress bars on standard error."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import wrap
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

# A name at the begin of a line, and the spaces up to what is said of it.
_KEY = re.compile(r"\w{1,10}\s{2,}|\w+: ")

# Of a bar: itself, how much is done, the rate, and the time that is left.
_BAR_CHARS = 54
# Less of a note says nothing.
_NOTE_CHARS = 8

stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class Advance(Protocol):
    """Moves a bar."""

    def __call__(self, n: int, note: str = "", total: int | None = None) -> None:
        """By n things; `note` is shown behind the bar until another one comes, `total` is how many there are."""


def say(message: str) -> None:
    """One line for the user."""
    _print(message)


def note(message: str) -> None:
    """One line of what is worth knowing, though nothing needs to be done."""
    _print(f"note: {message}")


def complain(message: str) -> None:
    """One line that says why it ends here."""
    try:
        _print(message, "red")
    except OSError:
        # No descriptor is left for what has to be imported to lay it out.
        sys.stderr.write(f"{message}\n")


def warn(message: str) -> None:
    """One line that the user should act on."""
    _print(f"warning: {message}", "yellow")


def at_words(text: str, console: Console) -> str:
    """A text as a terminal of this width shows it best: folded between words, what follows set in.

    Elsewhere (a pipe, a log) its lines stay whole. A line that begins with a name and at least two spaces, as
    `times     68 s`, goes on below what follows the name.
    """
    if not console.is_terminal:
        return text
    return "\n".join(folded for line in text.split("\n") for folded in _folded(line, console.width))


def _folded(line: str, n_chars: int) -> list[str]:
    begin = _KEY.match(line)
    n_in = len(begin[0]) if begin else len(line) - len(line.lstrip()) + 2
    # No number without its sign; `wrap` breaks at no such space.
    whole = line.replace(" %", "\N{NO-BREAK SPACE}%")
    folded = wrap(
        whole, n_chars, subsequent_indent=" " * n_in, break_long_words=False, break_on_hyphens=False
    )
    return [part.replace("\N{NO-BREAK SPACE}%", " %") for part in folded] or [line]


def _print(message: str, style: str = "") -> None:
    stderr.print(at_words(lines(message), stderr), style=style, markup=False)


class _Rate(ProgressColumn):
    """Things per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {self._unit}/s", style="cyan")


class _Note(ProgressColumn):
    """What else is told, as far as it leaves room for the bar and its figures."""

    def render(self, task: Task) -> Text:
        text, room = Text(task.fields["note"], style="dim"), stderr.width - len(task.description) - _BAR_CHARS
        if room < _NOTE_CHARS:
            return Text()
        text.truncate(room, overflow="ellipsis")
        return text


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
        _Note(),
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
