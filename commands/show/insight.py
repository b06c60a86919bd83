"""Learning curves, mistakes worth a look and facts about maps on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deponij.commands.show.results import stdout
from deponij.pipeline.curves import CurveRow
from deponij.pipeline.mistakes.records import MistakesReport
from deponij.stages.map import MapFacts


def print_curve(rows: Sequence[CurveRow], console: Console = stdout) -> None:
    """A line for each size, heads side by side."""
    first = rows[0]
    heads = list(dict.fromkeys(row.head for row in rows))
    shown = Table(title=f"{first.labels} by {first.backbone}, split {first.split}, n = {first.n_test:,}")
    shown.add_column("of each class", justify="right")
    shown.add_column("items", justify="right")
    for head in heads:
        shown.add_column(f"{head}\ntop-1 (95 %)", justify="right")
        shown.add_column("balanced", justify="right")
    for size in dict.fromkeys(row.per_class for row in rows):
        points = [row for row in rows if row.per_class == size]
        cells = [text for row in points for text in (_top1(row), f"{row.balanced_accuracy:.1%}")]
        shown.add_row("all" if size is None else f"{size}", f"{points[0].n_train:,}", *cells)
    console.print(shown)
    if any(row.n_short_classes for row in rows):
        console.print("Classes that have fewer items give all they have.", style="dim")


def _top1(row: CurveRow) -> str:
    low, high = row.top1_interval
    wobble = "" if row.top1_std is None else f" ± {100 * row.top1_std:.1f}"
    return f"{row.top1:.1%}{wobble} ({100 * low:.1f}–{100 * high:.1f})"


def print_mistakes(report: MistakesReport, n_rows: int = 15, console: Console = stdout) -> None:
    """How many of each kind, and the first of them."""
    console.print(
        f"{report.labels} by {report.backbone} ({report.fingerprint}): {report.n_suspects} of {report.n_judged:,} "
        f"labels look wrong, {report.n_twins} pairs look alike but are labelled differently.",
        markup=False,
        soft_wrap=True,
    )
    if report.suspects:
        shown = _table("labels that look wrong", ("item", "label", "suggested", "quality"))
        for one in report.suspects[:n_rows]:
            suggested = f"{one.suggested} {one.prob_suggested:.0%}"
            shown.add_row(*map(Text, (one.item_id, one.label, suggested, f"{one.quality:.3f}")))
        console.print(shown)
    if report.twins:
        shown = _table("alike, but labelled differently", ("a", "label", "b", "label", "similarity"))
        for twin in report.twins[:n_rows]:
            alike = f"{twin.similarity:.3f} {twin.how}"
            shown.add_row(*map(Text, (twin.a, twin.label_a, twin.b, twin.label_b, alike)))
        console.print(shown)
    if report.confused:
        shown = _table("confused most", ("label", "answered with", "items"))
        for pair in report.confused[:n_rows]:
            shown.add_row(*map(Text, (pair.truth, pair.answer, f"{pair.n} of {pair.n_truth}")))
        console.print(shown)
    for note in report.notes:
        console.print(note, style="dim", markup=False, soft_wrap=True)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def print_map(facts: MapFacts, console: Console = stdout) -> None:
    """One or two lines."""
    first, second = facts.pca_explained
    tsne = f"t-SNE of {facts.n_tsne:,}" if facts.n_tsne else "no t-SNE, which takes at least five"
    console.print(
        f"{facts.n:,} items of {facts.backbone} ({facts.fingerprint}): two principal components with {first:.1%} and "
        f"{second:.1%} of the variance; {tsne}.",
        markup=False,
        soft_wrap=True,
    )
