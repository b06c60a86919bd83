"""What the figure at the head of the page means, in plain words, for somebody who never heard of top-1."""

from deponij.pipeline.reports.table import ResultRow
from deponij.store.texts import in_percent

_OF_PART = {
    "test": "test pictures, from which it learned nothing",
    "val": "validation pictures, which also chose it",
    "train": "training pictures, from which it learned",
}


def in_words(row: ResultRow, majority: ResultRow) -> str:
    """How often it is right, of how many; how far other pictures would move that; what it takes to be no better.

    Args:
        majority: of the same items, the share of always answering the most frequent class.
    """
    n_right = round(row.top1 * row.n)
    return (
        f"Shown a picture, its first answer is the right one of {row.n_classes:,} classes in {in_percent(row.top1)} of "
        f"cases: {n_right:,} of {row.n:,} {_OF_PART[row.part]}. {_of_others(row)} {_of_baseline(row, majority)}"
    )


def _of_others(row: ResultRow) -> str:
    if row.top1_interval is None:
        return f"{row.n_groups:,} {row.unit} are too few to say how far other pictures would move that."
    low, high = row.top1_interval
    return (
        f"With other pictures of the same kind expect something between {in_percent(low)} and {in_percent(high)} "
        f"(95 % interval over {row.n_groups:,} {row.unit})."
    )


def _of_baseline(row: ResultRow, majority: ResultRow) -> str:
    always = f"always answering the most frequent class, which gives {in_percent(majority.top1)}"
    if row.top1_interval is not None and row.top1_interval[0] > majority.top1:
        return f"That is more than {always}."
    return f"That is not clearly more than {always}."
