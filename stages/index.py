"""Stage `index`: each view's vectors and what is known of their items, made searchable.

    python -m deponij.stages.index

An approximate index that is there already and was made by the same parameters is kept: new items are added to it,
gone ones deleted. It is built anew when more than a third of it has changed. An exact one is always written anew,
so that equal items give equal bytes. For the same reason no file of the index holds a time: recall is kept in it and
in the metrics, latency among the timings, which are facts about a machine.
"""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from deponij.pipeline.retrieval.choosing import AUTO, build_chosen
from deponij.pipeline.retrieval.choosing import latency as latency_ms
from deponij.pipeline.retrieval.vector_index import VectorIndex, set_threads
from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage, write_metrics
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Section, Slug
from deponij.project.indexes import check_embedding, rows_table
from deponij.store.atomic import write_bytes
from deponij.store.errors import StoreError
from deponij.store.index_folder import CARD, ROW, IndexCard, IndexFolder, read_card, write_index
from deponij.store.items import Items
from deponij.store.texts import in_percent
from deponij.store.view import View

# A graph or lists that were learned from other vectors lose recall; deleted rows are still walked past.
_STALE_SHARE = 1 / 3
_N_TIMED = 200


class IndexParams(Section):
    """How the type of an index is chosen; see `deponij.pipeline.retrieval.choosing`.

    Attributes:
        kind: `auto`, or a type (flat, hnsw, ivf, ivfpq).
        recall: recall@10 on held-out queries that an approximate type must reach.
        exact_up_to: vectors up to which `auto` is exact.
        n_queries: held out for measuring, at most; a tenth of the vectors where these are few.
        seed: of their choice and of what a type learns.
    """

    kind: str = AUTO
    recall: float = Field(default=0.95, gt=0, le=1)
    exact_up_to: int = Field(default=100_000, ge=0)
    n_queries: int = Field(default=1000, ge=10, le=100_000)
    seed: int = Field(default=0, ge=0)


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of backbones and splits only their names."""

    splits: dict[Slug, Any]
    labels: list[str]
    index: IndexParams = IndexParams()


class IndexReport(Section):
    """What was made.

    Attributes:
        kind, settings, effort: that were chosen.
        n: items.
        n_added, n_deleted, n_rebuilt: of them, those that this run put in, took out, built in one go.
        recall_at_10: of the chosen setting on n_queries held-out queries; None without any.
        p50_ms, p99_ms: of one search with it.
        measured: the chosen setting and its neighbours, with times where they were measured in this run.
        seconds: of the whole run.
        size_bytes: of the FAISS file.
    """

    backbone: str
    fingerprint: str
    path: str
    kind: str
    settings: dict[str, int]
    effort: dict[str, int]
    n: int
    dim: int
    n_added: int
    n_deleted: int
    n_rebuilt: int
    recall_at_10: float | None
    p50_ms: float
    p99_ms: float
    n_queries: int
    measured: list[dict[str, Any]]
    seconds: float
    size_bytes: int


def run(
    params: IndexParams,
    *,
    features: Path,
    items: Path,
    out: Path,
    splits: Mapping[str, Path] | None = None,
    metrics: Path | None = None,
    latency: Path | None = None,
    threads: int = 0,
    rebuild: bool = False,
) -> IndexReport:
    """Make or bring up to date the index of a view.

    Args:
        features: a view of kind `embedding`.
        items: the folder of items it was made from.
        out: folder of the index.
        splits: name -> table, each a column `split_NAME` to filter by.
        metrics: JSON file for the numbers.
        latency: one for the whole report, with this machine's times.
        threads: of FAISS; 0 is one per core.
        rebuild: from nothing, even where an index could be brought up to date.

    Raises:
        UsageError: the view holds no vectors, or no such type.
        DataError: values that are not finite, or a recall that is not reached.
        StoreError: the view was made from other items, or the folder cannot be written.
    """
    start = time.perf_counter()
    set_threads(threads or RunOptions().n_threads)
    view, table = View(features), Items(items)
    check_embedding(view)
    old = None if rebuild else _usable(out, view, params)
    if old is not None:
        made = _brought_up_to_date(old, out, view, table, splits or {})
    else:
        made = _made(params, out, view, table, splits or {})
    report = IndexReport(path=str(out), seconds=round(time.perf_counter() - start, 3), **made)
    if metrics is not None:
        write_bytes(metrics, _json(_facts(report)))
    if latency is not None:
        write_bytes(latency, _json(report.model_dump()))
    return report


def _made(
    params: IndexParams, out: Path, view: View, items: Items, splits: Mapping[str, Path]
) -> dict[str, Any]:
    """Build one; what was made, as fields of the report."""
    # What does not fit is said before anything is built.
    rows_table(view, np.arange(len(view)), items, splits)
    built = build_chosen(view.embedding, **params.model_dump(), say=say)
    rows = rows_table(view, built.order, items, splits)
    report = {"n_queries": built.n_queries, "measured": [one.facts() for one in built.measured]}
    card = _written(out, view, built.index, rows, params.model_dump(), report)
    chosen = next((one for one in built.measured if one.chosen), None)
    times_ms = _times_ms(built.index) if chosen is None else (chosen.p50_ms, chosen.p99_ms)
    measured = [one.to_json() for one in built.measured]
    return _facts_of(card, measured, times_ms, n_rebuilt=len(view))


def _times_ms(index: VectorIndex) -> tuple[float, float]:
    """Of searching by vectors that are in it, which says nothing of recall."""
    rows = np.random.default_rng(0).permutation(index.n_rows)[:_N_TIMED]
    return latency_ms(index, index.vectors(np.sort(rows)))


def _written(
    out: Path,
    view: View,
    index: VectorIndex,
    rows: pa.Table,
    params: Mapping[str, Any],
    report: Mapping[str, Any],
) -> IndexCard:
    return write_index(
        out,
        index.save,
        rows,
        identity=view.identity,
        backbone=view.backbone,
        kind=index.kind.name,
        settings=index.settings,
        effort=dict(index.effort),
        n_rows=index.n_rows,
        n_items=rows.num_rows,
        dim=index.dim,
        params=dict(params),
        report=dict(report),
    )


def _usable(out: Path, view: View, params: IndexParams) -> IndexFolder | None:
    """The index that is there, if it can be added to."""
    if not (out / CARD).is_file():
        return None
    try:
        folder = IndexFolder(out)
    except StoreError as error:
        say(f"note: {error}; it is built anew")
        return None
    card = folder.card
    if card.backbone != view.backbone:
        say(f"note: {out} was an index of {card.backbone}; it becomes one of {view.backbone}")
    if card.kind == "flat" or card.identity != view.identity or dict(card.params) != params.model_dump():
        return None
    if folder.damage():
        say(f"note: {out} is damaged; it is built anew")
        return None
    old = folder.rows(["item_id", "key"])
    before = set(zip(old["item_id"].to_pylist(), old["key"].to_pylist(), strict=True))
    now = set(zip(view.ids.tolist(), view.keys.tolist(), strict=True))
    n_dead = card.n_rows - len(before & now)
    is_stale = n_dead + len(now - before) > _STALE_SHARE * card.n_rows
    return None if is_stale else folder


def _brought_up_to_date(
    old: IndexFolder, out: Path, view: View, items: Items, splits: Mapping[str, Path]
) -> dict[str, Any]:
    card = old.card
    table = old.rows([ROW, "item_id", "key"])
    known = {
        (item_id, key): row
        for row, item_id, key in zip(*(table[n].to_pylist() for n in (ROW, "item_id", "key")), strict=True)
    }
    pairs = list(zip(view.ids.tolist(), view.keys.tolist(), strict=True))
    fresh = np.array([place for place, pair in enumerate(pairs) if pair not in known], np.int64)
    index = VectorIndex.load(old.vectors_path, card.kind, card.settings, card.effort)
    added = index.add(view.read(view.ids[fresh].tolist())) if len(fresh) else np.empty(0, np.int64)
    row_of = np.array([known.get(pair, -1) for pair in pairs], np.int64)
    row_of[fresh] = added
    order: NDArray[np.int64] = np.argsort(row_of, kind="stable")
    rows = rows_table(view, order, items, splits)
    rows = rows.set_column(0, ROW, pa.array(row_of[order]))
    n_deleted = len(known) - (len(pairs) - len(fresh))
    if len(fresh):
        made = _written(out, view, index, rows, card.params, card.report)
    else:
        kept = {one.name: getattr(card, one.name) for one in fields(card)} | {"n_items": rows.num_rows}
        made = write_index(out, kept.pop("vectors"), rows, **{n: kept[n] for n in kept if n != "rows"})
    measured = list(made.report.get("measured", ()))
    return _facts_of(made, measured, _times_ms(index), n_added=len(fresh), n_deleted=n_deleted)


def _facts_of(
    card: IndexCard,
    measured: list[dict[str, Any]],
    times_ms: tuple[float, float],
    *,
    n_added: int = 0,
    n_deleted: int = 0,
    n_rebuilt: int = 0,
) -> dict[str, Any]:
    """Of an index that was written; times: median and 99th percentile of one search, ms."""
    chosen: Mapping[str, Any] = next((one for one in measured if one["chosen"]), {})
    return {
        "backbone": card.backbone,
        "fingerprint": card.fingerprint,
        "kind": card.kind,
        "settings": dict(card.settings),
        "effort": dict(card.effort),
        "n": card.n_items,
        "dim": card.dim,
        "n_added": n_added,
        "n_deleted": n_deleted,
        "n_rebuilt": n_rebuilt,
        "recall_at_10": chosen.get("recall_at_10"),
        "p50_ms": round(times_ms[0], 4),
        "p99_ms": round(times_ms[1], 4),
        "n_queries": int(card.report.get("n_queries", 0)),
        "measured": measured,
        "size_bytes": card.vectors.size_bytes,
    }


def _facts(report: IndexReport) -> dict[str, Any]:
    """What equal items give again; DVC compares it, so nested settings and times are left out."""
    facts = {name: getattr(report, name) for name in ("kind", "n", "recall_at_10", "n_queries")}
    others = {
        " ".join([one["kind"], *(f"{name}={value}" for name, value in one["effort"].items())]): one[
            "recall_at_10"
        ]
        for one in report.measured
        if not one["chosen"]
    }
    return {**facts, "neighbours": others} if others else facts


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()


class Verification(Section):
    """What reading an index whole found."""

    path: str
    kind: str
    n: int
    size_bytes: int
    problems: list[str]


def verify(path: Path) -> Verification:
    """Read every byte of an index and see that it is what was written.

    Raises:
        StoreError: there is no index, or its sidecar is damaged.
    """
    card = read_card(path)
    try:
        folder = IndexFolder(path)
        problems = folder.damage() or _misfits(folder)
    except StoreError as error:
        problems = [str(error)]
    return Verification(
        path=str(path), kind=card.kind, n=card.n_items, size_bytes=card.vectors.size_bytes, problems=problems
    )


def _misfits(folder: IndexFolder) -> list[str]:
    """Whether two sound files belong together."""
    card = folder.card
    index = VectorIndex.open(folder.vectors_path, card.kind, card.settings, card.effort)
    rows = folder.rows([ROW, "item_id"])
    problems = []
    if (index.n_rows, index.dim) != (card.n_rows, card.dim):
        problems.append(
            f"{folder.vectors_path} holds {index.n_rows} x {index.dim} vectors, not what its card says"
        )
    numbers = rows[ROW].to_numpy()
    if len(np.unique(numbers)) != len(numbers) or (
        len(numbers) and not 0 <= numbers.min() <= numbers.max() < index.n_rows
    ):
        problems.append(f"{folder.rows_path} has rows that are not in the FAISS file, or twice")
    if len(set(rows["item_id"].to_pylist())) != rows.num_rows:
        problems.append(f"{folder.rows_path} names items twice")
    return problems


def summary(report: IndexReport) -> str:
    """One line for a person."""
    updated = f"{report.n_added} added, {report.n_deleted} deleted"
    changed = f"{report.n_rebuilt} built" if report.n_rebuilt else updated
    recall, n = report.recall_at_10, report.n_queries
    how = "" if recall is None else f", recall@10 {in_percent(recall)} on {n} held-out queries"
    how += f", p50 {report.p50_ms:.2f} ms, p99 {report.p99_ms:.2f} ms"
    return f"{report.backbone}: {report.kind} index of {report.n} x {report.dim} ({changed}){how} -> {report.path}"


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every backbone of the profile; indexes of others that lie there go."""
    for folder in at.indexes.iterdir() if at.indexes.is_dir() else ():
        if folder.name not in params.backbones:
            shutil.rmtree(folder)
    numbers = {}
    # Without labels nothing was split.
    splits = {name: at.split(name) for name in params.splits if params.labels}
    for backbone in params.backbones:
        report = run(
            params.index,
            features=at.view(backbone),
            items=at.items,
            out=at.index(backbone),
            splits=splits,
            latency=at.latency(backbone),
            threads=options.threads,
        )
        numbers[backbone] = _facts(report)
        say(summary(report))
    write_metrics(at, "index", numbers)


if __name__ == "__main__":
    run_stage("index", Params, main)
