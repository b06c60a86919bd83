"""Stage `split`: items in, a table of parts for each split out, and what leaks between the parts.

python -m deponij.stages.split
"""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, Field

from deponij.pipeline.data.splitting.leakage import leakage_report
from deponij.pipeline.data.splitting.strategies import SplitParams, make_split
from deponij.pipeline.metrics.evaluation import FOLD, PARTS
from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage, write_metrics
from deponij.project.frame.lacking import AnyLabels
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section, Slug
from deponij.store.atomic import write_bytes, write_table
from deponij.store.errors import UsageError
from deponij.store.items import Items
from deponij.store.sealed import sealed


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    splits: dict[Slug, SplitParams]
    labels: AnyLabels
    label_sets: list[str] = Field(default_factory=list)


class SplitResult(BaseModel):
    """A split and what is known about it; `leakage` is `deponij.pipeline.data.splitting.leakage.Leakage` as JSON."""

    strategy: str
    seed: int
    n: dict[str, int]
    n_outside: int
    n_folds: int = 0
    leakage: dict[str, Any]
    leakage_summary: str
    notes: list[str]


def run(params: SplitParams, *, items: Path, out: Path) -> SplitResult:
    """Write a split table with the columns `item_id`, `part` and `group`, whose items are not independent.

    A split of folds has a column `fold` too, from 0, and every item of the pool is in the part `test`.

    Raises:
        DeponijError: the items lack a column that the strategy needs, or cannot be split so.
    """
    table = Items(items).table()
    columns = {name: table[name].to_pylist() for name in table.column_names}
    if params.group_by not in columns:
        known = ", ".join(sorted(columns))
        raise UsageError(f"the items have no column {params.group_by!r} to group by; they have {known}")
    split = make_split(columns, params)
    parts = [None if part is None else str(part) for part in split.parts]
    leakage = leakage_report(columns["item_id"], parts, columns["image_id"], columns["phash"])
    groups = pa.array(table[params.group_by].cast(pa.string()))
    written = {"item_id": columns["item_id"], "part": pa.array(parts, pa.string()), "group": groups}
    if split.folds is not None and split.groups is not None:
        written["group"] = pa.array(split.groups.tolist(), pa.string())
        written[FOLD] = pa.array([None if fold < 0 else fold for fold in split.folds.tolist()], pa.int64())
    write_table(out, pa.table(written))
    return SplitResult(
        strategy=params.strategy,
        seed=params.seed,
        n={name: parts.count(name) for name in PARTS},
        n_outside=parts.count(None),
        n_folds=0 if split.folds is None else int(split.folds.max()) + 1,
        leakage=leakage.to_json(),
        leakage_summary=leakage.summary,
        notes=list(split.notes),
    )


def summary(result: SplitResult) -> str:
    """A few lines for a person."""
    sizes = ", ".join(f"{name} {count}" for name, count in result.n.items())
    if result.n_folds:
        sizes = f"{result.n['test']} items, each tested once"
    lines = [
        f"{result.strategy}: {sizes}, outside {result.n_outside}",
        *([] if result.n_folds else [f"  {result.leakage_summary}"]),
        *(f"  {note}" for note in result.notes),
    ]
    return "\n".join(lines)


def _numbers(result: SplitResult) -> dict[str, float]:
    """What `dvc metrics show` compares."""
    leakage = result.leakage
    return {
        **{f"n_{part}": count for part, count in result.n.items()},
        "test_sharing_share": round(leakage["test_sharing_share"], 6),
        "n_near_pairs": leakage["n_near_pairs"],
        "n_test_near_train": leakage["n_test_near_train"],
    }


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every split of the profile."""
    shutil.rmtree(at.splits, ignore_errors=True)
    numbers = {}
    for name, split in params.splits.items():
        result = run(split, items=at.items, out=at.split(name))
        write_bytes(at.split_report(name), sealed(result.model_dump(mode="json")))
        numbers[name] = _numbers(result)
        say(summary(result))
    write_metrics(at, "split", numbers)


def _outs(at: Layout) -> list[Path]:
    return [at.splits, at.metrics("split")]


if __name__ == "__main__":
    run_stage("split", Params, main, outs=_outs)
