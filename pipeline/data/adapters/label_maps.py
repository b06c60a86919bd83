"""Label maps: tables from categories to the classes of an experiment, each one a column of the items.

A map is data: a CSV file of rows `category,label`. Categories that it leaves out have no label and
are outside its pool. The maps of TACO (https://github.com/pedropro/TACO) lie beside this module:

- `taco10`: ten classes, after the ten-class map of TACO's detector. Of its 64 rows four (Produce bag,
  Cereal bag, Bread bag, Retort pouch) match no category of the annotation file.
- `taco56`: the 56 categories that have at least three instances in TACO's official annotations. A
  fixed list, so that a download that lacks photographs has the same classes.
"""

import csv
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deponij.store.errors import DataError, UsageError

AUTO = "auto"
BUILT_IN = {name: Path(__file__).with_name(f"{name}.csv") for name in ("taco10", "taco56")}
_HEADER = ["category", "label"]
_MIN_COUNT = re.compile(r"min-count:(\d+)")
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A column of labels.

    Attributes:
        name: of the column.
        labels: category name to label; a category that is not in it has no label.
    """

    name: str
    labels: Mapping[str, str]

    def label_of(self, category: str | None) -> str | None:
        """The label of a category; None outside the map's pool."""
        return None if category is None else self.labels.get(category)

    def unmatched(self, categories: Iterable[str]) -> tuple[str, ...]:
        """Rows of the map that match none of these categories, in the map's order."""
        known = set(categories)
        return tuple(category for category in self.labels if category not in known)


def read_label_map(path: Path, name: str) -> LabelMap:
    """Read a CSV file of rows `category,label`, with or without that header.

    Raises:
        DataError: no such file, a row that has not two non-empty fields, or a category with two labels.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                (line, [field.strip() for field in row])
                for line, row in enumerate(csv.reader(file), 1)
                if row
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"label map {path} cannot be read: {error}") from error
    if rows and [field.lower() for field in rows[0][1]] == _HEADER:
        rows = rows[1:]
    labels: dict[str, str] = {}
    for line, row in rows:
        if len(row) != 2 or not all(row):
            raise DataError(
                f"label map {path}, line {line}: got {','.join(row)!r}, expected 'category,label'"
            )
        category, label = row
        if labels.setdefault(category, label) != label:
            both = f"{labels[category]!r} and {label!r}"
            raise DataError(f"label map {path}, line {line}: {category!r} has two labels, {both}")
    if not labels:
        raise DataError(f"label map {path} has no rows; expected lines 'category,label'")
    return LabelMap(name, labels)


def min_count_map(counts: Mapping[str, int], min_count: int, name: str) -> LabelMap:
    """Every category that has at least `min_count` instances, as its own class."""
    return LabelMap(name, {category: category for category, count in counts.items() if count >= min_count})


def label_maps(specs: Sequence[str], counts: Mapping[str, int]) -> tuple[LabelMap, ...]:
    """The maps that a user asked for, in that order.

    Args:
        specs: each one of `auto` (TACO's maps if the categories are TACO's, otherwise none), the name of a
            built-in map, `min-count:K`, or a CSV file; the last two also as `COLUMN=...`. Without a
            column's name it is `category_minK` or the file's name without its ending.
        counts: the data set's categories with their numbers of instances.

    Raises:
        UsageError: an unknown name, a column that is no identifier, or two maps of one name.
        DataError: a map's file is missing or wrong, or matches no category at all.
    """
    by_name: dict[str, LabelMap] = {}
    for spec in specs:
        for one in _automatic(counts) if spec == AUTO else (_one(spec, counts),):
            if by_name.setdefault(one.name, one) != one:
                raise UsageError(
                    f"two label maps are named {one.name!r}; give one another name: COLUMN={spec}"
                )
    return tuple(by_name.values())


def _automatic(counts: Mapping[str, int]) -> tuple[LabelMap, ...]:
    maps = {name: read_label_map(path, name) for name, path in BUILT_IN.items()}
    is_taco = counts.keys() <= maps["taco10"].labels.keys() and maps["taco56"].labels.keys() <= counts.keys()
    return tuple(maps.values()) if is_taco else ()


def _one(spec: str, counts: Mapping[str, int]) -> LabelMap:
    column, separator, rest = spec.partition("=")
    if not separator:
        column, rest = "", spec
    minimum = _MIN_COUNT.fullmatch(rest)
    if minimum is not None:
        return min_count_map(counts, int(minimum[1]), _column(column or f"category_min{minimum[1]}", spec))
    if rest in BUILT_IN:
        label_map = read_label_map(BUILT_IN[rest], _column(column or rest, spec))
    elif Path(rest).suffix or len(Path(rest).parts) > 1:
        label_map = read_label_map(Path(rest), _column(column or Path(rest).stem, spec))
    else:
        near = difflib.get_close_matches(rest, BUILT_IN, n=1)
        raise UsageError(
            f"unknown label map {spec!r}{f'; did you mean {near[0]!r}?' if near else ''} "
            f"Known are {', '.join((AUTO, *BUILT_IN))}, min-count:K and CSV files of rows 'category,label'"
        )
    if len(label_map.unmatched(counts)) == len(label_map.labels):
        raise DataError(
            f"label map {spec!r} matches no category of the data set; its first column must hold names such "
            f"as {', '.join(list(counts)[:5])}"
        )
    return label_map


def _column(name: str, spec: str) -> str:
    if not _COLUMN.fullmatch(name):
        raise UsageError(
            f"label map {spec!r}: {name!r} cannot name a column; write COLUMN={spec.rpartition('=')[2]}"
        )
    return name
