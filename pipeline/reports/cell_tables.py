"""Cells laid out as tables: models in rows, splits side by side, one table a label set.

Both the terminal and Markdown show what `cell_tables` gives. What a cell is: `cells`.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from deponij.pipeline.metrics.choice import Preference, chosen, preference
from deponij.pipeline.reports.cells import BASELINE, ZERO_SHOT, Cell
from deponij.pipeline.reports.provenance import marked
from deponij.pipeline.reports.wording import cell as escaped
from deponij.pipeline.reports.wording import interval, interval_of, percent


@dataclass(frozen=True, slots=True)
class TableRow:
    """One model with one head.

    Attributes:
        model, head: as in `Cell`.
        is_first: whether the row above is of another model.
        cells: one for each split of the table; None where it was not measured.
    """

    model: str
    head: str
    is_first: bool
    cells: tuple[Cell | None, ...]

    @property
    def is_baseline(self) -> bool:
        """Whether it looks at no picture."""
        return self.head == BASELINE


@dataclass(frozen=True, slots=True)
class CellTable:
    """All models on one label set.

    Attributes:
        labels, n_classes: the label column, and its classes to choose from.
        splits: name and number of test items of each.
        rows: baselines first, then in the order in which the cells came.
    """

    labels: str
    n_classes: int
    splits: tuple[tuple[str, int], ...]
    rows: tuple[TableRow, ...]
    toys: frozenset[str] = frozenset()

    def is_chosen(self, cell: Cell) -> bool:
        """Whether validation chooses it among the cells of its split."""
        return cell == chosen_cell([other for other in self._cells if other.split == cell.split], self.toys)

    def is_toy(self, row: TableRow) -> bool:
        """Whether a toy is among the row's backbones."""
        return any(cell is not None and not self.toys.isdisjoint(cell.members) for cell in row.cells)

    def has_references(self, split: str) -> bool:
        """Whether any figure was published for one of its splits."""
        return any(cell.reference for cell in self._cells if cell.split == split)

    @property
    def _cells(self) -> list[Cell]:
        return [cell for row in self.rows for cell in row.cells if cell is not None]


def chosen_cell(cells: Sequence[Cell], toys: Set[str] = frozenset()) -> Cell | None:
    """The model that validation chooses among cells of one label set and split; None without validation."""

    def of(cell: Cell) -> Preference:
        n_backbones = len(cell.members)
        return preference(
            is_toy=not toys.isdisjoint(cell.members),
            judged_top1=cell.top1 if cell.n_folds else cell.val_top1,
            n_backbones=n_backbones,
        )

    return chosen([cell for cell in cells if cell.how != BASELINE], of)


def says_more(cell: Cell) -> bool:
    """Whether it tells what no results folder does: several seeds, joined logits, one prompt, a published figure."""
    is_prompt = cell.head.startswith(f"{ZERO_SHOT} (")
    return cell.how != BASELINE and (
        cell.seeds > 1 or cell.how == "logits" or is_prompt or cell.reference is not None
    )


def cell_tables(cells: Sequence[Cell], toys: Set[str] = frozenset()) -> list[CellTable]:
    """One table for each label set, in the order in which they first occur; toys are marked."""
    return [
        _table(labels, [cell for cell in cells if cell.labels == labels], frozenset(toys))
        for labels in dict.fromkeys(cell.labels for cell in cells)
    ]


def _table(labels: str, cells: Sequence[Cell], toys: frozenset[str]) -> CellTable:
    splits = tuple(dict.fromkeys(cell.split for cell in cells))
    by_place = {(cell.model, cell.head, cell.split): cell for cell in cells}
    names = sorted(
        dict.fromkeys((cell.model, cell.head) for cell in cells), key=lambda name: name[1] != BASELINE
    )
    rows = []
    for above, (model, head) in zip([("", ""), *names], names, strict=False):
        in_row = tuple(by_place.get((model, head, split)) for split in splits)
        rows.append(TableRow(model, head, above[0] != model, in_row))
    counts = tuple((split, max(cell.n for cell in cells if cell.split == split)) for split in splits)
    return CellTable(labels, max(cell.n_classes for cell in cells), counts, tuple(rows), toys)


def published(share: float) -> str:
    """A published share with its two decimals."""
    return f"{100 * share:.2f}"


def mean_and_std(mean: float, std: float | None) -> str:
    """`70.5 ± 0.4`, or the mean alone for a single run."""
    return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"


def remarks(cells: Sequence[Cell]) -> list[str]:
    """What must be known of published figures, each once, with where it holds."""
    by_note: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        if cell.reference and cell.reference.note:
            where = by_note.setdefault(cell.reference.note, {})
            where.setdefault(f"{cell.model}, {cell.head}", []).append(cell.labels)
    return [
        "; ".join(f"{name} on {' and '.join(labels)}" for name, labels in where.items()) + f": {note}."
        for note, where in by_note.items()
    ]


