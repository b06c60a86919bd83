"""What a person decided about single items: another label, left out, or right as it is. A file of it changes a data set.

    item_id,do,label,column
    cat/7.jpg,relabel,dog,label
    cat/9.jpg,leave-out,,
    dog/3.jpg,right,,

`deponij advice --take` and `deponij suggest --csv` write such files, a spreadsheet changes them, and `deponij run
--corrections` goes by them: the pictures themselves are not touched. Further columns are for the reader and ignored.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa

from deponij.pipeline.data.item import Item
from deponij.pipeline.record_lists import Record
from deponij.store.atomic import read_texts, write_bytes
from deponij.store.errors import DataError, UsageError, explained

Do = Literal["relabel", "leave-out", "right", ""]
DOS: tuple[Do, ...] = ("relabel", "leave-out", "right")
COLUMNS = ("item_id", "do", "label", "column", "was", "note")
# The label column where a file names none: of whole pictures, then of annotated instances.
_LABEL_COLUMNS = ("label", "category")
_DELIMITERS = ",;\t"
# What a spreadsheet would take for a formula has an apostrophe before it.
_FORMULA = ("=", "+", "-", "@", "'=", "'+", "'-", "'@", "''")


class Correction(Record):
    """One row of the file.

    Attributes:
        do: what to do; empty: `relabel` where there is a label, else not decided, so that nothing changes.
        label: the new one, for `relabel`.
        column: the label column; empty: `label` or `category`, whichever the items have.
        was, note: the label that it has, and why it is listed; for the reader.
    """

    item_id: str
    do: Do = ""
    label: str = ""
    column: str = ""
    was: str = ""
    note: str = ""


def read_corrections(path: Path) -> list[Correction]:
    """The rows of a file (CSV with commas, semicolons or tabs, in UTF-8).

    Raises:
        StoreError: it cannot be read. UsageError: it is no such file; all wrong rows are named.
    """
    with explained(f"cannot read {path}"):
        data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text ({error}); save it as `CSV UTF-8`") from error
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = [(name or "").strip().lower() for name in rows.fieldnames or ()]
        if "item_id" not in names or not {"do", "label"} & set(names):
            raise UsageError(
                f"{path} has the columns {', '.join(names) or 'none'}; corrections have item_id and do "
                f"({', '.join(DOS)}), and label where an item gets another one"
            )
        rows.fieldnames = names
        found, problems = _parsed(rows)
    except csv.Error as error:
        raise UsageError(f"{path} is no CSV file: {error}") from error
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UsageError(f"{path}: {'; '.join(problems[:5])}{more}")
    return found


def _parsed(rows: "csv.DictReader[str]") -> tuple[list[Correction], list[str]]:
    found: dict[tuple[str, str], Correction] = {}
    problems = []
    for row in rows:
        # Names may begin and end with spaces.
        values = {name: _unquoted(row.get(name) or "") for name in COLUMNS}
        if not any(values.values()):
            continue
        where = f"line {rows.line_num}"
        # Who fills in a label means it.
        do = values["do"].strip().lower() or ("relabel" if values["label"] else "")
        if not values["item_id"]:
            problems.append(f"{where} has no item_id")
        elif do not in (*DOS, ""):
            problems.append(f"{where}: do is {' or '.join(DOS)}, got {values['do']!r}")
        elif do == "relabel" and not values["label"]:
            problems.append(f"{where}: relabel needs a label")
        else:
            one = Correction.model_validate({**values, "do": do})
            before = found.setdefault((one.item_id, one.column), one)
            if (before.do, before.label) != (one.do, one.label):
                problems.append(f"{where} says otherwise of {one.item_id!r} than a line before")
    return list(found.values()), problems


def write_corrections(path: Path, rows: Sequence[Correction]) -> None:
    """A file that `read_corrections` reads, and spreadsheets.

    Raises:
        StoreError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _quoted(value) for name, value in row.model_dump().items()} for row in rows)
    # With a mark, by which spreadsheets know that it is UTF-8.
    write_bytes(path, text.getvalue().encode("utf-8-sig"))


