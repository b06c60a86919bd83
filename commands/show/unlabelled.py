"""What a run brought out that needs no labels, on a terminal. This is no stage."""

from typing import Any

from deponij.commands.show.tables import show_lines, show_notes, show_table
from deponij.pipeline.reports.provenance import is_toy, marked

_NO_LABELS = "no labels were learned from, so there are no classifiers; class folders, or a column (--labels), add them"


def print_unlabelled(record: dict[str, Any]) -> None:
    """What is alike and what stands apart; answers by words; and that nothing was learned, where that is so."""

    def name(row: dict[str, Any]) -> str:
        return marked(row["backbone"], is_toy(row["backbone"], record["toys"]))

    if not record["results"] and not record["multilabel"]:
        show_lines(_NO_LABELS, style="yellow")
    if record["answers"]:
        rows = [
            {"backbone": name(one), "class": one_class, "n": n, "of": sum(one["n"].values())}
            for one in record["answers"]
            for one_class, n in one["n"].items()
        ]
        show_table(
            "answers by words (zero-shot)",
            {
                "backbone": lambda row: row["backbone"],
                "class": lambda row: row["class"],
                "pictures": lambda row: f"{row['n']:,} of {row['of']:,}",
            },
            rows,
        )
        show_notes(
            [
                "nothing says how often these are right: look at them in the page",
                *(f"each picture's answer: {one['table']}" for one in record["answers"]),
            ]
        )
    if record["likeness"] and not record["results"]:
        show_table(
            "alike, and apart",
            {
                "backbone": name,
                "groups alike": lambda row: f"{row['n_groups']:,}",
                "to spare": lambda row: f"{row['n_surplus']:,}",
                "apart": lambda row: f"{row['n_beyond']:,} of {row['n']:,}",
            },
            record["likeness"],
        )
