"""Answers to new pictures as a file: Parquet or CSV. This is no stage."""

import csv
import io
from pathlib import Path

import pyarrow as pa

from deponij.project.record_files import check_ending, write_records
from deponij.services.predict.predict import PredictResult
from deponij.store.atomic import write_bytes

TABLE_ENDINGS = (".parquet", ".csv")
_COLUMNS = {
    "path": str,
    "item_id": str,
    "label": str,
    "prob": float,
    "top_labels": pa.list_(pa.string()),
    "top_probs": pa.list_(pa.float64()),
    "failure": str,
}


def write_predictions(out: Path, result: PredictResult) -> None:
    """Write a table: the predictions, then the failures, which have a reason instead of a label.

    Parquet: path, item_id, label, prob, top_labels and top_probs (lists), failure. CSV: path,
    item_id, failure, then label_1, prob_1, label_2, prob_2, …

    Raises:
        UsageError: the name ends in neither `.parquet` nor `.csv`.
    """
    check_ending(out, "--out", *TABLE_ENDINGS)
    good, bad = result.predictions, result.failures
    reasons = [{"path": one.path, "item_id": one.item_id, "failure": one.reason} for one in bad]
    if out.suffix.lower() == ".parquet":
        rows = [
            {
                **one.model_dump(exclude={"top"}),
                "top_labels": [answer.label for answer in one.top],
                "top_probs": [answer.prob for answer in one.top],
            }
            for one in good
        ]
        write_records(out, [*rows, *reasons], _COLUMNS, "--out")
        return
    n_top = max((len(one.top) for one in good), default=1)
    names = [f"{what}_{place}" for place in range(1, n_top + 1) for what in ("label", "prob")]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["path", "item_id", "failure", *names], lineterminator="\n")
    writer.writeheader()
    for one in good:
        answers = [value for answer in one.top for value in (answer.label, answer.prob)]
        writer.writerow({"path": one.path, "item_id": one.item_id, **dict(zip(names, answers, strict=False))})
    writer.writerows(reasons)
    write_bytes(out, text.getvalue().encode())