def _quoted(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unquoted(text: str) -> str:
    return text[1:] if text.startswith(_FORMULA[4:]) else text


def read_kept(path: Path) -> frozenset[str]:
    """The item ids that `deponij duplicates --keep` wrote: one a line (.txt), or a Parquet table.

    Raises:
        UsageError: there are none. StoreError: the file cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        (column,) = read_texts(path, ["item_id"])
        ids = frozenset(one for one in column if one is not None)
    else:
        with explained(f"cannot read {path}"):
            data = path.read_bytes()
        try:
            lines = data.decode("utf-8-sig").split("\n")
            ids = frozenset(line.removesuffix("\r") for line in lines) - {""}
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is no list of item ids: {error}") from error
    if not ids:
        raise UsageError(f"{path} names no items; `deponij duplicates --keep FILE` writes such a list")
    return ids


@dataclass
class Corrections:
    """Decisions, and what became of them once items have passed through.

    Attributes:
        of_item: by item id.
        kept: the only items that stay; None for all.
    """

    of_item: Mapping[str, Sequence[Correction]]
    kept: frozenset[str] | None = None

    def __post_init__(self) -> None:
        self._seen: set[str] = set()
        self._n_kept = 0
        self._done: Counter[str] = Counter()
        self._labels: dict[str, set[str]] = {}
        self._given: set[tuple[str, str]] = set()

    @classmethod
    def read(cls, files: Iterable[Path], keep: Path | None = None) -> "Corrections":
        """All files together; of two that speak of one item the later one counts.

        Raises:
            UsageError, StoreError: as `read_corrections` and `read_kept`.
        """
        found: dict[str, dict[str, Correction]] = {}
        for file in files:
            for one in read_corrections(file):
                found.setdefault(one.item_id, {})[one.column] = one
        by_item = {item_id: tuple(rows.values()) for item_id, rows in found.items()}
        return cls(by_item, None if keep is None else read_kept(keep))

    def applied(self, items: Iterable[Item], schema: pa.Schema) -> Iterator[Item]:
        """The items that stay, with their new labels.

        Args:
            schema: of the items' metadata.

        Raises:
            UsageError: there is no such label column, or it holds no names.
        """
        for item in items:
            for name in _LABEL_COLUMNS:
                if isinstance(value := item.metadata.get(name), str):
                    self._labels.setdefault(name, set()).add(value)
            decided = self.of_item.get(item.item_id, ())
            self._seen |= {item.item_id} if decided else set()
            if self.kept is not None and item.item_id not in self.kept:
                self._done["not in the list to keep, and left out"] += 1
                continue
            self._n_kept += 1
            if any(one.do == "leave-out" for one in decided):
                self._done["left out"] += 1
                continue
            changed = item
            for one in decided:
                changed = self._relabelled(changed, one, schema) if one.do == "relabel" else changed
            yield changed

    def _relabelled(self, item: Item, one: Correction, schema: pa.Schema) -> Item:
        column = one.column or next((name for name in _LABEL_COLUMNS if name in schema.names), "")
        if column not in schema.names:
            raise UsageError(
                f"the correction of {one.item_id!r} is of the column {one.column or 'label'!r}; these data have "
                f"{', '.join(schema.names)}"
            )
        if not pa.types.is_string(schema.field(column).type):
            raise UsageError(
                f"the correction of {one.item_id!r} is of the column {column!r}, which holds "
                f"{schema.field(column).type} and no names"
            )
        self._given.add((column, one.label))
        self._done["relabelled" if item.metadata.get(column) != one.label else "labelled so already"] += 1
        return replace(item, metadata={**item.metadata, column: one.label})

    def check(self) -> None:
        """Once all items have passed: refuse files that are of other data.

        Raises:
            DataError: not one of the items is there.
        """
        if self.kept is not None and not self._n_kept:
            raise DataError(
                "no item of the data is in the list to keep; it is of other data, or of what a limit leaves out"
            )
        if self.of_item and not self._seen:
            first = next(iter(self.of_item))
            raise DataError(
                f"no item of the corrections is in the data, not {first!r} for one; they are of other data, or of "
                "what a limit leaves out"
            )

    @property
    def notes(self) -> list[str]:
        """What was done, once all items have passed."""
        said = [f"items {what}: {n:,}" for what, n in self._done.items()]
        if gone := sorted(set(self.of_item) - self._seen):
            said.append(
                f"corrections of items that are not in the data: {len(gone):,}, the first: {gone[0]!r}"
            )
        if open_ := sum(not any(one.do for one in rows) for rows in self.of_item.values()):
            said.append(f"items in the corrections of which nothing is decided (`do` is empty): {open_:,}")
        new = sorted({label for name, label in self._given if label not in self._labels.get(name, {label})})
        if new:
            said.append(f"classes that only the corrections have: {', '.join(map(repr, new))}")
        return said
