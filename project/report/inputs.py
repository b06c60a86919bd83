"""What the page is made of, read from files: splits, views, curves, maps, mistakes and retrieval.

This is no stage. A file that is named must be there and sound; what is not named is not on the page.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from deponij.pipeline.metrics.evaluation import PARTS
from deponij.pipeline.record_lists import RecordList, parsed, told
from deponij.pipeline.reports.embedding_map import Embedding
from deponij.pipeline.reports.page import FeatureFacts, SplitFacts
from deponij.store.atomic import read_table
from deponij.store.errors import StoreError
from deponij.store.items import Items
from deponij.store.scenes import Scenes
from deponij.store.sealed import read_sealed
from deponij.store.texts import in_percent
from deponij.store.view import View

R = TypeVar("R")
# Names of the layouts, and their columns in a map's table.
_LAYOUTS = {"PCA": ("pca_x", "pca_y"), "t-SNE": ("tsne_x", "tsne_y")}


def parts_told(items: Items, scenes: Path | None) -> list[str]:
    """Of items and scenes that are not all of their data set, what is said of it."""
    told = [items.part, None if scenes is None else Scenes(scenes).items.part]
    return [one for one in told if one is not None]


class _SplitReport(BaseModel):
    """What the page tells of a split."""

    strategy: str
    n: dict[str, int]
    leakage_summary: str
    notes: tuple[str, ...]
    n_folds: int = 0


def split_facts(path: Path) -> SplitFacts:
    """What the stage `split` wrote about a split.

    Raises:
        StoreError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise StoreError(f"there is no report of a split at {path}")
    remedy = "run the stage that splits again"
    try:
        report = parsed(_SplitReport, json.dumps(read_sealed(path, remedy)))
    except ValueError as error:
        raise StoreError(f"{path} is no report of a split: {told(error)}; {remedy}") from error
    if missing := sorted(set(PARTS) - set(report.n)):
        raise StoreError(f"{path} is no report of a split: it does not count {missing}; {remedy}")
    leaks = "" if report.n_folds else report.leakage_summary
    return SplitFacts(path.stem, report.strategy, report.n, leaks, report.notes, report.n_folds)


def feature_facts(path: Path) -> tuple[FeatureFacts, list[tuple[str, str]]]:
    """A view's facts and failures.

    Raises:
        StoreError: there is no view, or it is damaged.
    """
    view = View(path)
    facts = FeatureFacts(
        backbone=view.backbone,
        path=str(path),
        kind=view.kind,
        # Dense maps stay in the depot; the view knows only how many there are.
        shape=view.embedding.shape if view.array_names else (len(view),),
        fingerprint=view.fingerprint,
        identity=json.loads(view.identity.to_json()),
        n_failed=len(view.failures),
    )
    return facts, view.failures


def read_records(paths: Sequence[Path], records: RecordList[R], what: str) -> list[R]:
    """The records of several files, one after the other.

    Raises:
        StoreError: a file is missing or damaged.
    """
    return [one for path in paths for one in records.load(_bytes(path, what), str(path))]


def read_embedding(path: Path) -> tuple[Embedding, str]:
    """One backbone's map, with how it was computed in words.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise StoreError(f"there is no map at {path}; the stage that makes maps has not run")
    table = read_table(path)
    wanted = {"item_id", *(column for columns in _LAYOUTS.values() for column in columns)}
    if missing := sorted(wanted - set(table.column_names)):
        raise StoreError(f"{path} is no map: it lacks the columns {missing}")
    kinds = dict.fromkeys(wanted, pa.float32()) | {"item_id": pa.string()}
    strange = [name for name in sorted(wanted) if table[name].type != kinds[name]]
    if strange or table["item_id"].null_count:
        raise StoreError(
            f"{path} is no map: its columns {strange or ['item_id']} do not hold what they should"
        )
    # Items that were not laid out have nulls, which become NaN.
    layouts = {
        name: np.column_stack([np.array(table[column], dtype=np.float64) for column in columns])
        for name, columns in _LAYOUTS.items()
    }
    facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    ids = np.array(table["item_id"].to_pylist(), dtype=np.str_)
    embedding = Embedding(
        facts.get("backbone", path.stem),
        facts.get("fingerprint", ""),
        ids,
        {name: places for name, places in layouts.items() if np.isfinite(places).any()},
    )
    return embedding, _settings(facts.get("settings", "{}"))


def labels_of(table: Items, column: str) -> dict[str, str]:
    """Each labelled item's class; none where the items have no such column."""
    if column not in table.column_names:
        return {}
    pairs = zip(table.ids, table.column(column), strict=True)
    return {item_id: str(value) for item_id, value in pairs if value is not None}


def _bytes(path: Path, what: str) -> bytes:
    if not path.is_file():
        raise StoreError(f"there are no {what} at {path}; the stage that makes them has not run")
    return path.read_bytes()


def _settings(kept: str) -> str:
    """How a map was computed, in words; empty where the file does not say."""
    try:
        found = json.loads(kept)
        first, second = found["pca_explained"]
        said = (
            f"the two principal components hold {in_percent(first)} and {in_percent(second)} of the variance"
        )
        if found["perplexity"] is None:
            return said
        return f"{said}; t-SNE of {found['n_tsne']:,} items at perplexity {found['perplexity']:.3g}"
    except (ValueError, KeyError, TypeError):
        return ""
