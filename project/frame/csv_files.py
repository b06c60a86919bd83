"""Records as CSV files, for `dvc plots` and for people. This is no stage."""

import csv
import io
from collections.abc import Mapping, Sequence


def csv_bytes(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> bytes:
    """Records as a CSV file with these columns; what a record lacks is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
