"""Files of decisions about single items: reading, writing, and what becomes of items."""

from pathlib import Path

import pyarrow as pa
import pytest

from deponij.pipeline.data.corrections import Correction, Corrections, read_corrections, write_corrections
from deponij.pipeline.data.item import Item
from deponij.store.errors import DataError, StoreError, UsageError

SCHEMA = pa.schema([("label", pa.string()), ("area", pa.float64())])
HOSTILE = (
    "=cmd|'x'!A1",
    "'=a",
    "''",
    "two\nlines",
    "cr\rname",
    'a,b;"q"',
    "   ",
    " x ",
    "@",
    "-5",
    "\u202eevil",
    "\t",
)


def items(*pairs: tuple[str, str | None]) -> list[Item]:
    return [
        Item(name, name, content=b"x", key="k", metadata={"label": label, "area": 1.0})
        for name, label in pairs
    ]


def passed(
    file: Path, *pairs: tuple[str, str | None], keep: Path | None = None
) -> tuple[dict[str, object], list[str]]:
    decided = Corrections.read([file] if file.exists() else [], keep)
    found = {one.item_id: one.metadata["label"] for one in decided.applied(items(*pairs), SCHEMA)}
    decided.check()
    return found, decided.notes


def written(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "fixes.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_labels_change_items_go_and_the_rest_stays(tmp_path: Path) -> None:
    file = written(tmp_path, "item_id,do,label\na,relabel,dog\nb,leave-out,\nc,right,\nd,,\n")
    found, notes = passed(file, ("a", "cat"), ("b", "cat"), ("c", "cat"), ("d", "cat"), ("e", "dog"))
    assert found == {"a": "dog", "c": "cat", "d": "cat", "e": "dog"}
    assert notes == [
        "items relabelled: 1",
        "items left out: 1",
        "items in the corrections of which nothing is decided (`do` is empty): 1",
    ]


@pytest.mark.parametrize(
    "text", ["item_id,label\na,dog\n", "ITEM_ID;Do;Label\r\na;;dog\r\n", "label\titem_id\ndog\ta\n"]
)
def test_a_label_alone_is_a_new_label_and_spreadsheets_may_choose_the_delimiter(
    tmp_path: Path, text: str
) -> None:
    assert passed(written(tmp_path, text, "utf-8-sig"), ("a", "cat"), ("x", "dog"))[0] == {
        "a": "dog",
        "x": "dog",
    }


def test_what_is_not_there_and_new_classes_are_told(tmp_path: Path) -> None:
    notes = passed(written(tmp_path, "item_id,label\na,dgo\ngone,dog\n"), ("a", "cat"), ("b", "dog"))[1]
    assert "corrections of items that are not in the data: 1, the first: 'gone'" in notes
    assert "classes that only the corrections have: 'dgo'" in notes


def test_corrections_of_other_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="other data"):
        passed(written(tmp_path, "item_id,label\ngone,dog\n"), ("a", "cat"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "columns none"),
        ("path,label\na,dog\n", "have item_id and do"),
        ("item_id,note\na,b\n", "have item_id and do"),
        ("item_id,do\na,delete\n", "line 2: do is relabel or leave-out or right, got 'delete'"),
        ("item_id,do,label\na,relabel,\n", "line 2: relabel needs a label"),
        ("item_id,do,label\n,leave-out,\n", "line 2 has no item_id"),
        ("item_id,label\na,dog\na,cat\n", "line 3 says otherwise of 'a'"),
    ],
)
def test_files_that_are_none_are_refused_with_the_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_corrections(written(tmp_path, text))


def test_other_encodings_and_absent_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="CSV UTF-8"):
        read_corrections(written(tmp_path, "item_id,label\na,Bär\n", "cp1252"))
    with pytest.raises(StoreError, match="cannot read"):
        read_corrections(tmp_path / "none.csv")


def test_a_column_that_holds_no_names_is_refused(tmp_path: Path) -> None:
    for column, told in (("area", "no names"), ("race", "these data have label, area")):
        with pytest.raises(UsageError, match=told):
            passed(written(tmp_path, f"item_id,label,column\na,dog,{column}\n"), ("a", "cat"))


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_comes_back_as_it_was_and_is_no_formula(tmp_path: Path, name: str) -> None:
    path = tmp_path / "fixes.csv"
    rows = [Correction(item_id=name, do="relabel", label=name, column="label", was="", note=name)]
    write_corrections(path, rows)
    assert read_corrections(path) == rows
    cells = path.read_text("utf-8-sig").partition("\n")[2].replace('"', "").split(",")
    assert not any(cell.startswith(("=", "+", "@")) for cell in cells)


def test_a_list_to_keep_leaves_out_the_rest(tmp_path: Path) -> None:
    keep = tmp_path / "keep.txt"
    keep.write_bytes(b"a\r\nb\r\n")
    found, notes = passed(tmp_path / "none", ("a", "x"), ("b", "x"), ("c", "x"), keep=keep)
    assert (list(found), notes) == (["a", "b"], ["items not in the list to keep, and left out: 1"])
    keep.write_bytes(b"z\n")
    with pytest.raises(DataError, match="list to keep"):
        passed(tmp_path / "none", ("a", "x"), keep=keep)
    keep.write_bytes(b"\n")
    with pytest.raises(UsageError, match="names no items"):
        passed(tmp_path / "none", ("a", "x"), keep=keep)


def test_of_two_files_the_later_one_counts(tmp_path: Path) -> None:
    first, second = written(tmp_path, "item_id,label\na,dog\n"), tmp_path / "more.csv"
    second.write_text("item_id,do\na,right\n")
    decided = Corrections.read([first, second])
    assert [one.metadata["label"] for one in decided.applied(items(("a", "cat")), SCHEMA)] == ["cat"]


def test_an_item_of_which_one_column_is_decided_is_not_open(tmp_path: Path) -> None:
    file = written(tmp_path, "item_id,do,label,column\na,relabel,dog,label\na,,,area\nb,,,label\nb,,,area\n")
    notes = passed(file, ("a", "cat"), ("b", "dog"))[1]
    assert "items in the corrections of which nothing is decided (`do` is empty): 1" in notes