def how_to_read(cells: Sequence[Cell]) -> list[str]:
    """Sentences that belong under the tables."""
    said = [
        "Percent of test items whose class is among the first one, two or three answers; balanced: mean "
        "recall of the classes."
    ]
    seeds = max(cell.seeds for cell in cells)
    of = "; ".join(dict.fromkeys(_told_interval(cells, cell.split, cell.labels) for cell in cells))
    if seeds > 1:
        said.append(
            f"Heads: mean over {seeds} seeds ± standard deviation; all others are single runs. Intervals are of what other "
            f"test items, whole photographs at a time, and other seeds would give ({of})."
        )
    else:
        said.append(
            f"Single runs; intervals are of what other test items, whole photographs at a time, would give ({of})."
        )
    if any(cell.n_folds for cell in cells):
        said.append(
            "Of folds every item is tested once, by heads that have not learned from its fold; marked is the highest "
            "top-1, which being the highest flatters itself a little."
        )
    if any(cell.val_top1 is not None for cell in cells):
        said.append(
            "Marked: the model of its column with the highest top-1 on validation; test chose nothing."
        )
    sources = list(dict.fromkeys(cell.reference.source for cell in cells if cell.reference))
    if sources:
        said.append(f"Published figures: {'; '.join(sources)}.")
    return [*said, *remarks(cells)]


def _told_interval(cells: Sequence[Cell], split: str, labels: str) -> str:
    """What the intervals of one split and label set are of."""
    of_both = [cell for cell in cells if (cell.split, cell.labels) == (split, labels)]
    effects = (cell.design_effect for cell in of_both if cell.how != BASELINE)
    return f"{split}, {labels}: {interval_of(of_both[0].n_groups, of_both[0].unit, effects)}"


def render_markdown(cells: Sequence[Cell], title: str, toys: Set[str] = frozenset()) -> str:
    """All tables as Markdown, and below them what was learned from what; toys are marked."""
    lines = [f"# {title}", "", *(f"- {sentence}" for sentence in how_to_read(cells)), ""]
    for table in cell_tables(cells, toys):
        lines += [f"## {escaped(table.labels)}: {table.n_classes} classes", "", *_markdown_header(table)]
        lines += [*(_markdown_row(table, row) for row in table.rows), ""]
    lines += ["## What was learned from what", ""]
    lines += [f"- {escaped(names)}: {escaped(protocol)}." for names, protocol in _details(cells)]
    return "\n".join(lines) + "\n"


def _markdown_header(table: CellTable) -> list[str]:
    names, rules = ["model", "head"], ["---", "---"]
    for split, n in table.splits:
        names += [f"{escaped(split)} (n = {n:,}): top-1", "95 %", "top-2", "top-3", "balanced"]
        rules += ["--:", ":-:", "--:", "--:", "--:"]
        if table.has_references(split):
            names.append("published")
            rules.append("--:")
    return ["| " + " | ".join(names) + " |", "|" + "|".join(rules) + "|"]


def _markdown_row(table: CellTable, row: TableRow) -> str:
    """A row of the Markdown table; names must not become markup."""
    fields = [marked(escaped(row.model), table.is_toy(row)), escaped(row.head)]
    for (split, _), cell in zip(table.splits, row.cells, strict=True):
        width = 5 + table.has_references(split)
        texts = [] if cell is None else _markdown_fields(table, cell)
        fields += [*texts, *[""] * (width - len(texts))]
    return "| " + " | ".join(fields) + " |"


def _markdown_fields(table: CellTable, cell: Cell) -> list[str]:
    top1 = mean_and_std(cell.top1, cell.top1_std)
    fields = [
        f"**{top1}**" if table.is_chosen(cell) else top1,
        "" if cell.interval_kind == "exact" else interval(cell.top1_interval),
        percent(cell.top2),
        percent(cell.top3),
        percent(cell.balanced_accuracy)
        + ("" if cell.interval_kind == "exact" else f" {interval(cell.balanced_interval)}"),
    ]
    if cell.reference:
        known = (cell.reference.top1, cell.reference.top2, cell.reference.top3)
        fields.append(" / ".join(published(share) for share in known))
    return fields


def _details(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """What each model and head was learned from, each protocol once, with where it holds."""
    by_protocol: dict[str, dict[str, None]] = {}
    for cell in cells:
        by_protocol.setdefault(cell.protocol, {})[f"{cell.model}, {cell.head}"] = None
    return [("; ".join(names), protocol) for protocol, names in by_protocol.items()]
