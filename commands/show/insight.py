"""Learning curves, mistakes worth a look and facts about maps on a terminal."""

from collections.abc import Collection, Sequence

from deponij.commands.show.tables import (
    Columns,
    bounded,
    counted,
    percent,
    show_lines,
    show_notes,
    show_table,
    show_toy_note,
)
from deponij.pipeline.curves import CurveRow
from deponij.pipeline.mistakes.records import MistakesReport
from deponij.pipeline.reports.provenance import is_toy, marked
from deponij.pipeline.reports.wording import interval_of
from deponij.stages.map import MapFacts
from deponij.store.texts import in_percent


def print_curve(rows: Sequence[CurveRow], toys: Collection[str]) -> None:
    """A line for each size, heads side by side; toys are marked."""
    first = rows[0]
    columns: Columns[list[CurveRow]] = {
        "of each class": lambda of_size: "all" if of_size[0].per_class is None else of_size[0].per_class,
        "items": lambda of_size: f"{of_size[0].n_train:,}",
    }
    for place, head in enumerate(dict.fromkeys(row.head for row in rows)):
        columns |= {
            f"{head}\ntop-1 [95 %]": lambda of_size, place=place: _top1(of_size[place]),  # type: ignore[misc]
            f"{head}\nbalanced": lambda of_size, place=place: percent(of_size[place].balanced_accuracy),  # type: ignore[misc]
        }
    sizes = dict.fromkeys(row.per_class for row in rows)
    by = marked(first.backbone, is_toy(first.backbone, toys))
    title = f"{first.labels} by {by}, split {first.split}, n = {first.n_test:,}"
    of_sizes = [[row for row in rows if row.per_class == size] for size in sizes]
    show_table(title, columns, of_sizes, spare=[name for name in columns if name.endswith("balanced")])
    show_lines(*(f"{row.twice_as_many} ({row.head})" for row in rows if row.twice_as_many))
    told = interval_of(first.n_groups, first.unit, (row.design_effect for row in rows))
    show_notes(
        [
            f"Intervals: {told}. Of several draws: mean ± standard deviation, and an interval of what other draws would "
            "give too."
        ]
    )
    if any(row.n_short_classes for row in rows):
        show_notes(["Classes that have fewer items give all they have."])
    show_toy_note([first.backbone], toys)


def _top1(row: CurveRow) -> str:
    wobble = "" if row.top1_std is None else f" ± {percent(row.top1_std)}"
    share, _, bounds = bounded(row.top1, row.top1_interval).partition(" ")
    return f"{share}{wobble} {bounds}"


def print_mistakes(report: MistakesReport, n_rows: int = 15) -> None:
    """How many of each kind, and the first of them."""
    show_lines(
        f"{report.labels} by {report.backbone}: {report.n_suspects} of {report.n_judged:,} labels look wrong; "
        f"{counted(report.n_twins, 'pair')} of items that look alike but are labelled differently."
    )
    if report.suspects:
        show_table(
            "labels that look wrong",
            {
                "item": lambda one: one.item_id,
                "label": lambda one: one.label,
                "suggested": lambda one: f"{one.suggested} {in_percent(one.prob_suggested)}",
                "quality": lambda one: f"{one.quality:.3f}",
            },
            report.suspects[:n_rows],
        )
    if report.twins:
        show_table(
            "alike, but labelled differently",
            {
                "a": lambda twin: twin.a,
                "label of a": lambda twin: twin.label_a,
                "b": lambda twin: twin.b,
                "label of b": lambda twin: twin.label_b,
                "similarity": lambda twin: f"{twin.similarity:.3f} {twin.how}",
            },
            report.twins[:n_rows],
        )
    if report.confused:
        show_table(
            "confused most",
            {
                "label": lambda pair: pair.truth,
                "answered with": lambda pair: pair.answer,
                "items": lambda pair: f"{pair.n} of {pair.n_truth}",
            },
            report.confused[:n_rows],
        )
    show_notes(report.notes)


def print_map(facts: MapFacts) -> None:
    """One or two lines."""
    first, second = facts.pca_explained
    tsne = f"t-SNE of {facts.n_tsne:,}" if facts.n_tsne else "no t-SNE, which takes at least five"
    show_lines(
        f"{facts.n:,} items of {facts.backbone} ({facts.fingerprint}): two principal components with "
        f"{in_percent(first)} and {in_percent(second)} of the variance; {tsne}."
    )
