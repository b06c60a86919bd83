"""Stage `answers`: which of the classes that the profile names each picture shows, by words alone.

    python -m deponij.stages.answers

Tables as Parquet and CSV, of each backbone that knows words. Nothing is learned and nothing is scored.
"""

from collections import Counter
from pathlib import Path

from pydantic import Field

from deponij.project.frame.console import say
from deponij.project.frame.csv_files import csv_bytes
from deponij.project.frame.harness import run_stage
from deponij.project.frame.lacking import NeededClasses, leave_empty
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section, Slug
from deponij.project.learning.zero_shot_answers import COLUMNS, answer, check_classes
from deponij.store.atomic import write_bytes, write_table
from deponij.store.errors import UsageError


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    text_backbones: list[Slug]
    classes: NeededClasses = Field(default_factory=list)


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every backbone of the profile that knows words."""
    check_classes(params.classes)
    if not params.text_backbones:
        raise UsageError(
            f"classes ({', '.join(params.classes)}) are asked for in words, and text_backbones names no backbone that "
            "knows words; add one, such as siglip-base-16, or write `classes: []`"
        )
    leave_empty(_outs(at))
    for backbone in params.text_backbones:
        answers = answer(at.view(backbone), at.texts(backbone), at.items, params.classes)
        write_table(at.answers(backbone), answers.to_table())
        rows = answers.table.to_pylist()
        rounded = [
            {name: round(v, 6) if isinstance(v, float) else v for name, v in row.items()} for row in rows
        ]
        write_bytes(at.answers(backbone).with_suffix(".csv"), csv_bytes(rounded, COLUMNS.names))
        counts = Counter(answers.table["answer"].to_pylist())
        told = ", ".join(f"{name} {counts[name]}" for name in answers.classes)
        say(f"answers {backbone}: {told} -> {at.answers(backbone).with_suffix('.csv')}")


def _outs(at: Layout) -> list[Path]:
    return [at.answers("any").parent]


if __name__ == "__main__":
    run_stage("answers", Params, main, outs=_outs)
