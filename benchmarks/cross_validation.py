"""What cross-validated figures are worth, in worlds whose truth is known: do intervals hold, and what does choosing cost?

    .venv/bin/python benchmarks/cross_validation.py

In each world items of six classes are drawn around centres in 32 dimensions (photographs of several items share a part
of their noise), put into ten folds, and answered out of fold as the stage `heads` does it. The truth is the accuracy on
20,000 new items of what is kept: of each head by itself, and of the one that is chosen.

Shape letters: n items, d feature width.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.data.splitting.folds import fold_split
from deponij.pipeline.heads.centroid import NearestClassMean
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.head import Head
from deponij.pipeline.heads.knn import NearestNeighbours
from deponij.pipeline.heads.logistic import LogisticProbe
from deponij.pipeline.metrics.choice import cross_fitted
from deponij.pipeline.metrics.clustered import Estimate, clustered_means
from deponij.project.learning.out_of_fold import learned

N_CLASSES, DIM, N_NEW = 6, 32, 20_000
# Some alike in worth, so that choosing is by luck as well.
HEADS: tuple[Head, ...] = (
    NearestClassMean(),
    LogisticProbe(cs=(0.001,)),
    LogisticProbe(cs=(0.01,)),
    LogisticProbe(cs=(0.1,)),
    NearestNeighbours(ks=(10,)),
    NearestNeighbours(ks=(20,)),
)


@dataclass(frozen=True)
class World:
    """Where items come from."""

    centres: NDArray[np.float64]
    spread: float
    n_alike: int

    def draw(
        self, rng: np.random.Generator, n: int
    ) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_]]:
        """Features [n, d], class names [n] and photographs [n], each of `n_alike` items of one class."""
        photo = np.arange(n) // self.n_alike
        of_photo = rng.integers(0, N_CLASSES, photo.max() + 1)
        codes = of_photo[photo]
        shared = rng.normal(size=(photo.max() + 1, DIM))[photo]
        own = rng.normal(size=(n, DIM))
        noise = own if self.n_alike == 1 else (shared + own) / np.sqrt(2)
        return self.centres[codes] + self.spread * noise, codes.astype(str), photo.astype(str)


@dataclass(frozen=True)
class Outcome:
    """One world: what is told and what is true, of the first head and of choosing among all."""

    told: Estimate
    true: float
    best: float
    fair: Estimate
    true_of_chosen: float


def one_world(world: World, n: int, seed: int) -> Outcome:
    """Draw, fold, learn, choose; then look at new items."""
    rng = np.random.default_rng(seed)
    X, names, photos = world.draw(rng, n)
    split = fold_split(photos, names, [None] * n, seed=seed)
    examples = Examples(
        ids=np.arange(n).astype(str),
        labels=names,
        parts=np.full(n, "test"),
        groups=photos,
        unit="photographs",
        pool_classes=tuple(sorted(set(names.tolist()))),
        n_items=n,
        n_outside_pool=0,
        n_without_label=0,
        n_without_features=0,
        folds=split.folds,
    )
    new, truth, _ = world.draw(rng, N_NEW)
    right, worth = [], []
    for head in HEADS:
        made = learned(head, lambda one, *pairs: one.fit(*pairs), examples, X)
        right.append(made.head.classes_[made.logits.argmax(axis=1)] == names)
        worth.append(made.head.score(new, truth))
    rows = np.stack(right)
    chosen = int(rows.sum(axis=1).argmax())
    assert split.folds is not None
    return Outcome(
        told=clustered_means(rows[2][:, None], photos, names).micro[0],
        true=worth[2],
        best=float(rows.mean(axis=1).max()),
        fair=cross_fitted(rows, split.folds, photos, names),
        true_of_chosen=worth[chosen],
    )


def _holds(found: Estimate, truth: float) -> bool:
    return found.interval is not None and found.interval[0] <= truth <= found.interval[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--worlds", type=int, default=300)
    given = parser.parse_args(arguments)
    print(
        "| items | a photograph | true top-1 | interval holds it | error of the figure | of the best one's own figure "
        "| of the fair figure | fair interval holds |\n|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    for n, n_alike, spread in (
        (60, 1, 1.0),
        (150, 1, 1.0),
        (360, 1, 1.0),
        (360, 4, 1.0),
        (360, 1, 0.6),
        (900, 1, 1.0),
    ):
        rng = np.random.default_rng(7)
        found = []
        for seed in range(given.worlds):
            centres = rng.normal(size=(N_CLASSES, DIM)) * 0.45
            found.append(one_world(World(centres, spread, n_alike), n, seed))
        off = [np.mean([one.told.value - one.true for one in found])]
        off += [np.mean([one.best - one.true_of_chosen for one in found])]
        off += [np.mean([one.fair.value - one.true_of_chosen for one in found])]
        held = np.mean([_holds(one.told, one.true) for one in found])
        fair = np.mean([_holds(one.fair, one.true_of_chosen) for one in found])
        true = np.mean([one.true for one in found])
        told = " | ".join(f"{100 * one:+.1f}" for one in off)
        print(f"| {n} | {n_alike} | {true:.1%} | {held:.1%} | {told} | {fair:.1%} |", flush=True)


if __name__ == "__main__":
    main()
