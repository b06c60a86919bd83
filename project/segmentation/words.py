"""Vectors of the classes of scenes in a backbone's joint space, as `extract_dense` stored them. No text is encoded here.

Shape letters: C classes, d width of the joint space.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.store.errors import DataError, IdentityError, StoreError, UsageError
from deponij.store.identity import Identity
from deponij.store.view import View

# In the place of words where a decoder learns its class vectors.
LEARNED = "learned"
Vectors = NDArray[np.float32]


def class_vectors(path: Path, classes: Sequence[str], words: str, view: View) -> Vectors:
    """See `vectors_for`. Args: view: of the maps."""
    return vectors_for(path, classes, words, view.identity, f"{view.path} ({view.backbone})")


def vectors_for(path: Path, classes: Sequence[str], words: str, its: Identity, whose: str) -> Vectors:
    """One direction for each class: the mean of its texts' directions, float32 [C, d] of unit length.

    As CLIP_benchmark's zero-shot classifier: normalise each text, average, normalise.

    Args:
        path: a view of texts.
        words: `names`, `descriptions` or a set of templates.
        its, whose: of the maps, and what has them, for messages; its model must be the texts'.

    Raises:
        StoreError: there are none, or they are damaged.
        IdentityError: by another model than the maps.
        UsageError: no such words.
        DataError: a class has none.
    """
    if not path.is_file():
        raise StoreError(
            f"there are no vectors of words at {path}; the stage `extract_dense`, and `deponij extract-text --scenes "
            "SCENES`, make them of backbones that have a text tower; others learn their class vectors (`words: [learned]`)"
        )
    texts = View(path)
    mine = texts.identity
    if (mine.backbone, mine.weights) != (its.backbone, its.weights):
        raise IdentityError(f"{path} ({texts.backbone}) and {whose} are of different models")
    if not {"template", "group"} <= texts.columns.keys():
        raise StoreError(
            f"{path} holds no words of classes, but {len(texts)} rows of kind {texts.kind!r}; the stage `extract_dense` "
            "makes them of backbones that have a text tower"
        )
    templates, groups = texts.columns["template"], texts.columns["group"]
    if words not in set(templates.tolist()):
        raise UsageError(
            f"no words {words!r} in {path}; there are {', '.join(sorted(set(templates.tolist())))}"
        )
    vectors = texts.embedding.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    means = []
    for name in classes:
        rows = np.flatnonzero((templates == words) & (groups == name))
        if not len(rows):
            raise DataError(
                f"{path} has no {words} of the class {name!r}; make it again of these scenes (the stage `extract_dense`, "
                "or `deponij extract-text --scenes`)"
            )
        means.append(vectors[rows].mean(axis=0))
    raw = np.stack(means)
    unit: Vectors = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    return unit
