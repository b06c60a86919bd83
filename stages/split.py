"""Stage `split`: items in, a table of parts out, and what leaks between the parts.

python -m deponij.stages.split NAME     (a key of `splits` in params.yaml)
"""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from deponij.pipeline.data.splitting.leakage import leakage_report
from deponij.pipeline.data.splitting.strategies import PARTS, SplitParams, make_split
from deponij.project.frame.console import say
from deponij.project.frame.harness import layout, run_stage
from deponij.project.frame.settings import Section, Slug, load
from deponij.store.atomic import write_bytes, write_table
from deponij.store.errors import UsageError
from deponij.store.items import Items


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    splits: dict[Slug, SplitParams]


class SplitResult(BaseModel):
    """A split and what is known about it; `leakage` is `deponij.pipeline.data.splitting.leakage.Leakage` as JSON."""

    split: str
    strategy: str
    seed: int
    n: dict[str, int]
    n_outside: int
    leakage: dict[str, Any]
    leakage_summary: str
    notes: list[str]


def run(params: SplitParams, *, items: Path, out: Path) -> SplitResult:
    """Write a split table with the columns `item_id` and `part`.

    Raises:
        DeponijError: the items lack a column that the strategy needs, or cannot be split so.
    """
    table = Items(items).table()
    columns = {name: table[name].to_pylist() for name in table.column_names}
    split = make_split(columns, params)
    parts = [None if part is None else str(part) for part in split.parts]
    leakage = leakage_report(columns["item_id"], parts, columns["image_id"], columns["phash"])
    written = pa.table({"item_id": pa.array(columns["item_id"]), "part": pa.array(parts, pa.string())})
    write_table(out, written)
    return SplitResult(
        split=str(out),
        strategy=params.strategy,
        seed=params.seed,
        n={name: parts.count(name) for name in PARTS},
        n_outside=parts.count(None),
        leakage=leakage.to_json(),
        leakage_summary=leakage.summary,
        notes=list(split.notes),
    )


def summary(result: SplitResult) -> str:
    """A few lines for a person."""
    sizes = ", ".join(f"{name} {count}" for name, count in result.n.items())
    lines = [
        f"{result.strategy}: {sizes}, outside {result.n_outside} -> {result.split}",
        f"  {result.leakage_summary}",
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


def main(key: str) -> None:
    """Under DVC: one split of the profile in force."""
    params = load(Params)
    if key not in params.splits:
        raise UsageError(f"the profile has no split {key!r}; it has {', '.join(params.splits)}")
    at = layout()
    result = run(params.splits[key], items=at.items, out=at.split(key))
    write_bytes(at.split_report(key), json.dumps(result.model_dump(mode="json"), indent=2).encode())
    write_bytes(at.metrics("split", key), json.dumps(_numbers(result), indent=1).encode())
    say(summary(result))


if __name__ == "__main__":
    run_stage(f"split@{sys.argv[1]}", lambda: main(sys.argv[1]))
