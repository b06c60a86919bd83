"""Tables of classifiers with several labels an item for the command line."""

from collections.abc import Sequence
from typing import Any

from deponij.commands.show.tables import bounded, percent, show_lines, show_notes, show_table
from deponij.pipeline.metrics.evaluation import not_a_result
from deponij.pipeline.reports.provenance import marked
from deponij.pipeline.reports.wording import interval_of

Record = dict[str, Any]


def print_multilabel(rows: Sequence[Record]) -> None:
    """A table for each column and split, the classifier that validation chooses first."""
    for pair in dict.fromkeys((row["labels"], row["split"]) for row in rows):
        _print([row for row in rows if (row["labels"], row["split"]) == pair])


def _print(rows: Sequence[Record]) -> None:
    first = rows[0]
    show_table(
        f"{first['labels']}: {first['n_classes']} classes, {first['labels_per_item']:.2g} an item, {first['part']} part "
        f"(n = {first['n']:,}) of split {first['split']}",
        {
            "backbone": lambda row: marked(row["backbone"], row["is_toy"]),
            "method": lambda row: row["method"],
            "val. mAP": lambda row: percent(row["val_map"]),
            "mAP [95 %]": lambda row: bounded(row["map_macro"], row["map_macro_interval"]),
            "F1 [95 %]": lambda row: bounded(row["f1_micro"], row["f1_micro_interval"]),
            "exact": lambda row: percent(row["exact"]),
        },
        rows,
        style=lambda row: "bold" if row["is_chosen"] else "dim" if row["is_toy"] else "",
        spare=("exact", "val. mAP"),
    )
    show_notes(
        [
            f"a random order: mAP {percent(first['chance_map'])}; every class answered: F1 {percent(first['chance_f1'])}; "
            f"intervals: {interval_of(first['n_groups'], first['unit'])}",
            "in order of mAP on validation, which chooses the first"
            if first["is_chosen"]
            else f"no validation part to choose by: figures are of {first['part']} items",
        ]
    )
    if said := not_a_result(first["part"]):
        show_lines(said, style="yellow")
