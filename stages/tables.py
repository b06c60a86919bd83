"""Stage `tables`: every table of results at once, over several seeds, from views alone.

    python -m deponij.stages.tables

Writes the cells, their Markdown, and the first seed's heads with their results folders. How a cell
is computed lives in `table_cells`. A learning rate that is not given is chosen on validation; test is
looked at once, for the cells.
"""

import hashlib
import shutil
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from deponij.pipeline.reports.cell_tables import render_markdown
from deponij.pipeline.reports.cells import CELLS, Cell
from deponij.project.frame.console import say
from deponij.project.frame.harness import layout, run_stage, write_metrics
from deponij.project.frame.lacking import NeededLabels
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Slug, load
from deponij.project.frame.toys import toys_of
from deponij.project.in_force import toys_beside
from deponij.project.tables.cells import compute
from deponij.project.tables.plan import Inputs, TablesParams, make_plan
from deponij.store.atomic import write_bytes
from deponij.store.errors import StoreError
from deponij.store.manifest import MANIFEST
from deponij.store.sealed import read_sealed

CELLS_NAME = "cells.json"
MARKDOWN_NAME = "tables.md"


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of backbones and splits only their names."""

    text_backbones: list[Slug]
    splits: dict[Slug, Any]
    labels: NeededLabels
    tables: TablesParams = TablesParams()


def run(
    params: TablesParams,
    inputs: Inputs,
    *,
    threads: int = 0,
    out: Path | None = None,
    results: Path | None = None,
) -> list[Cell]:
    """Compute all cells.

    Args:
        threads: of computing; 0 is one per core.
        out: folder for `cells.json` and `tables.md`; None writes neither.
        results: folder for the first seed's heads and their results, `KIND/BACKBONES/SPLIT-LABELS`.

    Raises:
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    cells = compute(make_plan(params, inputs, threads, results))
    if out is not None:
        write(out, cells, params, inputs, toys_beside(*inputs.features))
    return cells


def write(
    out: Path, cells: Sequence[Cell], params: TablesParams, inputs: Inputs, toys: Set[str] = frozenset()
) -> None:
    """Write the Markdown, toys marked, then the cells with what they were made from; equal cells give equal bytes."""
    made_from = {"digest": _digest(params, inputs), "params": params.model_dump(mode="json")}
    write_bytes(out / MARKDOWN_NAME, render_markdown(cells, "Tables of results", toys).encode())
    write_bytes(out / CELLS_NAME, CELLS.dump(cells, made_from=made_from))


def read(out: Path) -> list[Cell]:
    """The cells of a folder that `run` wrote.

    Raises:
        StoreError: there are none, or they are damaged.
    """
    path = out / CELLS_NAME
    if not path.is_file():
        raise StoreError(f"there are no tables in {out}: it has no {CELLS_NAME}; `deponij tables` makes them")
    return CELLS.load(path.read_bytes(), str(path))


def is_current(out: Path, params: TablesParams, inputs: Inputs) -> bool:
    """Whether a folder holds the tables of just these inputs and parameters."""
    try:
        digest = read_sealed(out / CELLS_NAME, "")["made_from"]["digest"]
    except (StoreError, KeyError, TypeError):
        return False
    return bool(digest == _digest(params, inputs))


def _digest(params: TablesParams, inputs: Inputs) -> str:
    """Of all bytes and parameters; the items stand for themselves by their manifest."""
    # Cells of a version that told less are not current.
    digest = hashlib.sha256(f"{params.model_dump_json()}{inputs.labels}{[*Cell.model_fields]}".encode())
    for path in (*inputs.features, *inputs.texts, *inputs.splits, inputs.items / MANIFEST):
        digest.update(f"{path.name}:{_sha256(path)}".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    """Of a file's bytes; one that is absent has none."""
    if not path.is_file():
        return hashlib.sha256().hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_profile(*, again: bool = False, threads: int = 0) -> list[Cell]:
    """The tables of the profile in force: as they lie there if nothing has changed since, else made anew.

    Raises:
        DeponijError: features or texts are missing, or as `run`.
    """
    params, at = load(Params), layout()
    if not again and is_current(at.tables, params.tables, _inputs(params, at)):
        return read(at.tables)
    return _make(params, at, threads or RunOptions.from_environment().threads)


def _inputs(params: Params, at: Layout) -> Inputs:
    return Inputs(
        features=tuple(at.view(backbone) for backbone in params.backbones),
        texts=tuple(at.texts(backbone) for backbone in params.text_backbones),
        items=at.items,
        splits=tuple(at.split(split) for split in params.splits),
        labels=tuple(params.labels),
    )


def _make(params: Params, at: Layout, threads: int) -> list[Cell]:
    inputs, results = _inputs(params, at), at.results_of("tables")
    plan = make_plan(params.tables, inputs, threads, results)
    # Of a backbone that has left the profile nothing may stay.
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    cells = compute(plan)
    write(at.tables, cells, params.tables, inputs, toys_of(at.weights))
    write_metrics(at, "tables", _metrics(cells))
    return cells


def _metrics(cells: Sequence[Cell]) -> dict[str, dict[str, dict[str, float]]]:
    """Top-1 by split, labels and model; DVC shows each number of this file as a column of its own."""
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for cell in cells:
        of_labels = metrics.setdefault(cell.split, {}).setdefault(cell.labels, {})
        of_labels[f"{cell.model}, {cell.head}"] = round(cell.top1, 6)
    return metrics


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Everything of the profile."""
    cells = _make(params, at, options.threads)
    say(f"{len(cells)} cells -> {at.tables / MARKDOWN_NAME}")


def _outs(at: Layout) -> list[Path]:
    return [at.tables, at.results_of("tables"), at.metrics("tables")]


if __name__ == "__main__":
    run_stage("tables", Params, main, outs=_outs)
