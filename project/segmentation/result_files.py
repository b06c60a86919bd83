"""A folder of one approach's segmentation as it lies on disk: written, and read. What learns it: `learn`.

It holds `segmentation_result.json` (everything), `metrics.json` (numbers, for `dvc metrics`), `per_class.csv`,
`pictures.parquet` (each picture's confusion and boundary counts, from which any later comparison is made),
`answers.parquet` (label maps that were answered, PNGs in the Hugging Face image layout) and, where something was learned,
the decoder. It is a bundle (`deponij.store.bundle`): replaced as a whole, and read against its manifest.

Shape letters: n pictures, C classes, h rows and w columns of pixels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deponij.pipeline.metrics.segmentation import boundary_counts, confusion
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.pipeline.record_lists import parsed, told
from deponij.project.frame.csv_files import csv_bytes
from deponij.store.atomic import table_bytes, table_of
from deponij.store.bundle import read_bundle, write_bundle
from deponij.store.errors import StoreError
from deponij.store.label_maps import Labels, SceneClass, decode_labels, encode_labels

SEGMENTATION_NAME = "segmentation_result.json"
_METRICS, _PER_CLASS, _PICTURES, _ANSWERS = (
    "metrics.json",
    "per_class.csv",
    "pictures.parquet",
    "answers.parquet",
)
# What was learned is part of what the figures are of, so that it must be that of the same writing.
_DECODER = "decoder.json"
_REMEDY = "run the stage `decoders` again"
_COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("item_id", "part", "group")),
        *((name, pa.list_(pa.int64())) for name in ("confusion", "boundary")),
    ]
)
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ANSWER_COLUMNS = pa.schema([("item_id", pa.string()), ("image", _IMAGE)])
Counts = NDArray[np.int64]
Names = NDArray[np.str_]
# What `dvc metrics` compares.
_NUMBERS = ("miou", "accuracy", "mean_accuracy")


@dataclass(frozen=True, slots=True)
class PictureCounts:
    """What figures of n pictures are made of.

    Attributes:
        ids, parts, groups: [n].
        confusions: [n, C, C].
        boundaries: [n, C, 2].
    """

    ids: Names
    parts: Names
    groups: Names
    confusions: Counts
    boundaries: Counts

    def of(self, part: str) -> "PictureCounts":
        """The pictures of one part."""
        return self.rows(np.flatnonzero(self.parts == part))

    def rows(self, rows: NDArray[np.intp]) -> "PictureCounts":
        """Some of them, in this order."""
        return PictureCounts(
            self.ids[rows], self.parts[rows], self.groups[rows], self.confusions[rows], self.boundaries[rows]
        )


class PictureCounter:
    """Gathers pictures' counts, and the label maps that are to be kept, one picture at a time.

    Args:
        classes: in the order of their numbers.
        keep: parts whose label maps are kept.
    """

    def __init__(self, classes: Sequence[SceneClass], keep: Sequence[str] = ("test",)) -> None:
        self._classes, self._keep = classes, frozenset(keep)
        self._places: list[tuple[str, str, str]] = []
        self._confusions: list[Counts] = []
        self._boundaries: list[Counts] = []
        self.answers: dict[str, bytes] = {}

    def add(self, item_id: str, part: str, group: str, truth: Labels, predicted: Labels) -> None:
        """Count one picture, [h, w] each.

        Raises:
            ValueError: the maps differ in size or hold what is no class.
        """
        n_classes = len(self._classes)
        self._places.append((item_id, part, group))
        self._confusions.append(confusion(truth, predicted, n_classes))
        self._boundaries.append(boundary_counts(truth, predicted, n_classes))
        if part in self._keep:
            self.answers[item_id] = encode_labels(predicted, self._classes)

    def counts(self) -> PictureCounts:
        """Of all pictures so far, at least one."""
        ids, parts, groups = (np.array(column, dtype=np.str_) for column in zip(*self._places, strict=True))
        return PictureCounts(ids, parts, groups, np.stack(self._confusions), np.stack(self._boundaries))


def encoder_beside(folder: Path) -> Path:
    """Where the encoder lies that learned with the decoder of a results folder: a backbone like any other."""
    return folder.with_name(f"{folder.resolve().name}.encoder")


def write_segmentation(
    out: Path,
    result: SegmentationResult,
    counts: PictureCounts,
    answers: Mapping[str, bytes],
    decoder: Mapping[str, bytes],
) -> None:
    """Write a results folder.

    Args:
        answers: PNGs of label maps by item id (`store.label_maps.encode_labels`), of any of the pictures.
        decoder: files of what was learned, by name.

    Raises:
        StoreError: the folder holds anything else, or cannot be written.
    """
    n = len(counts.ids)
    columns = [one.tolist() for one in (counts.ids, counts.parts, counts.groups)]
    columns += [list(one.reshape(n, -1)) for one in (counts.confusions, counts.boundaries)]
    pictures = pa.table(
        [pa.array(one, field.type) for one, field in zip(columns, _COLUMNS, strict=True)], schema=_COLUMNS
    )
    rows = [
        {"item_id": item_id, "image": {"bytes": png, "path": f"{item_id}.png"}}
        for item_id, png in answers.items()
    ]
    by_class = [
        {"part": part, **{name: _cell(value) for name, value in one.model_dump().items()}}
        for part, scores in result.parts.items()
        for one in scores.by_class
    ]
    files = {
        SEGMENTATION_NAME: (result.model_dump_json(indent=2) + "\n").encode(),
        _METRICS: (json.dumps(metrics_of(result), indent=2) + "\n").encode(),
        _PER_CLASS: csv_bytes(by_class, list(by_class[0])),
        _PICTURES: table_bytes(pictures),
        _ANSWERS: table_bytes(pa.Table.from_pylist(rows, schema=_ANSWER_COLUMNS)),
    }
    write_bundle(out, files | dict(decoder), what="results")


def _cell(value: object) -> object:
    if value is None:
        return ""
    return " ".join(f"{one:.6g}" for one in value) if isinstance(value, tuple) else value


def metrics_of(result: SegmentationResult) -> dict[str, dict[str, float]]:
    """The few numbers that `dvc metrics` and `dvc exp show` compare: what to choose by, and what to report."""
    figures = {"val": ("miou",), result.shown: _NUMBERS}
    return {
        part: {name: round(float(getattr(result.parts[part], name)), 6) for name in names}
        for part, names in figures.items()
        if part in result.parts
    }


def read_segmentation(folder: Path) -> SegmentationResult:
    """The record of a results folder.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    return _result(folder, _files(folder, SEGMENTATION_NAME))


