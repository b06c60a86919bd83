"""Answers to new pictures as a file: Parquet or CSV. This is no stage."""

import csv
import io
from pathlib import Path

import pyarrow as pa

from deponij.services.predict.predict import PredictResult
from deponij.store.atomic import write_bytes, write_table
from deponij.store.errors import UsageError

TABLE_ENDINGS = (".parquet", ".csv")


def check_table_path(out: Path) -> None:
    """Refuse a table of another format, before anything is computed.

    Raises:
        UsageError: the name ends in something else.
    """
    if out.suffix.lower() not in TABLE_ENDINGS:
        raise UsageError(f"--out writes {' or '.join(TABLE_ENDINGS)}, got {out.name!r}")


def write_predictions(out: Path, result: PredictResult) -> None:
    """Write a table: the predictions, then the failures, which have a reason instead of a label.

    Parquet: path, item_id, label, prob, top_labels and top_probs (lists), failure. CSV: path,
    item_id, failure, then label_1, prob_1, label_2, prob_2, …

    Raises:
        UsageError: the name ends in neither `.parquet` nor `.csv`.
    """
    check_table_path(out)
    if out.suffix.lower() == ".csv":
        write_bytes(out, _csv(result))
        return
    write_table(out, _table(result))


def _table(result: PredictResult) -> pa.Table:
    good, bad = result.predictions, result.failures
    nothing = [None] * len(bad)
    columns = {
        "path": pa.array([*(one.path for one in good), *(one.path for one in bad)], pa.string()),
        "item_id": pa.array([*(one.item_id for one in good), *(one.item_id for one in bad)], pa.string()),
        "label": pa.array([*(one.label for one in good), *nothing], pa.string()),
        "prob": pa.array([*(one.prob for one in good), *nothing], pa.float64()),
        "top_labels": pa.array(
            [*([a.label for a in one.top] for one in good), *nothing], pa.list_(pa.string())
        ),
        "top_probs": pa.array(
            [*([a.prob for a in one.top] for one in good), *nothing], pa.list_(pa.float64())
        ),
        "failure": pa.array([*[None] * len(good), *(one.reason for one in bad)], pa.string()),
    }
    return pa.table(columns)


def _csv(result: PredictResult) -> bytes:
    n_top = max((len(one.top) for one in result.predictions), default=1)
    names = [f"{what}_{place}" for place in range(1, n_top + 1) for what in ("label", "prob")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "item_id", "failure", *names])
    for one in result.predictions:
        answers = [value for answer in one.top for value in (answer.label, answer.prob)]
        writer.writerow([one.path, one.item_id or "", "", *answers])
    for bad in result.failures:
        writer.writerow([bad.path, bad.item_id or "", bad.reason, *[""] * len(names)])
    return text.getvalue().encode()
