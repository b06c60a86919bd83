"""Which rows of a table count: a condition in SQL, or columns, operators and values. Nothing but the table is read.

A condition in SQL is parsed by DuckDB, and its syntax tree must hold comparisons, columns, constants and a few named
functions; anything else (a subquery, a file, a setting) is refused before it is run. What is left runs in a database
in memory that holds one table, with access to files and network off and its configuration locked.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deponij.store.errors import UsageError

if TYPE_CHECKING:
    import duckdb

Mask = NDArray[np.bool_]
Op = Literal[
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "in",
    "not in",
    "between",
    "contains",
    "starts with",
    "is null",
    "is not null",
]
Plain = str | int | float | bool
Value = Plain | Sequence[Plain] | None

_TABLE, _POSITION = "items", "deponij_position"
_QUERY = f'SELECT "{_POSITION}" FROM {_TABLE} WHERE ('
_CLASSES = frozenset(
    {
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "COLUMN_REF",
        "FUNCTION",
        "OPERATOR",
        "CAST",
        "BETWEEN",
        "CASE",
        "TYPE",
    }
)
# Of one row's values only, cheap, and with answers no longer than what they are given.
_OPERATORS = "+ - * / % // ~~ !~~ ~~* !~~* ~~~ like_escape not_like_escape ilike_escape not_ilike_escape"
_NUMERIC = "abs round floor ceil ceiling sqrt ln log log2 log10 least greatest"
_TEXTUAL = (
    "lower upper trim ltrim rtrim length strlen len contains starts_with ends_with prefix suffix regexp_matches "
    "regexp_full_match substring substr left right split_part strpos instr"
)
_LISTS = "list_contains array_contains list_has array_length list_has_any list_value"
FUNCTIONS = frozenset(" ".join((_OPERATORS, _NUMERIC, _TEXTUAL, _LISTS)).split())
_MAX_CHARS, _MAX_DEPTH = 10_000, 60


@dataclass(frozen=True, slots=True)
class Condition:
    """One column compared with a value.

    Attributes:
        value: a list for `in`, `not in` and `between` (two), nothing for `is null` and `is not null`.
    """

    column: str
    op: str
    value: Value = None


class RowFilter:
    """Chooses rows of a table.

    Args:
        table: m rows; columns of names, numbers, truth values, or lists of them.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        # A connection serves one thread at a time, and its cursors do not see the table.
        self._lock = RLock()

    @property
    def columns(self) -> list[str]:
        """What can be asked for."""
        return list(self._table.column_names)

    def where(self, condition: str) -> Mask:
        """Rows that fulfil a condition in SQL, bool [m]; rows for which it is null do not.

        Raises:
            UsageError: no condition over this table's columns; the message says why and lists them.
        """
        self._check(condition)
        return self._run(f"{_QUERY}{condition}\n)", [])

    def matching(self, conditions: Sequence[Condition]) -> Mask:
        """Rows that fulfil all conditions, bool [m].

        Raises:
            UsageError: an unknown column or operator, or a value that does not fit.
        """
        if not conditions:
            return np.ones(self._table.num_rows, bool)
        clauses, values = [], []
        for one in conditions:
            clause, given = self._clause(one)
            clauses.append(f"({clause})")
            values += given
        return self._run(_QUERY + " AND ".join(clauses) + ")", values)

    @cached_property
    def _connection(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        connection = duckdb.connect(":memory:")
        numbers = np.arange(self._table.num_rows, dtype=np.int64)
        # Not `pa.array`, which would import pandas where there is one; that takes a second.
        positions = pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])
        connection.register(_TABLE, self._table.append_column(_POSITION, positions))
        for setting in (
            "enable_external_access=false",
            "python_enable_replacements=false",
            "autoload_known_extensions=false",
            "autoinstall_known_extensions=false",
            "lock_configuration=true",
        ):
            connection.execute(f"SET {setting}")
        return connection

    def _run(self, query: str, values: list[Any]) -> Mask:
        import duckdb

        try:
            with self._lock:
                positions = self._connection.execute(query, values).fetchnumpy()[_POSITION]
        except duckdb.Error as error:
            raise UsageError(f"the filter does not work: {_first_line(error)}; {self._offer()}") from None
        mask = np.zeros(self._table.num_rows, bool)
        mask[np.asarray(positions, np.int64)] = True
        return mask

    def _check(self, condition: str) -> None:
        if not condition.strip() or len(condition) > _MAX_CHARS or "\0" in condition:
            raise UsageError(f"a filter is a condition of 1 to {_MAX_CHARS:,} characters; {self._offer()}")
        # Within other brackets too, or `true) WINDOW w AS (…` would close the one that was opened for it.
        self._parsed(f"SELECT [{condition}\n]")
        tree = self._parsed(f"{_QUERY}{condition}\n)")
        # What stands around the condition must be what was put there: one query, over this table alone.
        where = tree["statements"][0]["node"].pop("where_clause", None)
        if where is None or _placeless(tree) != self._frame:
            raise UsageError(f"a filter is one condition, nothing before or behind it; {self._offer()}")
        for node in _nodes(where):
            self._check_node(node)

    @cached_property
    def _frame(self) -> Any:
        """The syntax tree of what is put around a condition."""
        tree = self._parsed(f"{_QUERY}true\n)")
        tree["statements"][0]["node"].pop("where_clause")
        return _placeless(tree)

    def _parsed(self, query: str) -> Any:
        import duckdb

        try:
            with self._lock:
                row = self._connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchone()
            tree = json.loads(row[0]) if row else {"error": True}
        except (duckdb.Error, RecursionError) as error:
            raise UsageError(f"the filter cannot be read: {_first_line(error)}") from None
        if tree.get("error"):
            raise UsageError(
                f"the filter is no condition in SQL: {tree.get('error_message', 'unreadable')}; {self._offer()}"
            )
        return tree

    def _check_node(self, node: dict[str, Any]) -> None:
        kind = node["class"]
        if kind not in _CLASSES:
            what = {"SUBQUERY": "a subquery", "STAR": "a *", "WINDOW": "a window"}.get(kind, kind.lower())
            raise UsageError(f"a filter compares columns with values; {what} is not allowed in it")
        if kind == "FUNCTION":
            name = str(node.get("function_name", "")).lower()
            if name not in FUNCTIONS or node.get("schema") or node.get("catalog"):
                raise UsageError(f"the function {name!r} is not allowed in a filter; allowed are {_words()}")
        if kind == "COLUMN_REF":
            names = node.get("column_names", [])
            if len(names) != 1 or names[0].lower() not in {column.lower() for column in self.columns}:
                hint = self._nearest(names[-1]) or f" (a value is written '{names[-1]}')"
                raise UsageError(f"there is no column {'.'.join(names)!r}{hint}; {self._offer()}")

    def _clause(self, one: Condition) -> tuple[str, list[Any]]:
        if one.column not in self.columns:
            raise UsageError(f"there is no column {one.column!r}{self._nearest(one.column)}; {self._offer()}")
        if one.op not in get_args(Op):
            raise UsageError(f"there is no operator {one.op!r}; there are {', '.join(get_args(Op))}")
        column, value = '"' + one.column.replace('"', '""') + '"', one.value
        kind = self._table.schema.field(one.column).type
        if pa.types.is_nested(kind) and one.op not in ("contains", "is null", "is not null"):
            raise UsageError(f"column {one.column!r} holds lists; ask whether one contains a value")
        if one.op in ("is null", "is not null"):
            return f"{column} {one.op}", []
        if one.op in ("in", "not in", "between"):
            return _among(column, kind, one.op, value)
        if not isinstance(value, Plain):
            raise UsageError(f"{one.op!r} needs one value: a text, a number, true or false; got {value!r}")
        if one.op == "contains" and pa.types.is_nested(kind):
            return f"list_contains({column}, ?)", [value]
        if one.op in ("contains", "starts with"):
            return f"{one.op.replace(' ', '_')}(lower(CAST({column} AS VARCHAR)), lower(?))", [str(value)]
        return f"{column} {one.op} ?", [value]

    def _offer(self) -> str:
        return f"columns are {', '.join(self.columns)}"

    def _nearest(self, name: str) -> str:
        close = get_close_matches(name, self.columns, 1)
        return f", did you mean {close[0]!r}?" if close else ""


