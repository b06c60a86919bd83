"""Tables that people write: CSV, TSV and Parquet, texts as texts. What their columns mean, who reads them knows."""

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv

from deponij.store.atomic import read_table
from deponij.store.errors import DataError, StoreError

_PARQUET = (".parquet", ".pq")
_DELIMITERS = ",\t;|"


def read_listing(path: Path, encoding: str = "utf-8") -> pa.Table:
    """The table, texts as texts: only an empty field is a missing value, since a class may be called `NA`.

    Raises:
        DataError: there is none, it is in another encoding, or it is no table.
    """
    if not path.is_file():
        raise DataError(f"table {path} {'is not a file' if path.exists() else 'does not exist'}")
    if path.suffix.lower() in _PARQUET:
        try:
            table = read_table(path)
            table.validate(full=True)
            return table
        except StoreError as error:
            raise DataError(str(error)) from error
        except pa.ArrowInvalid as error:
            raise DataError(f"table {path} holds what its columns cannot: {error}") from error
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    try:
        text = data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise DataError(
            f"table {path} is not in {encoding}: {error}; name its encoding, such as `cp1252` or `shift_jis`"
        ) from error
    _check_quotes(text, path)
    header = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    try:
        return arrow_csv.read_csv(
            io.BytesIO(text.encode()),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(strings_can_be_null=False, null_values=[""]),
        )
    except pa.ArrowException as error:
        raise DataError(f"table {path} cannot be read as CSV: {error}") from error


def _check_quotes(text: str, path: Path) -> None:
    """Refuse a table in which a quotation mark is never closed: all rows behind it would be one label."""
    if text.count('"') % 2 == 0:
        return
    header = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    begin, rows = 1, csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        for _ in rows:
            begin = rows.line_num + 1
    except csv.Error as error:
        if not any(
            sign in str(error) for sign in ("unexpected end of data", "field larger than field limit")
        ):
            return
        raise DataError(
            f"table {path}: in the row that begins in line {begin} a quotation mark is never closed; double it "
            "where it belongs to a text"
        ) from error