def read_counts(folder: Path) -> tuple[SegmentationResult, PictureCounts]:
    """The record of a results folder, and what its figures are made of.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    files = _files(folder, SEGMENTATION_NAME, _PICTURES)
    result = _result(folder, files)
    counts = _counts(folder, files, len(result.classes))
    n_of = dict(zip(*np.unique(counts.parts, return_counts=True), strict=True))
    if n_of != {part: one.n_pictures for part, one in result.parts.items()}:
        raise StoreError(f"{folder}: {SEGMENTATION_NAME} and {_PICTURES} are of other pictures; {_REMEDY}")
    return result, counts


def _counts(folder: Path, files: Mapping[str, bytes], n_classes: int) -> PictureCounts:
    try:
        table = table_of(files[_PICTURES], folder / _PICTURES)
        _check_columns(table, _COLUMNS)
        ids, parts, groups = (
            np.array(table[name].to_pylist(), dtype=np.str_) for name in ("item_id", "part", "group")
        )
        confusions, boundaries = (
            _matrix(table[name], n_classes * width).reshape(len(ids), n_classes, width)
            for name, width in (("confusion", n_classes), ("boundary", 2))
        )
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{folder / _PICTURES} is of another version or damaged: {error}; {_REMEDY}"
        ) from error
    return PictureCounts(ids, parts, groups, confusions, boundaries)


def _matrix(column: pa.ChunkedArray, width: int) -> Counts:
    lengths = set(column.combine_chunks().value_lengths().to_pylist())
    if lengths - {width}:
        raise ValueError(f"lists of {sorted(lengths)} counts, expected {width}")
    flat = column.combine_chunks().flatten()
    if flat.null_count:
        raise ValueError("counts are missing")
    return np.asarray(flat.to_numpy(), np.int64)


def _check_columns(table: pa.Table, schema: pa.Schema) -> None:
    if wrong := [
        one.name for one in schema if table[one.name].type != one.type or table[one.name].null_count
    ]:
        raise ValueError(f"columns {', '.join(wrong)} do not hold what they should")


@dataclass(frozen=True)
class Answers:
    """Label maps that were answered, by item id; each is decoded when it is asked for."""

    folder: Path
    pngs: Mapping[str, bytes]
    n_classes: int

    def __contains__(self, item_id: str) -> bool:
        return item_id in self.pngs

    @cached_property
    def ids(self) -> list[str]:
        """Of which pictures."""
        return list(self.pngs)

    def label_map(self, item_id: str) -> Labels:
        """[h, w].

        Raises:
            StoreError: it is damaged.
        """
        where = f"the answer to {item_id!r} in {self.folder / _ANSWERS}"
        return decode_labels(self.pngs[item_id], self.n_classes, where)


def read_label_maps(folder: Path) -> Answers:
    """The label maps of a results folder.

    Raises:
        StoreError: there are none, or they are damaged.
    """
    files = _files(folder, SEGMENTATION_NAME, _ANSWERS)
    result = _result(folder, files)
    try:
        table = table_of(files[_ANSWERS], folder / _ANSWERS)
        _check_columns(table, _ANSWER_COLUMNS)
        pngs = {row["item_id"]: row["image"]["bytes"] for row in table.to_pylist()}
        if any(png is None for png in pngs.values()):
            raise ValueError("a label map is missing")
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{folder / _ANSWERS} is of another version or damaged: {error}; {_REMEDY}"
        ) from error
    return Answers(folder, pngs, len(result.classes))


def _files(folder: Path, *names: str) -> dict[str, bytes]:
    return read_bundle(folder, names, [_DECODER], what="results", remedy=_REMEDY)


def _result(folder: Path, files: Mapping[str, bytes]) -> SegmentationResult:
    try:
        return parsed(SegmentationResult, files[SEGMENTATION_NAME])
    except ValueError as error:
        raise StoreError(
            f"{folder / SEGMENTATION_NAME} is of another version: {told(error)}; {_REMEDY}"
        ) from error
