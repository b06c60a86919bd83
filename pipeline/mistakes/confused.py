"""Classes that are confused most, with the items that show it."""

from collections.abc import Sequence

import numpy as np

from deponij.pipeline.heads.head import Names
from deponij.pipeline.mistakes.records import ConfusedPair
from deponij.pipeline.mistakes.suspects import OutOfFold
from deponij.pipeline.reports.confusion import most_confused


def find_confused(
    ids: Sequence[str], names: Names, found: OutOfFold, *, n_pairs: int, n_items: int
) -> list[ConfusedPair]:
    """The most frequent pairs of label and out-of-fold answer among the judged items.

    Args:
        n_items: examples of each pair, at most.
    """
    answers, sureness = found.answers, found.probs.max(axis=1)
    judged = np.flatnonzero(found.is_judged)
    pairs = []
    for pair in most_confused(names[judged], answers[judged], n_pairs):
        rows = judged[(names[judged] == pair.truth) & (answers[judged] == pair.answer)]
        surest = rows[np.argsort(-sureness[rows], kind="stable")][:n_items]
        shown = tuple(str(ids[row]) for row in surest)
        pairs.append(
            ConfusedPair(truth=pair.truth, answer=pair.answer, n=pair.n, n_truth=pair.n_truth, item_ids=shown)
        )
    return pairs