def _among(column: str, kind: pa.DataType, op: str, value: Value) -> tuple[str, list[Any]]:
    """A clause that compares with several values."""
    if not isinstance(value, (list, tuple)) or (op == "between" and len(value) != 2):
        raise UsageError(f"{op!r} needs a list of {'two ' if op == 'between' else ''}values")
    values = list(value)
    if op == "between":
        return f"{column} BETWEEN ? AND ?", values
    if not values:
        return str(op == "not in"), []
    if pa.types.is_string(kind) and all(isinstance(one, str) for one in values):
        # Ids come by thousands, and a mark for each of them takes twenty times as long as one list.
        return f"{column} {'= ANY' if op == 'in' else '<> ALL'}(?)", [values]
    return f"{column} {op} ({', '.join('?' * len(values))})", values


def _nodes(tree: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Every expression within one."""
    if depth > 4 * _MAX_DEPTH:
        raise UsageError("the filter is nested too deeply")
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for child in tree.values():
            yield from _nodes(child, depth + 1)
    elif isinstance(tree, list):
        for child in tree:
            yield from _nodes(child, depth + 1)


def _placeless(tree: Any) -> Any:
    """Without the places in the text."""
    if isinstance(tree, dict):
        return {
            name: _placeless(child) for name, child in tree.items() if not name.startswith("query_location")
        }
    return [_placeless(child) for child in tree] if isinstance(tree, list) else tree


def _words() -> str:
    return ", ".join(sorted(name for name in FUNCTIONS if name.isidentifier()))


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
