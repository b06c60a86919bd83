"""A grid of heads (learning rate x weight decay x seed x labels x features x kind) as one computation.

Heads of one feature set, label set and kind share their data, those of one seed their batches too; as many of them as
the processor's cache holds are trained together by `training`, on one thread, and such chunks run side by side. What a
chunk holds does not depend on the number of threads, and so neither does any result.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.cards import require
from deponij.pipeline.heads.gradient.head import GradientHead
from deponij.pipeline.heads.gradient.layers import HIDDEN, with_ones
from deponij.pipeline.heads.gradient.linear import LinearHead
from deponij.pipeline.heads.gradient.mlp import MlpHead
from deponij.pipeline.heads.gradient.recipe import GridPoint, Recipe
from deponij.pipeline.heads.gradient.training import Shape, Trained, train_together
from deponij.pipeline.heads.head import Floats, Names, check_examples, check_features, check_learnable
from deponij.store.errors import DataError, UsageError
from deponij.store.scratch import taken

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GridPoint", "Progress", "Recipe", "fit_grid", "train_grid"]

# Heads trained so far, and of how many.
Progress = Callable[[int, int], None]

_HEADS: dict[str, type[GradientHead]] = {"linear": LinearHead, "mlp": MlpHead}
# Of weights; gradients and two moments are three times as much. Measured with one thread on 1 MiB of
# second-level and 16 MiB of last-level cache a core: larger chunks are slower, smaller ones wait for Python.
_CHUNK_BYTES = 1_500_000
_CHUNK_HEADS = 16


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Heads that are trained together: their places in the grid."""

    shape: Shape
    places: tuple[int, ...]
    cost: int


