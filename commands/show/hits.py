"""Hits of a query as a table for the command line. This is no stage."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from deponij.project.indexes import Hit

# Columns that tell items apart before all others; of the rest as many as find room.
_FIRST = ("label", "category", "supercategory", "image_id")
_HIDDEN = ("phash", "given")
_N_COLUMNS = 6
stdout = Console(highlight=False)
if not stdout.is_terminal:
    # A pipe or a log has no width of its own.
    stdout = Console(highlight=False, width=132)


def print_hits(hits: Sequence[Hit], backbone: str) -> None:
    """Score, item and what is known of it."""
    table = Table(title=f"{len(hits)} items by {backbone}", title_justify="left")
    table.add_column("score", justify="right")
    table.add_column("item", overflow="fold")
    names = [name for name in hits[0].metadata if name not in _HIDDEN]
    names = sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))[:_N_COLUMNS]
    for name in names:
        table.add_column(name)
    has_folded = any(hit.folded for hit in hits)
    if has_folded:
        table.add_column("folded", justify="right")
    for hit in hits:
        values = ["" if hit.metadata[name] is None else str(hit.metadata[name]) for name in names]
        table.add_row(
            f"{hit.score:.4f}", hit.item_id, *values, *([str(len(hit.folded))] if has_folded else [])
        )
    stdout.print(table)
