"""Filters: what they choose is what pandas-like plain Python chooses; what is no condition over the table is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from deponij.pipeline.retrieval.filters import Condition, RowFilter
from deponij.store.errors import UsageError

LABELS = ["Can", "Bottle", None, "can lid", "O'Neill; --", "Can"]
WIDTHS = [10, 20, 30, None, 50, 60]
AREAS = [0.5, 1.5, float("nan"), 2.5, -1.0, 0.0]
TAGS = [["a", "b"], [], None, ["b"], ["c"], ["a"]]


@pytest.fixture(scope="module")
def rows() -> RowFilter:
    table = pa.table(
        {
            "item_id": [f"i{n}" for n in range(6)],
            "label": LABELS,
            "width_px": pa.array(WIDTHS, pa.int32()),
            "area": AREAS,
            "tags": TAGS,
            'odd "name': [True, False, True, False, True, False],
        }
    )
    return RowFilter(table)


def chosen(mask: np.ndarray) -> list[int]:
    assert mask.dtype == bool
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("label = 'Can'", [0, 5]),
        ("label = 'O''Neill; --'", [4]),
        ("label IS NULL", [2]),
        ("label != 'Can'", [1, 3, 4]),
        ("label IN ('Can', 'Bottle') AND width_px > 15", [1, 5]),
        ("lower(label) LIKE 'can%'", [0, 3, 5]),
        ("NOT (width_px BETWEEN 20 AND 50)", [0, 5]),
        ("width_px + 1 = 11 OR area < 0", [0, 4]),
        ("contains(label, 'lid')", [3]),
        ("list_contains(tags, 'a')", [0, 5]),
        ('"odd ""name"', [0, 2, 4]),
        ("CASE WHEN label = 'Can' THEN true ELSE false END", [0, 5]),
        ("CAST(width_px AS VARCHAR) = '30'", [2]),
        ("coalesce(width_px, 0) = 0", [3]),
        ("LABEL ILIKE 'BOTTLE' -- a comment", [1]),
        ("true", [0, 1, 2, 3, 4, 5]),
        ("false", []),
    ],
)
def test_a_condition_chooses_what_it_says(rows: RowFilter, condition: str, expected: list[int]) -> None:
    assert chosen(rows.where(condition)) == expected


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "  ",
        "1=1) UNION SELECT 1 --",
        "1=1); DROP TABLE items; --",
        "true) OR (true",
        "label = 'Can' ORDER BY label",
        "label = 'Can' LIMIT 1",
        "true) LIMIT (1",
        "true) GROUP BY (1",
        "true) QUALIFY (true",
        "true) WINDOW w AS (ORDER BY label",
        "label IN (SELECT label FROM items)",
        "EXISTS (SELECT * FROM read_csv('/etc/passwd'))",
        "label = (SELECT content FROM read_text('/etc/passwd'))",
        "EXISTS (FROM '/etc/passwd')",
        "EXISTS (SELECT * FROM duckdb_settings())",
        "EXISTS (SELECT * FROM information_schema.tables)",
        "read_text('/etc/passwd') IS NOT NULL",
        "getenv('HOME') IS NOT NULL",
        "current_setting('threads') = '2'",
        "getvariable('x') IS NULL",
        "len(repeat('x', 1000000000)) > 1",
        "len(range(1000000000)) > 1",
        "random() < 0.5",
        "row_number() OVER () < 3",
        "sum(width_px) > 3",
        "len(list_transform([1], x -> x)) = 1",
        "COLUMNS(*) = 1",
        "nothing = 1",
        "items.nothing = 1",
        "other.label = 'Can'",
        "deponij_position < 2",
        "rowid = 1",
        "label = ?",
        "label = $1",
        "PRAGMA version",
        "ATTACH '/tmp/x.db'",
        "SET threads=1",
        "COPY items TO '/tmp/deponij-stolen.csv'",
        "label = 'Can\0'",
        "(" * 5000 + "true" + ")" * 5000,
        "true" + " OR true" * 2000,
        "label = 'a' AND " * 20_000 + "true",
    ],
)
def test_what_is_no_condition_over_the_table_is_refused(rows: RowFilter, condition: str) -> None:
    with pytest.raises(UsageError):
        rows.where(condition)


def test_files_stay_closed_even_to_a_query_that_passed(rows: RowFilter, tmp_path: Path) -> None:
    """The second wall: what the syntax tree should have refused, the database itself refuses."""
    secret = tmp_path / "secret.csv"
    secret.write_text("label\nCan\n")
    for query in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"COPY items TO '{tmp_path / 'out.csv'}'",
        f"ATTACH '{tmp_path / 'out.db'}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access=true",
        "SET threads=1",
    ):
        with pytest.raises(UsageError):
            rows._run(query, [])
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_messages_say_what_there_is(rows: RowFilter) -> None:
    with pytest.raises(
        UsageError, match=r"no column 'lable', did you mean 'label'\?; columns are item_id, label"
    ):
        rows.where("lable = 'Can'")
    with pytest.raises(UsageError, match="function 'getenv' is not allowed in a filter; allowed are abs, "):
        rows.where("getenv('HOME') = ''")
    with pytest.raises(UsageError, match="a subquery is not allowed"):
        rows.where("label IN (SELECT 'Can')")
    with pytest.raises(UsageError, match="no condition in SQL: syntax error"):
        rows.where("label = = 3")
    with pytest.raises(UsageError, match="does not work"):
        rows.where("label > 3")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition("label", "=", "Can"), [0, 5]),
        (Condition("label", "=", "' OR 1=1 --"), []),
        (Condition("label", "!=", "Can"), [1, 3, 4]),
        (Condition("width_px", ">=", 30), [2, 4, 5]),
        (Condition("area", "<", 0), [4]),
        (Condition("label", "in", ["Can", "Bottle"]), [0, 1, 5]),
        (Condition("label", "in", []), []),
        (Condition("label", "in", ["Can", None]), [0, 5]),
        (Condition("width_px", "in", [20, 50.0]), [1, 4]),
        (Condition("width_px", "not in", [20]), [0, 2, 4, 5]),
        (Condition("label", "not in", []), [0, 1, 2, 3, 4, 5]),
        (Condition("label", "not in", ["Can"]), [1, 3, 4]),
        (Condition("width_px", "between", [20, 50]), [1, 2, 4]),
        (Condition("label", "contains", "CAN"), [0, 3, 5]),
        (Condition("label", "contains", "%"), []),
        (Condition("label", "starts with", "can"), [0, 3, 5]),
        (Condition("tags", "contains", "a"), [0, 5]),
        (Condition("label", "is null"), [2]),
        (Condition("width_px", "is not null"), [0, 1, 2, 4, 5]),
        (Condition('odd "name', "=", True), [0, 2, 4]),
    ],
)
def test_structured_conditions(rows: RowFilter, condition: Condition, expected: list[int]) -> None:
    assert chosen(rows.matching([condition])) == expected


def test_structured_conditions_all_hold_and_none_means_everything(rows: RowFilter) -> None:
    assert chosen(rows.matching([Condition("label", "=", "Can"), Condition("width_px", ">", 10)])) == [5]
    assert chosen(rows.matching([])) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "condition",
    [
        Condition("nothing", "=", 1),
        Condition("label; DROP TABLE items", "=", 1),
        Condition("label", "= 1 OR", 1),
        Condition("label", "LIKE", "%"),
        Condition("label", "=", None),
        Condition("label", "=", ["Can"]),
        Condition("label", "in", "Can"),
        Condition("width_px", "between", [1]),
        Condition("width_px", "=", "wide"),
        Condition("tags", "=", "a"),
        Condition("deponij_position", "=", 1),
    ],
)
def test_structured_conditions_refused(rows: RowFilter, condition: Condition) -> None:
    with pytest.raises(UsageError):
        rows.matching([condition])


def test_filters_run_from_several_threads(rows: RowFilter) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: chosen(rows.where(f"width_px = {10 * n}")), [1, 2, 3, 5] * 8))
    assert answers == [[0], [1], [2], [4]] * 8
