"""What to do next, on a terminal: the first lines of it, all of it, and which pictures to label first."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from deponij.commands.show.tables import Columns, counted, show_lines, show_notes, show_table, stdout
from deponij.pipeline.advice.records import Advice, Finding
from deponij.pipeline.reports.wording import clipped
from deponij.services.advice import Taken
from deponij.services.curate.suggest import Batch, Suggestion
from deponij.store.texts import in_percent, one_line

_FIRST = 5
_LINE_CHARS = 76


def show_next(titles: Sequence[str], root: str) -> None:
    """The first of the advice on a run, a line each; nothing where there is none."""
    if not titles:
        return
    show_lines(f"what to do next: deponij advice {shlex.quote(root)}", style="bold")
    shown = [f"{number:2}  {clipped(title, _LINE_CHARS)}" for number, title in enumerate(titles[:_FIRST], 1)]
    more = len(titles) - len(shown)
    show_lines(*shown, *([f"    and {more} more"] if more else []))


def print_advice(advice: Advice, n_named: int) -> None:
    """Every finding: why it matters, the first of its pictures, and the commands that act on it."""
    if not advice.findings:
        labels, judged = ("label, ", ", and every class can be judged") if advice.labels else ("", "")
        show_lines(f"{advice.root}: nothing to do: no {labels}copy or picture stands out{judged}")
    for number, one in enumerate(advice.findings, 1):
        show_lines(f"{number}. {one_line(one.title)}", style="bold")
        show_lines(*(f"   {line}" for line in _body(one, advice.root, n_named)))
    if advice.again:
        show_lines("then", style="bold")
        show_lines(*(f"   {one}" for one in advice.again))
    show_notes(advice.notes)


def _body(one: Finding, root: str, n_named: int) -> list[str]:
    """Prose folds at the terminal's width; ids and commands stay whole, to be copied."""
    why = wrap(one.why, max(40, stdout.width - 3))
    # Names of files and classes may hold anything; a line each, whatever is in them.
    facts = [*one.facts, *(_named(subject.item_id, subject.note) for subject in one.subjects[:n_named])]
    more = len(one.subjects) - n_named
    lines = [*why, *(f"  {one_line(fact)}" for fact in facts)]
    lines += [f"  and {counted(more, 'more picture')}"] if more > 0 else []
    lines += [f"see: {one_line(str(Path(root) / one.sheet))}"] if one.sheet else []
    return [*lines, *(one_line(act) for act in one.acts)]


def _named(item_id: str, note: str) -> str:
    return f"{item_id}: {note}" if note else item_id


def print_taken(taken: Taken, into: Path, advice: Advice) -> None:
    """What went into the file, and what comes next."""
    there = f", {taken.n_there:,} were there already" if taken.n_there else ""
    show_lines(f"{counted(taken.n_new, 'row')} added to {into}{there}; it has {taken.n_rows:,} now")
    show_lines(
        "look through it; set `do` to `right` where a label or picture is all right: it is proposed no more"
    )
    if taken.n_undecided:
        show_lines(
            f"{counted(taken.n_undecided, 'row')} to decide: `do` is relabel (with a label), leave-out or right"
        )
    show_lines("then", *(f"   {one}" for one in advice.again))


def print_suggestions(batch: Batch) -> None:
    """The batch as a table."""
    by = "" if batch.head is None else f", by the classifier {batch.head}"
    gone = f" ({batch.n_done:,} of earlier batches left out)" if batch.n_done else ""
    show_lines(f"{counted(batch.n_candidates, 'picture')} without a label in {batch.source}{gone}{by}")
    columns: Columns[tuple[int, Suggestion]] = {
        "": lambda row: row[0],
        "picture": lambda row: row[1].item_id,
    }
    if batch.head is not None:
        columns |= {
            "doubt": lambda row: "" if row[1].doubt is None else f"{row[1].doubt:.2f}",
            "between": lambda row: " or ".join(f"{name} {in_percent(prob)}" for name, prob in row[1].answers),
        }
    show_table("to label first", columns, list(enumerate(batch.pictures, 1)))
    show_notes(batch.notes)
