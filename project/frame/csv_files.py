"""Records as CSV files, for `dvc plots` and for people. This is no stage.

A record is one line, whatever names are in it, for many readers go by lines; and no name is a formula for the
spreadsheet that opens it (https://owasp.org/www-community/attacks/CSV_Injection): such a name has an apostrophe before
it. The names as they are stand in the Parquet and JSON files beside.
"""

import csv
import io
from collections.abc import Mapping, Sequence

from deponij.store.texts import one_line

_FORMULA = ("=", "+", "-", "@")


def csv_bytes(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> bytes:
    """Records as a CSV file with these columns; what a record lacks is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    shown = one_line(value)
    return f"'{shown}" if shown.startswith(_FORMULA) and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