def fit_grid(
    points: Sequence[GridPoint],
    features: Mapping[str, Floats],
    labels: Mapping[str, Names],
    train: NDArray[np.integer],
    val: NDArray[np.integer],
    recipe: Recipe | None = None,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[GradientHead]:
    """Fitted heads, in the order of points.

    Args:
        features: name -> [n, d_i]; all hold the same items in the same order.
        labels: name -> class names [n] of these items.
        train, val: rows to learn from, and to stop and choose by; `val` may be empty.
        recipe: what all heads share; None is the usual one.
        threads: that compute side by side.

    Raises:
        DataError: rows or labels do not match, no examples, NaN or infinite values, features that are
            the same for every training example, one class only, or validation without a trained class.
        UsageError: a point names what is not there, or a value is out of its range.
    """
    chosen = Recipe() if recipe is None else recipe
    trained = train_grid(points, features, labels, train, val, chosen, threads=threads, progress=progress)
    held = {name: taken(features[name], val) for name in {point.features for point in points}}
    heads = []
    for point, result in zip(points, trained, strict=True):
        classes, counts = np.unique(labels[point.labels][train], return_counts=True)
        head = _HEADS[point.kind].of(point, chosen, result, np.log(counts / len(train)))
        head.classes_ = classes.astype(np.str_)
        if len(val):
            truth = labels[point.labels][val]
            head.val_top1_ = float((head.predict(held[point.features]) == truth).mean())
        heads.append(head)
    return heads


def train_grid(
    points: Sequence[GridPoint],
    features: Mapping[str, Floats],
    labels: Mapping[str, Names],
    train: NDArray[np.integer],
    val: NDArray[np.integer],
    recipe: Recipe,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[Trained]:
    """Bare weights of each point, in the precision of its features; otherwise as `fit_grid`."""
    require("how heads learn", *recipe.conditions())
    _check_points(points, features, labels)
    _check_data(points, features, labels, train, val)
    chunks = _chunks(points, _shapes(points, features, labels, train, val))

    def run(chunk: _Chunk) -> list[Trained]:
        return train_together(chunk.shape, [points[place] for place in chunk.places], recipe)

    trained: dict[int, Trained] = {}
    with _one_thread_each(min(threads, len(chunks))) as pool:
        waiting = {pool.submit(run, chunk): chunk for chunk in chunks}
        for future in as_completed(waiting):
            trained |= zip(waiting[future].places, future.result(), strict=True)
            if progress is not None:
                progress(len(trained), len(points))
    return [trained[place] for place in range(len(points))]


@contextmanager
def _one_thread_each(n_workers: int) -> Iterator[ThreadPoolExecutor]:
    """Workers of which each computes with one thread: small products gain nothing from more."""
    import torch

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(max(1, n_workers), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        # After an error what has not begun is not begun.
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


# ------------------------------------------------------------------ what is trained together


def _shapes(
    points: Sequence[GridPoint],
    features: Mapping[str, Floats],
    labels: Mapping[str, Names],
    train: NDArray[np.integer],
    val: NDArray[np.integer],
) -> list[Shape]:
    """The shape of each point; points that can be trained together have the very same one."""
    padded = {
        name: (with_ones(features[name], train), with_ones(features[name], val))
        for name in {point.features for point in points}
    }
    shape_of: dict[tuple[str, str, str, str, float], Shape] = {}
    shapes = []
    for point in points:
        tau = point.tau if point.balance == "balanced-softmax" else 0.0
        key = (point.features, point.labels, point.kind, point.balance, tau)
        if key not in shape_of:
            names = labels[point.labels]
            width = features[point.features].shape[1]
            shape_of[key] = _shape(point, width, padded[point.features], names[train], names[val])
        shapes.append(shape_of[key])
    return shapes


def _shape(
    point: GridPoint, width: int, padded: tuple["Tensor", "Tensor"], names: Names, names_val: Names
) -> Shape:
    import torch

    x, x_val = padded
    classes, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
    # A class that training lacks has no column, so that its examples have no loss.
    known = np.flatnonzero(np.isin(names_val, classes))
    class_weights = offset = None
    if point.balance == "class-weights":
        class_weights = torch.from_numpy(len(names) / (len(classes) * counts)).to(x.dtype)
    elif point.balance == "balanced-softmax":
        offset = torch.from_numpy(point.tau * np.log(counts / len(names))).to(x.dtype)
    return Shape(
        kind=point.kind,
        x=x,
        codes=torch.from_numpy(codes.astype(np.int64)),
        x_val=x_val if len(known) == len(names_val) else x_val[torch.from_numpy(known)],
        codes_val=torch.from_numpy(np.searchsorted(classes, names_val[known]).astype(np.int64)),
        dim=width,
        n_classes=len(classes),
        class_weights=class_weights,
        offset=offset,
    )


def _chunks(points: Sequence[GridPoint], shapes: Sequence[Shape]) -> list[_Chunk]:
    """Points by shape and seed, their learning rates in order, in pieces of equal size; the most costly first.

    Where a seed has fewer heads than there are seeds, those of all seeds go together, though none can share a batch:
    of one rate and five seeds a step of 768 x 10 weights takes two fifths of the time of five steps.
    """
    sizes = Counter((id(shape), point.seed) for shape, point in zip(shapes, points, strict=True))
    n_seeds = Counter(shape for shape, _ in sizes)
    groups: dict[tuple[int, int | None], list[int]] = {}
    for place in sorted(range(len(points)), key=lambda place: points[place].lr):
        key = (id(shapes[place]), points[place].seed)
        is_mixed = sizes[key] < n_seeds[key[0]]
        groups.setdefault((key[0], None) if is_mixed else key, []).append(place)
    chunks = []
    for places in groups.values():
        shape = shapes[places[0]]
        width = shape.dim if shape.kind == "linear" else HIDDEN
        n_weights = shape.n_classes * width + (HIDDEN * shape.dim if shape.kind == "mlp" else 0)
        most = max(1, min(_CHUNK_HEADS, _CHUNK_BYTES // (n_weights * shape.x.element_size())))
        for part in np.array_split(np.array(places), -(-len(places) // most)):
            chunks.append(_Chunk(shape, tuple(part.tolist()), n_weights * len(part)))
    return sorted(chunks, key=lambda chunk: -chunk.cost)


# ------------------------------------------------------------------ checks


def _check_points(
    points: Sequence[GridPoint], features: Mapping[str, Floats], labels: Mapping[str, Names]
) -> None:
    for point in points:
        require(f"{point.kind} head", *point.conditions())
        for what, name, known in (
            ("head kind", point.kind, _HEADS),
            ("feature set", point.features, features),
            ("label set", point.labels, labels),
        ):
            if name not in known:
                raise UsageError(f"a grid point names the {what} {name!r}; there are: {', '.join(known)}")


def _check_data(
    points: Sequence[GridPoint],
    features: Mapping[str, Floats],
    labels: Mapping[str, Names],
    train: NDArray[np.integer],
    val: NDArray[np.integer],
) -> None:
    n_rows = {f"features {name!r}": len(array) for name, array in features.items()}
    n_rows |= {f"labels {name!r}": len(array) for name, array in labels.items()}
    if len(set(n_rows.values())) > 1:
        raise DataError(
            "a grid is over the same items in the same order, but "
            + ", ".join(f"{what} has {n} rows" for what, n in n_rows.items())
        )
    for name in dict.fromkeys(point.features for point in points):
        check_features(taken(features[name], val), f"validation features {name!r}")
    for feature_name, label_name in dict.fromkeys((point.features, point.labels) for point in points):
        names = labels[label_name]
        chosen, _ = check_examples(
            taken(features[feature_name], train), names[train], f"training features {feature_name!r}"
        )
        check_learnable(chosen, names[train])
        if len(val) and not np.isin(names[val], names[train]).any():
            raise DataError(
                f"none of the {len(val)} validation examples has a class of {label_name!r} that training has; "
                f"validation: {np.unique(names[val])[:5].tolist()}, training: {np.unique(names[train])[:5].tolist()}"
            )
