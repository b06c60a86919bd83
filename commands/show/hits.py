"""Hits of a query as a table for the command line. This is no stage."""

from collections.abc import Collection, Mapping, Sequence

from deponij.commands.show.tables import Columns, show_lines, show_table, show_toy_note
from deponij.pipeline.reports.provenance import is_toy, marked
from deponij.project.indexes import Hit

# Columns that tell items apart before all others; of the rest as many as find room.
_FIRST = ("label", "category", "supercategory", "image_id")
_HIDDEN = ("phash", "given")
_N_COLUMNS = 6


def print_answers(
    answers: Mapping[str, Sequence[Hit]], backbone: str, toys: Collection[str], *, is_filtered: bool
) -> None:
    """Hits by what was asked, which is told where there are several questions."""
    for asked, hits in answers.items():
        if len(answers) > 1:
            show_lines(asked)
        if hits:
            print_hits(hits, backbone, toys)
        else:
            show_lines("nothing was found" + (": no item fulfils the filter" if is_filtered else ""))


def print_hits(hits: Sequence[Hit], backbone: str, toys: Collection[str]) -> None:
    """Score, item and what is known of it; below them, whether the answer is a toy's."""
    names = [name for name in hits[0].metadata if name not in _HIDDEN]
    names = sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))[:_N_COLUMNS]
    columns: Columns[Hit] = {
        "score": lambda hit: f"{hit.score:.3f}",
        "item": lambda hit: hit.item_id,
        **{name: lambda hit, name=name: hit.metadata[name] for name in names},  # type: ignore[misc]
        **({"folded": lambda hit: len(hit.folded)} if any(hit.folded for hit in hits) else {}),
    }
    # What tells least goes first where it is narrow.
    spare = [name for name in reversed(names) if name not in _FIRST[:2]]
    title = f"{len(hits)} items by {marked(backbone, is_toy(backbone, toys))}"
    show_table(title, columns, hits, spare=spare)
    show_toy_note([backbone], toys)
