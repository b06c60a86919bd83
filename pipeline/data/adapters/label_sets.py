"""Several labels a picture in a table: a column of lists, of texts with a separator, or one column of 0 and 1 a class.

All of them become one column of lists, sorted and without repeats. An empty list is a picture that shows none of the
classes, which is something to learn from; a missing value is a picture without labels, which is not.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from deponij.store.errors import DataError, UsageError

LABEL_SET = pa.list_(pa.string())
# What people put between labels; a comma that separates fields is no candidate.
_USUAL = "|;,"
_YES, _NO = frozenset(("1", "1.0", "true", "yes")), frozenset(("0", "0.0", "false", "no"))
# Values that are compared with their parts to see whether they look like sets.
_FEWEST = 4


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists of texts or whole numbers."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    of = kind.value_type
    return bool(
        pa.types.is_string(of)
        or pa.types.is_large_string(of)
        or pa.types.is_integer(of)
        or pa.types.is_null(of)
    )


def label_set(values: Sequence[Any] | None, classes: Sequence[str] | None, column: str) -> list[str] | None:
    """A list as the items have it: names, sorted, each once; None stays None.

    Args:
        classes: names of class numbers, if the column has any.

    Raises:
        DataError: a gap or an empty name in the list, or a class number that has no name.
    """
    if values is None:
        return None
    names = []
    for one in values:
        if classes is not None and not (isinstance(one, int) and 0 <= one < len(classes)):
            raise DataError(f"column {column!r} holds {one!r}, outside its {len(classes)} classes")
        name = "" if one is None else str(one if classes is None else classes[one]).strip()
        if not name:
            raise DataError(
                f"column {column!r} holds the list {list(values)!r} with a label that has no name"
            )
        names.append(name)
    return sorted(set(names))


def split_texts(texts: Sequence[str | None], separator: str) -> list[list[str] | None]:
    """Texts as sets of labels: nothing is no label at all, the separator alone the empty set.

    Raises:
        UsageError: the separator is empty or holds letters or digits.
    """
    if (not separator.strip() and separator not in (" ", "\t")) or any(map(str.isalnum, separator)):
        raise UsageError(f"a label separator is a sign such as '|' or ';', got {separator!r}")
    sets: list[list[str] | None] = []
    for text in texts:
        if text is None or not text.strip():
            sets.append(None)
        else:
            sets.append(sorted({name for one in text.split(separator) if (name := one.strip())}))
    return sets


def of_choices(texts: Sequence[str | None], column: str) -> list[list[str] | None] | None:
    """Label Studio's choices as it writes them to CSV: one as a text, several as `{"choices": ["a", "b"]}`.

    None where no text has that form: then a text is one label.

    Raises:
        DataError: a text that begins so and is no such document.
    """
    if not any(text and text.lstrip().startswith('{"choices"') for text in texts):
        return None
    sets: list[list[str] | None] = []
    for text in texts:
        if text is None or not text.strip():
            sets.append(None)
        elif not text.lstrip().startswith("{"):
            sets.append([text.strip()])
        else:
            try:
                sets.append(label_set(json.loads(text)["choices"], None, column))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataError(
                    f"column {column!r} holds {text!r}, which is no list of choices: {error}"
                ) from error
    return sets


def of_columns(table: pa.Table, columns: Sequence[str], path: Path) -> list[list[str] | None]:
    """Columns of 0 and 1 (or true and false, yes and no) as sets of their names; a row with a gap has no labels.

    Raises:
        UsageError: a column that is not there.
        DataError: a value that is neither.
    """
    if unknown := [name for name in columns if name not in table.column_names]:
        raise UsageError(f"{path} has no column {unknown[0]!r}; it has {', '.join(table.column_names)}")
    of_rows: list[list[str] | None] = [[] for _ in range(table.num_rows)]
    for name in sorted(set(columns)):
        for row, value in enumerate(table[name].to_pylist()):
            said, names = "" if value is None else str(value).strip().lower(), of_rows[row]
            if said not in _YES | _NO | {""}:
                raise DataError(
                    f"{path}, column {name!r}, row {row + 1}: got {value!r}; a column for one class holds 1 where a "
                    "picture shows it, 0 where not, and nothing where that is not known"
                )
            if not said:
                of_rows[row] = None
            elif said in _YES and names is not None:
                names.append(name)
    return of_rows


def looks_like_sets(texts: Sequence[str | None], but: str = "") -> str | None:
    """A sign that seems to separate labels in these texts, for a note; None where there is none.

    It does where taking texts apart at it leaves fewer names than there were texts, as of `a|b`, `a`, `b|c`.
    """
    distinct = Counter(text for text in texts if text)
    for sign in _USUAL:
        several = [text for text in distinct if sign in text]
        parts = {part.strip() for text in distinct for part in re.split(re.escape(sign), text)} - {""}
        if sign not in but and len(several) >= _FEWEST and len(parts) < len(distinct):
            return sign
    return None
