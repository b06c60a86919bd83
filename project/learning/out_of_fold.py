"""Answers to cross-validated items, each by a head that has not learned from its fold, and the head that is kept.

Which items teach, validate and test together: `Examples.rotations`. This is no stage.

Shape letters: n items, d feature width, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.head import Head
from deponij.pipeline.metrics.classification import widened
from deponij.store.scratch import taken

Vectors = NDArray[np.floating]
# Learns from features and names, chooses on a second pair of them where there is one.
Fit = Callable[[Head, Vectors, NDArray[np.str_], Vectors | None, NDArray[np.str_] | None], Head]


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of learning.

    Attributes:
        head: to be kept.
        logits: [n, C] of all items, in the order of its classes; of cross-validated ones by heads that had not seen
            them.
        protocol: in words, how they came about.
    """

    head: Head
    logits: NDArray[np.floating]
    protocol: str


def learned(blank: Head, fit: Fit, examples: Examples, vectors: Vectors) -> Learned:
    """Fit a head on `train` and let it answer everything; of folds, fit one for each, and the kept one on all.

    Args:
        blank: the head as it shall be fitted; it stays as it is.
        fit: given a new head of the same parameters.
        vectors: [n, d].

    Raises:
        DeponijError: what `fit` raises.
    """
    heads = [_fitted(blank, fit, rotation, vectors) for rotation in examples.rotations()]
    return kept(blank, heads, fit, examples, vectors)


def kept(blank: Head, heads: Sequence[Head], fit: Fit, examples: Examples, vectors: Vectors) -> Learned:
    """As `learned`, of fitted heads in the order of `examples.rotations()`."""
    if examples.folds is None:
        return Learned(heads[0], heads[0].decision_function(vectors), heads[0].protocol)
    last = fit(blank.settled(heads), vectors, examples.labels, None, None)
    protocol = (
        f"{len(heads)} folds: in turn one is tested, one chosen on, and {len(heads) - 2} learned from; the head that is "
        f"kept learned from all, with the median of their choices: {last.protocol}"
    )
    return Learned(last, out_of_fold(heads, examples, vectors, last.classes_), protocol)


def out_of_fold(
    heads: Sequence[Head], examples: Examples, vectors: Vectors, classes: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Logits [n, C] of all items, each by the head of the rotation that tests it.

    Args:
        heads: in the order of `examples.rotations()`.
        classes: [C], sorted, all that any head knows; what a head does not know gets its lowest logit of the item.
    """
    logits = np.empty((len(examples.ids), len(classes)))
    for head, rotation in zip(heads, examples.rotations(), strict=True):
        rows = rotation.rows("test")
        logits[rows] = widened(
            head.decision_function(taken(vectors, rows)), head.classes_.tolist(), classes.tolist()
        )
    return logits


def _fitted(blank: Head, fit: Fit, examples: Examples, vectors: Vectors) -> Head:
    train, val = examples.rows("train"), examples.rows("val")
    head = type(blank)(**blank.get_params())
    validation = (taken(vectors, val), examples.labels[val]) if len(val) else (None, None)
    return fit(head, taken(vectors, train), examples.labels[train], *validation)
