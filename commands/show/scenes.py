"""How scenes that were made look in a terminal."""

from collections.abc import Callable
from pathlib import Path

from deponij.commands.show.tables import counted, percent, show_lines, show_notes, show_table
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.stages.scenes import ClassShare, ScenesResult


def show_scenes(result: ScenesResult, out: Path) -> None:
    """Classes with their shares by part, how much is void, and what was left out."""
    n = sum(result.n.values())
    sizes = ", ".join(f"{part} {count:,}" for part, count in result.n.items() if count or part in PARTS)
    void = ClassShare(name="void, of all pixels", words="", shares=dict(result.void))
    show_table(
        f"{counted(n, 'scene')}: {sizes}; percent of the pixels that are not void",
        {
            "class": lambda row: row.name,
            "in texts": lambda row: row.words,
            **{part: _share(part) for part in result.void},
        },
        [*result.classes, void],
        section=lambda row: row is void,
        spare=["in texts"],
    )
    for item_id, why in result.failures.items():
        show_lines(f"left out: {item_id}: {why}")
    if result.n_failed > len(result.failures):
        show_lines(f"left out: {result.n_failed - len(result.failures):,} more")
    show_notes(result.notes)
    show_lines(f"-> {out}")


def _share(part: str) -> Callable[[ClassShare], str]:
    return lambda row: percent(row.shares.get(part))
