"""Near-duplicates, outliers and what a batch adds, on a terminal. This is no stage."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deponij.commands.show.hits import stdout
from deponij.pipeline.likeness.coverage import NOVELTIES
from deponij.pipeline.likeness.pairs import HOWS, How
from deponij.services.curate.batches import BatchReport
from deponij.services.curate.duplicates import DuplicatesReport, Leak
from deponij.services.curate.duplicates_files import heading_of, link_of
from deponij.services.curate.outliers import Outlier, OutliersReport
from deponij.services.curate.outliers_files import kth

_N_MEMBERS = 6
_BY: Mapping[How, str] = {"picture": "content", "phash": "perceptual hash", "embedding": "features"}


def print_duplicates(report: DuplicatesReport, n_groups: int, console: Console = stdout) -> None:
    """What was found, what leaks, and the first groups."""
    for line in duplicates_summary(report):
        _line(console, line)
    if report.groups:
        console.print(_groups(report, n_groups))
    if report.n_groups > n_groups:
        _line(console, f"{_n(report.n_groups - n_groups, 'more group')}: --top, --json, --parquet", "dim")
    for note in report.notes:
        _line(console, note, "dim")


def duplicates_summary(report: DuplicatesReport) -> list[str]:
    """Sentences for a person."""
    left_out = f" ({report.n_left_out:,} more have none)" if report.n_left_out else ""
    pairs = ", ".join(f"{report.n_pairs[how]:,} by {_BY[how]}" for how in report.evidence)
    loosest = (
        "" if report.loosest is None else f"; the least alike two of a group: cosine {report.loosest:.3f}"
    )
    lines = [
        f"{report.source}{left_out}",
        f"{_n(report.n_groups, 'group')} ({report.n_exact:,} exact, {report.n_near:,} near{loosest}) with "
        f"{_n(report.n_surplus, 'item')} to spare; alike are {_n(report.n_pairs['any'], 'pair')}: {pairs}",
    ]
    if report.n_within_photo:
        lines.append(
            f"{_n(report.n_within_photo, 'group')} within one photograph: overlapping boxes, most likely"
        )
    if report.labels is not None:
        lines.append(f"{_n(report.n_conflicts, 'group')} with different labels ({report.labels})")
    return lines + [_leak(one) for one in report.leaks if one.n]


def _leak(leak: Leak) -> str:
    begin = f"split {leak.split}: {leak.n_alike:,} of {leak.n:,} {leak.part} items ({leak.share:.1%}) are alike with "
    if not leak.n_alike:
        return f"{begin}{leak.against} items"
    by = ", ".join(f"{leak.by[how]:,} by {_BY[how]}" for how in HOWS if leak.by[how])
    return f"{begin}{leak.against} items ({by}; {leak.n_other_photo:,} in another photograph)"


def _groups(report: DuplicatesReport, n_groups: int) -> Table:
    table = Table(title_justify="left")
    has_labels, splits = report.labels is not None, list(report.groups[0].members[0].parts)
    for name in (
        "group",
        "item",
        "link to the first",
        *(("label",) if has_labels else ()),
        *(f"split {one}" for one in splits),
    ):
        table.add_column(name, overflow="fold")
    for group in report.groups[:n_groups]:
        for number, one in enumerate(group.members[:_N_MEMBERS]):
            parts = [one.parts[split] or "" for split in splits]
            _row(
                table,
                ["" if number else heading_of(group), one.item_id, link_of(one)]
                + ([one.label or ""] if has_labels else [])
                + parts,
            )
        if len(group.members) > _N_MEMBERS:
            _row(table, ["", f"and {len(group.members) - _N_MEMBERS:,} more"])
        table.add_section()
    return table


def print_outliers(report: OutliersReport, n_items: int, console: Console = stdout) -> None:
    """How distances are spread, the farthest items, and those among another class."""
    for line in outliers_summary(report):
        _line(console, line)
    _print_outliers(console, "farthest from all others", report.items[:n_items], {**_SCORE, **_OF_OUTLIERS})
    if report.n_misplaced:
        shown = report.misplaced[:n_items]
        _print_outliers(console, "among another class", shown, _OF_MISPLACED)
    for note in report.notes:
        _line(console, note, "dim")


_SCORE: Mapping[str, Callable[[Outlier], str]] = {
    "distance": lambda one: f"{one.score:.4f}",
    "of the nearest": lambda one: f"{one.nearest_distance:.4f}",
}
_OF_OUTLIERS: Mapping[str, Callable[[Outlier], str]] = {
    "item": lambda one: one.item_id,
    "label": lambda one: one.label or "",
    "nearest": lambda one: one.nearest,
    "its label": lambda one: one.nearest_label or "",
}
_OF_MISPLACED: Mapping[str, Callable[[Outlier], str]] = {
    **_OF_OUTLIERS,
    "own class": lambda one: _distance(one.nearest_same),
    "other class": lambda one: _distance(one.nearest_different),
}


def outliers_summary(report: OutliersReport) -> list[str]:
    """Sentences for a person."""
    left_out = f" ({report.n_left_out:,} more have none)" if report.n_left_out else ""
    half, most, nearly_all = (report.quantiles[share] for share in ("0.5", "0.95", "0.99"))
    which = f"{kth(report.params.k)}nearest other"
    if report.leaves_out_photo:
        which += " of another photograph"
    lines = [
        f"{report.source}{left_out}",
        f"the {which} lies within a cosine distance of {half:.3f} for half of the items, {most:.3f} for 95 %, "
        f"{nearly_all:.3f} for 99 %; the farthest at {report.quantiles['1']:.3f}",
    ]
    if report.n_beyond:
        lines.append(
            f"standing out: {_n(report.n_beyond, 'item')} ({report.n_beyond / report.n:.1%}) beyond {report.fence:.3f} "
            "(upper quartile + 1.5 interquartile ranges)"
        )
    else:
        lines.append(
            f"no item stands out (none beyond {report.fence:.3f}): the first ones are the rim of one cloud"
        )
    if report.labels is not None:
        lines.append(
            f"among another class, with {report.params.k} neighbours of others only ({report.labels}): "
            f"{_n(report.n_misplaced, 'item')}"
        )
    return lines


def _print_outliers(
    console: Console, title: str, items: Sequence[Outlier], columns: Mapping[str, Callable[[Outlier], str]]
) -> None:
    has_labels = any(one.label or one.nearest_label for one in items)
    shown = {name: cell for name, cell in columns.items() if has_labels or "label" not in name}
    table = Table(title=title, title_justify="left")
    for name in shown:
        table.add_column(name, overflow="fold")
    for one in items:
        _row(table, [cell(one) for cell in shown.values()])
    console.print(table)


def _distance(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def print_batch(report: BatchReport, n_items: int, console: Console = stdout) -> None:
    """What the batch adds, and the first items of it."""
    for line in batch_summary(report):
        _line(console, line)
    pick = report.pick
    title = "add most together" if pick else "the most novel first"
    table = Table(title=title, title_justify="left")
    names = (
        "item",
        "novelty",
        f"{kth(report.params.k)}nearest",
        "likest in the archive",
        "away",
        "bits",
        "label",
    )
    for name in (*(("rank", "adds") if pick else ()), *names):
        table.add_column(name, overflow="fold")
    for one in (pick or report.items)[:n_items]:
        ranked = [str(one.rank), _distance(one.gap)] if pick else []
        bits = "" if one.bits is None else str(one.bits)
        cells = [one.item_id, one.novelty, _distance(one.score), one.like, _distance(one.distance), bits]
        _row(table, [*ranked, *cells, one.like_label or ""])
    console.print(table)
    for note in report.notes:
        _line(console, note, "dim")


def batch_summary(report: BatchReport) -> list[str]:
    """Sentences for a person."""
    usual = 1 - report.params.quantile
    lines = [
        f"{report.batch}\nagainst {report.archive}",
        ", ".join(f"{name} {report.n[name]:,} ({report.shares[name]:.1%})" for name in NOVELTIES),
        f"novel: the archive's {kth(report.params.k)}nearest lies beyond {report.radius:.3f}, as it does for {usual:.0%} of "
        "the archive's own items",
        f"the batch reaches {report.coverage:.1%} of the archive's neighbourhoods (coverage; as many more of the archive's "
        f"kind would reach about {report.expected_coverage:.1%}), density {report.density:.2f} (1 for more of the same)",
    ]
    if report.farthest_with_pick is not None:
        lines.append(
            f"the farthest new item is {report.farthest:.3f} from the archive, and {report.farthest_with_pick:.3f} once the "
            f"{len(report.pick):,} picked are in it"
        )
    return lines


def _n(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _row(table: Table, cells: Sequence[str]) -> None:
    # Ids and labels may hold square brackets, which rich would read as markup.
    table.add_row(*map(Text, cells))


def _line(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, soft_wrap=True)
