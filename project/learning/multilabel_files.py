"""A folder of multi-label results as it lies on disk: written, and read. What learns them: `multilabel`.

It holds `multilabel_result.json` (everything), `metrics.json` (numbers, for `dvc metrics`), `per_class.csv`,
`predictions.parquet` (truth and answer of each item, as lists), `logits.npy` (float32 [n, C] log-odds: rows as in
`predictions.parquet`, columns as `classes`) and the head (`multilabel.json`, `multilabel.safetensors`). It is a bundle
(`deponij.store.bundle`): replaced as a whole, and read against its manifest.

Shape letters: n items, C classes.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deponij.pipeline.metrics.multilabel_result import MultilabelResult
from deponij.pipeline.record_lists import parsed, told
from deponij.project.frame.csv_files import csv_bytes
from deponij.store.atomic import table_bytes, table_of
from deponij.store.bundle import read_bundle, write_bundle
from deponij.store.errors import StoreError

MULTILABEL_NAME = "multilabel_result.json"
_HEAD_CARD = "multilabel.json"
_METRICS, _PER_CLASS, _PREDICTIONS, _LOGITS = (
    "metrics.json",
    "per_class.csv",
    "predictions.parquet",
    "logits.npy",
)
_COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("item_id", "part", "group")),
        *((name, pa.list_(pa.string())) for name in ("truth", "prediction")),
    ]
)
_REMEDY = "run the stage `multilabel` again"
Bools = NDArray[np.bool_]
Names = NDArray[np.str_]
# What `dvc metrics` compares.
_NUMBERS = ("map_macro", "map_micro", "f1_micro", "f1_macro")


@dataclass(frozen=True, slots=True)
class SetPredictions:
    """Answers to n items.

    Attributes:
        ids, parts, groups: [n].
        truth, answers: [n, C].
        log_odds: float32 [n, C].
    """

    ids: Names
    parts: Names
    groups: Names
    truth: Bools
    answers: Bools
    log_odds: NDArray[np.float32]

    def of(self, part: str) -> "SetPredictions":
        """The items of one part."""
        rows = self.parts == part
        return SetPredictions(
            self.ids[rows],
            self.parts[rows],
            self.groups[rows],
            self.truth[rows],
            self.answers[rows],
            self.log_odds[rows],
        )


def names_of(flags: Bools, classes: Names) -> list[list[str]]:
    """The classes of each row of [n, C]."""
    return [classes[row].tolist() for row in flags]


def write_multilabel(
    out: Path, result: MultilabelResult, predictions: SetPredictions, head: Mapping[str, bytes]
) -> None:
    """Write a results folder.

    Raises:
        StoreError: the folder holds anything else, or cannot be written.
    """
    classes = np.asarray(result.classes, dtype=np.str_)
    values = [predictions.ids.tolist(), predictions.parts.tolist(), predictions.groups.tolist()]
    values += [names_of(predictions.truth, classes), names_of(predictions.answers, classes)]
    table = pa.table(
        [pa.array(one, field.type) for one, field in zip(values, _COLUMNS, strict=True)], schema=_COLUMNS
    )
    npy = io.BytesIO()
    np.save(npy, np.ascontiguousarray(predictions.log_odds, np.float32), allow_pickle=False)
    rows = [
        {"part": part, **{name: _cell(value) for name, value in one.model_dump().items()}}
        for part, scores in result.parts.items()
        for one in scores.by_class
    ]
    files = {
        MULTILABEL_NAME: (result.model_dump_json(indent=2) + "\n").encode(),
        _METRICS: (json.dumps(metrics_of(result), indent=2) + "\n").encode(),
        _PER_CLASS: csv_bytes(rows, list(rows[0])),
        _PREDICTIONS: table_bytes(table),
        _LOGITS: npy.getvalue(),
    }
    write_bundle(out, files | dict(head), what="results")


def _cell(value: object) -> object:
    if value is None:
        return ""
    return " ".join(f"{one:.6g}" for one in value) if isinstance(value, tuple) else value


def metrics_of(result: MultilabelResult) -> dict[str, dict[str, float]]:
    """The few numbers that `dvc metrics` and `dvc exp show` compare: what to choose by, and what to report."""
    figures = {"val": ("map_macro",), result.shown: _NUMBERS}
    return {
        part: {name: round(float(getattr(result.parts[part], name)), 6) for name in names}
        for part, names in figures.items()
        if part in result.parts
    }


def read_multilabel(folder: Path) -> MultilabelResult:
    """The record of a multi-label results folder.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    return _result(folder, _files(folder, MULTILABEL_NAME))


def read_multilabel_answers(folder: Path) -> tuple[MultilabelResult, SetPredictions]:
    """The record and the answers of a multi-label results folder.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    files = _files(folder, MULTILABEL_NAME, _PREDICTIONS, _LOGITS)
    result = _result(folder, files)
    try:
        table = table_of(files[_PREDICTIONS], folder / _PREDICTIONS)
        if wrong := [f.name for f in _COLUMNS if table[f.name].type != f.type or table[f.name].null_count]:
            raise ValueError(f"columns {', '.join(wrong)} do not hold what they should")
        log_odds = np.load(io.BytesIO(files[_LOGITS]), allow_pickle=False)
        ids, parts, groups = (
            np.array(table[name].to_pylist(), dtype=np.str_) for name in ("item_id", "part", "group")
        )
        truth, answers = (_flags(table[name].to_pylist(), result.classes) for name in ("truth", "prediction"))
        if log_odds.shape != truth.shape or log_odds.dtype != np.float32 or len(ids) != len(truth):
            raise ValueError(f"{log_odds.shape} log-odds for {truth.shape} answers")
    except (KeyError, ValueError, TypeError, EOFError) as error:
        raise StoreError(f"{folder} is of another version or damaged: {error}; {_REMEDY}") from error
    counts = dict(zip(*np.unique(parts, return_counts=True), strict=True))
    if {part: counts.get(part) for part in result.parts} != {
        part: one.n for part, one in result.parts.items()
    } or (set(counts) - set(result.parts) and truth[~np.isin(parts, list(result.parts))].any()):
        raise StoreError(f"{folder}: {MULTILABEL_NAME} and {_PREDICTIONS} are of other items; {_REMEDY}")
    return result, SetPredictions(ids, parts, groups, truth, answers, log_odds)


def _flags(sets: list[list[str]], classes: tuple[str, ...]) -> Bools:
    place = {name: column for column, name in enumerate(classes)}
    flags = np.zeros((len(sets), len(classes)), dtype=bool)
    for row, names in enumerate(sets):
        flags[row, [place[name] for name in names]] = True
    return flags


def _files(folder: Path, *names: str) -> dict[str, bytes]:
    return read_bundle(folder, names, [_HEAD_CARD], what="results", remedy=_REMEDY)


def _result(folder: Path, files: Mapping[str, bytes]) -> MultilabelResult:
    try:
        return parsed(MultilabelResult, files[MULTILABEL_NAME])
    except ValueError as error:
        raise StoreError(
            f"{folder / MULTILABEL_NAME} is of another version: {told(error)}; {_REMEDY}"
        ) from error
