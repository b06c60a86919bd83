"""A run in one record: its results, where features lie, how long it took, how to go on.

What `deponij run` and `deponij results` show, and print as JSON. How it looks in a terminal is the business of
`commands.show`.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence, Set
from pathlib import Path
from typing import Any

from deponij.pipeline.advice.records import ADVICE
from deponij.pipeline.likeness.records import LIKENESS
from deponij.pipeline.reports.segmentation.table import SegmentationTable, segmentation_tables
from deponij.pipeline.reports.table import ResultGroup, result_groups
from deponij.project.frame.harness import read_times
from deponij.project.frame.layout import Layout
from deponij.project.frame.toys import toys_of
from deponij.project.learning.result_files import read_result
from deponij.project.learning.zero_shot_answers import read_answers
from deponij.project.report.inputs import parts_told, read_records
from deponij.project.report.multilabel import read_groups_of_rows
from deponij.project.report.outlook import twice_as_many
from deponij.project.segmentation.result_files import read_segmentation
from deponij.store.index_folder import CARD
from deponij.store.items import Items
from deponij.store.view import View

Record = dict[str, Any]
PAGE_NAME = "page.html"
MARKDOWN_NAME = "results.md"
RESULTS_NAME = "results.json"
SHEET_NAME = "sheet.png"
CELLS_NAME = "cells.json"


def results_table(results: Sequence[Path], toys: Set[str] = frozenset()) -> list[ResultGroup]:
    """The rows of results folders, grouped by split and labels, baselines first; toys are marked.

    Raises:
        StoreError: a folder holds no results, or damaged ones.
    """
    read = [read_result(folder) for folder in results]
    return result_groups([one for one, _ in read], toys, [answers for _, answers in read])


def collect(
    at: Layout,
    depot: str | None = None,
    backbones: Collection[str] | None = None,
    *,
    is_current: Callable[[str, Collection[str] | None], bool],
    is_meant: bool = False,
) -> Record:
    """Everything worth seeing of a run: rows of results, where features lie, times, pages, how to search.

    Args:
        backbones: those to show; None for all that have left something.
        is_current: whether a time's label is that of a stage that there is, with one of these backbones.
        is_meant: commands take this run where none is named (`deponij.project.meant`).

    Raises:
        StoreError: there are no items or results are damaged.
    """
    items = Items(at.items)
    toys = toys_of(at.weights)
    groups = results_table([*at.results(backbones), *at.ensemble_results(backbones)], toys)
    several = read_groups_of_rows(at.multilabel_results(backbones), toys)
    paths = sorted(at.root.glob("views/*.h5"))
    views = [View(path) for path in paths if backbones is None or path.stem in backbones]
    failed = {*items.failures, *(pair for view in views for pair in view.failures)}
    indexes = _indexes(at, backbones, toys)
    return {
        "root": str(at.root),
        "depot": depot,
        "n_items": len(items),
        "n_failed": len(failed),
        "parts": parts_told(items, at.scenes if at.segmentations() else None),
        "results": [row.to_json() for group in groups for row in group.rows],
        "multilabel": [row.to_json() for group in several for row, _ in group],
        "segmentation": [table.model_dump(mode="json") for table in _segmentation(at, toys)],
        "twice": twice_as_many(at, groups),
        "toys": sorted(toys),
        "views": [
            {
                "backbone": view.backbone,
                "view": str(view.path),
                "kind": view.kind,
                "n": len(view),
                "fingerprint": view.fingerprint,
            }
            for view in views
        ],
        "seconds": read_times(at.timings, lambda label: is_current(label, backbones)),
        "page": str(at.report / PAGE_NAME) if (at.report / PAGE_NAME).is_file() else None,
        "sheet": str(at.report / SHEET_NAME) if (at.report / SHEET_NAME).is_file() else None,
        "likeness": [_likeness(path) for path in _of(at.likeness, backbones)],
        "answers": [_answers(path) for path in _of(at.answers, backbones)],
        "indexes": indexes,
        "advice": _advice(at),
        "ask": _ask(indexes, items.ids, {item_id for item_id, _ in failed}, str(at.root), is_meant=is_meant),
    }


def _segmentation(at: Layout, toys: Set[str]) -> list[SegmentationTable]:
    results = [(str(folder), read_segmentation(folder)) for folder in at.segmentations()]
    return segmentation_tables(results, toys)


def _of(place: Callable[[str], Path], backbones: Collection[str] | None) -> list[Path]:
    """The files that there are (of these backbones)."""
    any_path = place("any")
    found = sorted(any_path.parent.glob(f"*{any_path.suffix}"))
    return [path for path in found if backbones is None or path.stem in backbones]


def _likeness(path: Path) -> Record:
    """Counts of what is alike and what stands apart."""
    (found,) = LIKENESS.load(path.read_bytes(), str(path))
    kept = ("backbone", "n", "n_groups", "n_surplus", "n_beyond", "notes")
    return {**found.model_dump(mode="json", include=set(kept)), "file": str(path)}


def _answers(path: Path) -> Record:
    """How often each class was the answer."""
    found = read_answers(path)
    counts = Counter(found.table["answer"].to_pylist())
    return {
        "backbone": found.backbone,
        "n": {name: counts[name] for name in found.classes},
        "table": str(path.with_suffix(".csv")),
    }


def _advice(at: Layout) -> list[str]:
    """What to do next, a line each; nothing where no advice was given yet."""
    if not at.advice_file.is_file():
        return []
    (found,) = read_records([at.advice_file], ADVICE, "advice")
    return [one.title for one in found.findings]


def _indexes(at: Layout, backbones: Collection[str] | None, toys: Collection[str]) -> list[Record]:
    """The indexes that there are (of these backbones), in their order."""
    names = sorted(path.parent.name for path in at.indexes.glob(f"*/{CARD}"))
    if backbones is not None:
        names = [name for name in backbones if name in names]
    return [
        {
            "backbone": name,
            "index": str(at.index(name)),
            "has_texts": at.texts(name).is_file(),
            "is_toy": name in toys,
        }
        for name in names
    ]


def _ask(
    indexes: Sequence[Record], ids: Sequence[str], failed: Collection[str], root: str, *, is_meant: bool
) -> list[str]:
    """Commands to go on with: a query, in words where a backbone that is no toy knows them, and the server."""
    if not indexes:
        return []
    best = max(indexes, key=lambda index: (not index["is_toy"], index["has_texts"]))
    of_run = "" if is_meant else f" --run {shlex.quote(root)}"
    what = 'text "WORDS"'
    if not best["has_texts"]:
        what = f"item {shlex.quote(next((one for one in ids if one not in failed), 'ID'))}"
    return [f"deponij query {what}{of_run}", f"deponij serve{of_run}"]
