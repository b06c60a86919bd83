"""CSV files: what readers of fields, of lines, and spreadsheets make of hostile names."""

import csv
import io

import pandas

from deponij.project.frame.csv_files import csv_bytes

NAMES = ["two\nlines", "cr\rhere", 'quote " and, comma', "line\u2028sep", "\x85", "   ", "tab\there"]


def test_a_record_is_a_line_for_every_reader() -> None:
    rows = [{"name": name, "n": k} for k, name in enumerate(NAMES)]
    text = csv_bytes(rows, ["name", "n", "absent"]).decode()
    assert len(text.splitlines()) == len(rows) + 1
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["n"] for row in read] == [str(k) for k in range(len(rows))]
    assert [row["name"] for row in read][:3] == ["two\\nlines", "cr\\rhere", 'quote " and, comma']
    assert pandas.read_csv(io.StringIO(text))["n"].tolist() == list(range(len(rows)))


def test_no_name_is_a_formula() -> None:
    names = ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-x", "-1", "+5.5", "-1e3", "a=b"]
    text = csv_bytes([{"name": name, "n": -1.5} for name in names], ["name", "n"]).decode()
    read = list(csv.reader(io.StringIO(text)))[1:]
    assert [row[0] for row in read] == [
        "'=1+1", "'@SUM(A1)", "'+cmd|' /C calc'!A0", "'-x", "-1", "+5.5", "-1e3", "a=b",
    ]  # fmt: skip
    assert {row[1] for row in read} == {"-1.5"}
