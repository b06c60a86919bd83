"""Near-duplicates, outliers and what a batch adds, on a terminal. This is no stage."""

from collections.abc import Callable, Mapping, Sequence

from deponij.commands.show.tables import Columns, counted, show_lines, show_notes, show_table
from deponij.pipeline.likeness.coverage import NOVELTIES
from deponij.pipeline.likeness.pairs import HOWS, How
from deponij.services.curate.batches import BatchReport, NewItem
from deponij.services.curate.duplicates import DuplicateGroup, DuplicatesReport, Leak, Member
from deponij.services.curate.files import heading_of, kth, link_of
from deponij.services.curate.outliers import Outlier, OutliersReport
from deponij.store.texts import in_percent

_N_MEMBERS = 6
_BY: Mapping[How, str] = {"picture": "content", "phash": "perceptual hash", "embedding": "features"}


def print_duplicates(report: DuplicatesReport, n_groups: int) -> None:
    """What was found, what leaks, and the first groups."""
    show_lines(*duplicates_summary(report))
    if report.groups:
        _print_groups(report, n_groups)
    if report.n_groups > n_groups:
        show_notes([f"{counted(report.n_groups - n_groups, 'more group')}: --top, --json, --parquet"])
    show_notes(report.notes)


def duplicates_summary(report: DuplicatesReport) -> list[str]:
    """Sentences for a person."""
    left_out = f" ({report.n_left_out:,} more have none)" if report.n_left_out else ""
    pairs = ", ".join(f"{report.n_pairs[how]:,} by {_BY[how]}" for how in report.evidence)
    loosest = (
        "" if report.loosest is None else f"; the least alike two of a group: cosine {report.loosest:.3f}"
    )
    lines = [
        f"{report.source}{left_out}",
        f"{counted(report.n_groups, 'group')} ({report.n_exact:,} exact, {report.n_near:,} near{loosest}) with "
        f"{counted(report.n_surplus, 'item')} to spare; alike are {counted(report.n_pairs['any'], 'pair')}: {pairs}",
    ]
    if report.n_within_photo:
        lines.append(
            f"{counted(report.n_within_photo, 'group')} within one photograph: overlapping boxes, most likely"
        )
    if report.labels is not None:
        lines.append(f"{counted(report.n_conflicts, 'group')} with different labels ({report.labels})")
    return lines + [_leak(one) for one in report.leaks if one.n]


def _leak(leak: Leak) -> str:
    share = in_percent(leak.share)
    begin = f"split {leak.split}: {leak.n_alike:,} of {leak.n:,} {leak.part} items ({share}) are alike with "
    if not leak.n_alike:
        return f"{begin}{leak.against} items"
    by = ", ".join(f"{leak.by[how]:,} by {_BY[how]}" for how in HOWS if leak.by[how])
    return f"{begin}{leak.against} items ({by}; {leak.n_other_photo:,} in another photograph)"


def _print_groups(report: DuplicatesReport, n_groups: int) -> None:
    rows = [
        (group, place)
        for group in report.groups[:n_groups]
        for place in range(min(len(group.members), _N_MEMBERS + 1))
    ]
    columns: Columns[tuple[DuplicateGroup, int]] = {
        "group": lambda row: "" if row[1] else heading_of(row[0]),
        "item": lambda row: (
            _member(row, lambda one: one.item_id) or f"and {len(row[0].members) - _N_MEMBERS:,} more"
        ),
        "link to the first": lambda row: _member(row, link_of),
    }
    if report.labels is not None:
        columns["label"] = lambda row: _member(row, lambda one: one.label)
    for split in report.groups[0].members[0].parts:
        columns[f"split {split}"] = lambda row, split=split: _member(row, lambda one: one.parts[split])  # type: ignore[misc]
    show_table("", columns, rows, section=lambda row: id(row[0]))


