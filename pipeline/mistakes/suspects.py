"""Labels that are probably wrong, and classes that are confused: out-of-fold prediction, then confident learning.

Every item is answered by a logistic regression that has seen neither it nor another crop of its photograph.
Where that is sure of another class, beyond what is usual for the class, the label is suspect: Northcutt, Jiang
and Chuang, "Confident Learning" (JAIR 70, 2021), in the authors' library cleanlab.

Shape letters: n items, d feature width, C classes.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.choosing import worth
from deponij.pipeline.heads.head import Floats, Names
from deponij.pipeline.heads.softmax_regression import DEFAULT_C, fit_path, standardised
from deponij.pipeline.mistakes.records import ConfusedPair, Suspect
from deponij.pipeline.reports.confusion import most_confused
from deponij.store.errors import DataError
from deponij.store.scratch import taken

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Predictions for n items by classifiers that have not seen them.

    Attributes:
        classes: [C], sorted.
        probs: float64 [n, C]; zero for classes that an item's classifier did not know.
        is_judged: [n], whether it knew the item's own class; of the others nothing can be said.
        c: the penalty.
        n_folds: how many classifiers.
    """

    classes: Names
    probs: NDArray[np.float64]
    is_judged: NDArray[np.bool_]
    c: float
    n_folds: int

    @property
    def answers(self) -> Names:
        """The likeliest class of each item."""
        answers: Names = self.classes[self.probs.argmax(axis=1)]
        return answers


def out_of_fold(
    features: Floats,
    names: Names,
    groups: Names,
    *,
    folds: int,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> OutOfFold:
    """Predict each item from those of other photographs; folds are alike in classes.

    Args:
        features: [n, d], finite.
        names: classes [n].
        groups: photographs [n].
        folds: at most; with few photographs or few items of every class there are fewer.
        advance: is told of folds that were answered, and of one more when the penalty is chosen.

    Raises:
        DataError: nothing to learn from: one class, one photograph, no class with two items, constant features.
    """
    n_folds = _n_folds(names, groups, folds)
    standard = standardised(features, np.arange(len(features)))
    classes = np.unique(names)
    probs = np.zeros((len(names), len(classes)))
    is_judged = np.zeros(len(names), dtype=bool)
    c: float | None = None
    for train, test in _folds(names, groups, n_folds, seed):
        if c is None:
            c = _choose_c(standard, names, train, test)
            advance(1)
        fitted = next(fit_path(taken(standard, train), names[train], [c]))
        probs[np.ix_(test, np.searchsorted(classes, fitted.classes))] = fitted.probs(taken(standard, test))
        is_judged[test] = np.isin(names[test], fitted.classes)
        advance(1)
    return OutOfFold(classes, probs, is_judged, DEFAULT_C if c is None else c, n_folds)


def _n_folds(names: Names, groups: Names, folds: int) -> int:
    classes, counts = np.unique(names, return_counts=True)
    n_groups = len(np.unique(groups))
    if len(classes) < 2:
        raise DataError(
            f"all {len(names)} items have the label {str(classes[0])!r}; a label can be called wrong only where "
            "there are at least two classes"
        )
    if n_groups < 2:
        raise DataError(
            f"all {len(names)} items are of one photograph; judging a label takes items of other photographs"
        )
    if counts.max() < 2:
        raise DataError(
            f"each of the {len(classes)} classes has one item only; judging a label takes at least two of its class"
        )
    return max(2, min(folds, n_groups, int(counts.max())))


def _folds(names: Names, groups: Names, n_folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Of classes with fewer items than folds; see `is_judged`.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for train, test in splitter.split(np.zeros(len(names)), names, groups):
            if len(train) and len(test):
                yield train, test


def _choose_c(features: NDArray[np.float32], names: Names, train: Rows, test: Rows) -> float:
    """The penalty with the lowest log-loss on the first fold; probabilities matter here, not answers."""
    if not np.isin(names[test], names[train]).any():
        return DEFAULT_C
    path, held = fit_path(taken(features, train), names[train]), taken(features, test)
    return min((worth(one.logits(held), one.classes, names[test])[1], one.c) for one in path)[1]


def find_suspects(ids: Sequence[str], names: Names, held_out: OutOfFold) -> list[Suspect]:
    """The judged items whose label is probably wrong, worst first; empty where no label is.

    Args:
        ids, names: of the n items.
    """
    rows = np.flatnonzero(held_out.is_judged)
    classes, codes = np.unique(names[rows], return_inverse=True)
    if len(classes) < 2:
        return []
    # cleanlab takes seconds to import.
    from cleanlab.count import num_label_issues
    from cleanlab.rank import get_label_quality_scores

    # Classes that occur in one photograph only can neither be judged nor be suggested.
    probs = held_out.probs[np.ix_(rows, np.searchsorted(held_out.classes, classes))]
    probs = np.maximum(probs, 1e-12)
    probs /= probs.sum(axis=1, keepdims=True)
    best = probs.argmax(axis=1)
    quality = get_label_quality_scores(codes, probs, method="self_confidence")
    order = [i for i in np.argsort(quality, kind="stable").tolist() if best[i] != codes[i]]
    # How many labels are wrong is estimated from all; which they are, by the order. The estimate leaves out those
    # of which nothing is sure; further ones must have a suggestion that is likelier than not. Of 5 % planted
    # errors in Gaussian clusters this lists 95 %, also where clusters overlap; the estimate alone 70 to 90 %.
    n_sure = num_label_issues(codes, probs, estimation_method="off_diagonal")
    n_likely = 1.5 * num_label_issues(codes, probs, estimation_method="off_diagonal_calibrated")
    listed = [
        i for place, i in enumerate(order) if place < n_sure or (place < n_likely and probs[i, best[i]] > 0.5)
    ]
    return [
        Suspect(
            item_id=str(ids[rows[i]]),
            label=str(classes[codes[i]]),
            suggested=str(classes[best[i]]),
            quality=round(float(quality[i]), 6),
            prob_label=round(float(probs[i, codes[i]]), 6),
            prob_suggested=round(float(probs[i, best[i]]), 6),
        )
        for i in listed
    ]


def find_confused(
    ids: Sequence[str], names: Names, held_out: OutOfFold, *, n_pairs: int, n_items: int
) -> list[ConfusedPair]:
    """The most frequent pairs of label and out-of-fold answer among the judged items.

    Args:
        n_items: examples of each pair, at most.
    """
    answers, sureness = held_out.answers, held_out.probs.max(axis=1)
    judged = np.flatnonzero(held_out.is_judged)
    pairs = []
    for pair in most_confused(names[judged], answers[judged], n_pairs):
        rows = judged[(names[judged] == pair.truth) & (answers[judged] == pair.answer)]
        surest = rows[np.argsort(-sureness[rows], kind="stable")][:n_items]
        shown = tuple(str(ids[row]) for row in surest)
        pairs.append(
            ConfusedPair(truth=pair.truth, answer=pair.answer, n=pair.n, n_truth=pair.n_truth, item_ids=shown)
        )
    return pairs
