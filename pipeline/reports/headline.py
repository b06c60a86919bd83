"""What the figure at the head of the page means, in plain words, for somebody who never heard of top-1."""

from deponij.pipeline.reports.table import ResultRow
from deponij.store.texts import in_percent

_OF_PART = {
    "test": "test pictures, from which it learned nothing",
    "val": "validation pictures, which also chose it",
    "train": "training pictures, from which it learned",
}
_OF_FOLDS = "pictures, each answered by what had learned from the others"


def in_words(row: ResultRow, chance: ResultRow, majority: ResultRow) -> str:
    """How often it is right, of how many; how far other pictures would move that; what takes no look at a picture.

    Args:
        chance, majority: of the same items: guessing, and always answering the most frequent class.
    """
    top1, _ = row.worth
    of_part = _OF_FOLDS if row.n_folds else _OF_PART[row.part]
    return (
        f"Shown a picture, its first answer is the right one of {row.n_classes:,} classes in {in_percent(top1)} of "
        f"cases: {round(top1 * row.n):,} of {row.n:,} {of_part}. {_of_others(row)} Guessing gives "
        f"{in_percent(chance.top1)}, always answering the most frequent class {in_percent(majority.top1)}"
        f"{_beside(row, max(chance.top1, majority.top1))}."
    )


def _of_others(row: ResultRow) -> str:
    _, interval = row.worth
    if interval is None:
        return f"{row.n_groups:,} {row.unit} are too few to say how far other pictures would move that."
    low, high = interval
    return (
        f"With other pictures of the same kind expect something between {in_percent(low)} and {in_percent(high)} "
        f"(95 % interval over {row.n_groups:,} {row.unit})."
    )


def _beside(row: ResultRow, baseline: float) -> str:
    _, interval = row.worth
    if interval is None or interval[0] > baseline:
        return ""
    return ", which is not clearly less"