def _member(row: tuple[DuplicateGroup, int], told: Callable[[Member], str | None]) -> str:
    """What is told of one member; nothing in the row that only counts those left out."""
    group, place = row
    return (told(group.members[place]) or "") if place < _N_MEMBERS else ""


def print_outliers(report: OutliersReport, n_items: int) -> None:
    """How distances are spread, the farthest items, and those among another class."""
    show_lines(*outliers_summary(report))
    shown = report.items[:n_items]
    _print_outliers("farthest from all others", shown, {**_SCORE, **_OF_OUTLIERS})
    if report.n_misplaced:
        _print_outliers("among another class", report.misplaced[:n_items], {**_OF_OUTLIERS, **_OF_MISPLACED})
    show_notes(report.notes)


_SCORE: Columns[Outlier] = {
    "distance": lambda one: f"{one.score:.3f}",
    "of the nearest": lambda one: f"{one.nearest_distance:.3f}",
}
_OF_OUTLIERS: Columns[Outlier] = {
    "item": lambda one: one.item_id,
    "label": lambda one: one.label,
    "nearest": lambda one: one.nearest,
    "its label": lambda one: one.nearest_label,
}
_OF_MISPLACED: Columns[Outlier] = {
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
            f"standing out: {counted(report.n_beyond, 'item')} ({in_percent(report.n_beyond / report.n)}) beyond "
            f"{report.fence:.3f} (upper quartile + 1.5 interquartile ranges)"
        )
    else:
        lines.append(
            f"no item stands out (none beyond {report.fence:.3f}): the first ones are the rim of one cloud"
        )
    if report.labels is not None:
        lines.append(
            f"among another class, with {report.params.k} neighbours of others only ({report.labels}): "
            f"{counted(report.n_misplaced, 'item')}"
        )
    return lines


def _print_outliers(title: str, items: Sequence[Outlier], columns: Columns[Outlier]) -> None:
    has_labels = any(one.label or one.nearest_label for one in items)
    told = {name: value for name, value in columns.items() if has_labels or "label" not in name}
    show_table(title, told, items, spare=("of the nearest",))


def _distance(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def print_batch(report: BatchReport, n_items: int) -> None:
    """What the batch adds, and the first items of it."""
    show_lines(*batch_summary(report))
    ranked: Columns[NewItem] = {"rank": lambda one: one.rank, "adds": lambda one: _distance(one.gap)}
    columns: Columns[NewItem] = {
        "item": lambda one: one.item_id,
        "novelty": lambda one: one.novelty,
        f"{kth(report.params.k)}nearest": lambda one: _distance(one.score),
        "likest in the archive": lambda one: one.like,
        "away": lambda one: _distance(one.distance),
        "bits": lambda one: one.bits,
        "label": lambda one: one.like_label,
    }
    if report.pick:
        show_table(
            "add most together", {**ranked, **columns}, report.pick[:n_items], spare=("bits", "away", "label")
        )
    else:
        show_table("the most novel first", columns, report.items[:n_items], spare=("bits", "away", "label"))
    show_notes(report.notes)


def batch_summary(report: BatchReport) -> list[str]:
    """Sentences for a person."""
    usual = 1 - report.params.quantile
    lines = [
        f"{report.batch}\nagainst {report.archive}",
        ", ".join(f"{name} {report.n[name]:,} ({in_percent(report.shares[name])})" for name in NOVELTIES),
        f"novel: the archive's {kth(report.params.k)}nearest lies beyond {report.radius:.3f}, as it does for "
        f"{in_percent(usual)} of the archive's own items",
        f"the batch reaches {in_percent(report.coverage)} of the archive's neighbourhoods (coverage; as many more of "
        f"the archive's kind would reach about {in_percent(report.expected_coverage)}), density {report.density:.2f} (1 for "
        "more of the same)",
    ]
    if report.farthest_with_pick is not None:
        lines.append(
            f"the farthest new item is {report.farthest:.3f} from the archive, and {report.farthest_with_pick:.3f} once the "
            f"{len(report.pick):,} picked are in it"
        )
    return lines
