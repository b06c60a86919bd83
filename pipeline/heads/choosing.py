"""How heads choose on validation: the pair they are given, and what an answer to it is worth.

Shape letters: n examples, d feature width, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.heads.head import Floats, Names, check_examples
from deponij.pipeline.record_lists import rounded
from deponij.store.errors import DataError
from deponij.store.scratch import taken

HOLD_OUT = 0.1


def validation_pair(
    X_val: ArrayLike | None, y_val: ArrayLike | None, classes: Names, width: int
) -> tuple[Floats, Names] | None:
    """The validation features [n, d] and names [n], checked; None where there are none.

    Raises:
        DataError: another width, NaN or infinite values, or no example of any of the classes.
    """
    if X_val is None or y_val is None:
        return None
    features, names = check_examples(X_val, y_val, "validation features")
    if features.shape[1] != width:
        raise DataError(f"training features have width {width}, validation features {features.shape[1]}")
    if not np.isin(names, classes).any():
        raise DataError(
            f"none of the {len(names)} validation examples has a class that training has; "
            f"validation: {np.unique(names)[:5].tolist()}, training: {classes[:5].tolist()}"
        )
    return features, names


def worth(logits: Floats, classes: Names, truth: Names) -> tuple[float, float]:
    """Top-1 and mean log-loss of logits [n, C]; of the latter six digits, so that no last bit decides what is chosen.

    A truth that is not among the classes is answered wrongly; it has no log-loss, since it would
    cost the same whatever is chosen.
    """
    correct = classes[logits.argmax(axis=1)] == truth
    known = np.flatnonzero(np.isin(truth, classes))
    if len(known) == 0:
        return float(correct.mean()), 0.0
    shifted = logits[known] - logits[known].max(axis=1, keepdims=True)
    columns = np.searchsorted(classes, truth[known])
    chosen = np.take_along_axis(shifted, columns[:, None], axis=1)[:, 0]
    log_loss = np.log(np.exp(shifted).sum(axis=1)) - chosen
    return float(correct.mean()), float(rounded(float(log_loss.mean())))


@dataclass(frozen=True, slots=True)
class Halves:
    """What to learn from and what to choose by.

    Attributes:
        features, names: to learn from.
        validation: to choose by.
        told: what that is, in words.
    """

    features: Floats
    names: Names
    validation: tuple[Floats, Names]
    told: str


def halves(features: Floats, names: Names, validation: tuple[Floats, Names] | None, seed: int) -> Halves:
    """The validation pair, or where there is none a tenth of the training examples, held out."""
    if validation is not None:
        return Halves(features, names, validation, "validation")
    held_out = hold_out(names, seed)
    told = f"a held-out tenth of training (n = {held_out.sum()})"
    kept, held = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return Halves(taken(features, kept), names[kept], (taken(features, held), names[held]), told)


def hold_out(names: Names, seed: int) -> NDArray[np.bool_]:
    """Which examples to hold out where validation is missing: a tenth of each class, at least one of two."""
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(names), dtype=bool)
    for name in np.unique(names):
        rows = generator.permutation(np.flatnonzero(names == name))
        n_held_out = max(1, round(HOLD_OUT * len(rows))) if len(rows) > 1 else 0
        held_out[rows[:n_held_out]] = True
    return held_out
