"""A folder of results as it lies on disk, and how it is read. This is no stage.

It holds `result.json` (everything), `metrics.json` (numbers, for `dvc metrics`), `confusion.csv` (truth and prediction of
each test item, for `dvc plots` with the confusion template), `per_class.csv`, `predictions.parquet` (ranked answers),
`logits.npy` (float32 [n, C]: rows as in `predictions.parquet`, columns as `classes` in `result.json`), and for what
learned something `head.json` and `head.safetensors`, or `ensemble.json` and its tensors. It is a bundle
(`deponij.store.bundle`): replaced as a whole, and read against its manifest. What is written: `results`.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.pipeline.metrics.predictions import Predictions
from deponij.pipeline.record_lists import parsed, told
from deponij.store.atomic import table_of
from deponij.store.bundle import bundle_digest, read_bundle
from deponij.store.errors import DataError, StoreError

RESULT_NAME = "result.json"
METRICS_NAME = "metrics.json"
CONFUSION_NAME = "confusion.csv"
PER_CLASS_NAME = "per_class.csv"
PREDICTIONS_NAME = "predictions.parquet"
LOGITS_NAME = "logits.npy"
# What was learned is part of what the figures are of, so that these must be those of the same writing.
_CARDS = ("head.json", "ensemble.json")
_REMEDY = "run its stage again"


@dataclass(frozen=True, slots=True)
class Judged:
    """One classifier's answers to all examples, and what they are worth.

    Attributes:
        evaluation: scores and calibration.
        predictions: ranked answers to n items.
        logits: float32 [n, C], rows as the predictions', columns as `evaluation.classes`.
    """

    evaluation: Evaluation
    predictions: Predictions
    logits: NDArray[np.float32]


def digest_of(folder: Path) -> str:
    """What stands for all that a results folder holds.

    Raises:
        StoreError: there are no results, or the manifest is damaged.
    """
    return bundle_digest(folder, what="results", remedy=_REMEDY)


def read_file(folder: Path, name: str) -> bytes:
    """One file of a results folder, as it was written.

    Raises:
        StoreError: it is missing, damaged, or was edited.
    """
    return _files(folder, name)[name]


def _files(folder: Path, *names: str) -> dict[str, bytes]:
    if not folder.exists():
        raise StoreError(
            f"there are no results in {folder}: there is no such folder; those of a run lie below RUN/results, and "
            "`deponij run` or `deponij fit --out FOLDER` makes some"
        )
    return read_bundle(folder, names, _CARDS, what="results", remedy=_REMEDY)


def read_result(folder: Path) -> tuple[Evaluation, Predictions]:
    """Read a results folder of any method.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    files = _files(folder, RESULT_NAME, PREDICTIONS_NAME)
    return _judged(folder, files)


def _judged(folder: Path, files: Mapping[str, bytes]) -> tuple[Evaluation, Predictions]:
    result, predictions = _result(folder, files), _predictions(folder, files)
    counts = dict(zip(*np.unique(predictions.parts, return_counts=True), strict=True))
    if counts != {part: scores.n for part, scores in result.parts.items()}:
        raise StoreError(f"{folder}: {RESULT_NAME} and {PREDICTIONS_NAME} are of other items; {_REMEDY}")
    return result, predictions


def _result(folder: Path, files: Mapping[str, bytes]) -> Evaluation:
    try:
        return parsed(Evaluation, files[RESULT_NAME])
    except ValueError as error:
        raise StoreError(f"{folder / RESULT_NAME} is of another version: {told(error)}; {_REMEDY}") from error


def _predictions(folder: Path, files: Mapping[str, bytes]) -> Predictions:
    path = folder / PREDICTIONS_NAME
    try:
        return Predictions.from_table(table_of(files[PREDICTIONS_NAME], path))
    except DataError as error:
        raise StoreError(f"{path} is of another version: {error}; {_REMEDY}") from error


def read_logits(folder: Path) -> NDArray[np.float32]:
    """The logits [n, C] of a results folder: rows as its predictions', columns as its result's classes.

    Raises:
        StoreError: there are none (an older version wrote none), or they are damaged.
    """
    return _logits(folder, _files(folder, LOGITS_NAME))


def _logits(folder: Path, files: Mapping[str, bytes]) -> NDArray[np.float32]:
    path = folder / LOGITS_NAME
    try:
        logits: NDArray[np.float32] = np.load(io.BytesIO(files[LOGITS_NAME]), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise StoreError(f"{path} holds no array: {error}; {_REMEDY}") from error
    if logits.ndim != 2 or logits.dtype != np.float32:
        raise StoreError(
            f"{path} holds {logits.dtype} of shape {logits.shape}; logits are float32 [n, C]; {_REMEDY}"
        )
    return logits


def read_judged(folder: Path) -> Judged:
    """Read a results folder whole.

    Raises:
        StoreError: a file is missing or damaged, or they do not belong together.
    """
    files = _files(folder, RESULT_NAME, PREDICTIONS_NAME, LOGITS_NAME)
    (result, predictions), logits = _judged(folder, files), _logits(folder, files)
    if logits.shape != (len(predictions.ids), len(result.classes)):
        raise StoreError(
            f"{folder / LOGITS_NAME} has shape {logits.shape}, but the folder has {len(predictions.ids)} predictions "
            f"over {len(result.classes)} classes; {_REMEDY}"
        )
    return Judged(result, predictions, logits)
