"""How often the band of "twice the pictures" holds what twice the pictures bring, on pictures of CIFAR-10.

    .venv/bin/python benchmarks/forecasts.py PARQUET... --features FILE.npz

Features of 6,000 pictures are made once and kept in FILE. Then, again and again: some pictures are drawn and split as
`deponij run` splits them, a learning curve is made of them, and what it says of twice as many is held against the
truth. The truth is of one classifier, learned from those training items and as many more, on all pictures that neither
the curve nor that classifier has seen.

Shape letters: n pictures, d feature width.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from deponij.pipeline.curves import learning_curve
from deponij.pipeline.heads.centroid import NearestClassMean
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.logistic import LogisticProbe
from deponij.pipeline.metrics.curves import CurvePoint

N_PICTURES, BATCH = 6000, 64
Floats = NDArray[np.float32]
Names = NDArray[np.str_]


@dataclass(frozen=True)
class Setting:
    """A way to draw and split pictures.

    Attributes:
        n, n_classes: pictures, and of how many classes.
        folds: of cross-validation; 0 for one split with 60 % to learn from, 15 % to choose by, 25 % to test.
        ratio: the largest class over the smallest; geometric between.
    """

    n: int
    n_classes: int
    folds: int = 0
    ratio: float = 1.0

    def __str__(self) -> str:
        split = f"{self.folds} folds" if self.folds else "one split"
        return f"{self.n} pictures, {self.n_classes} classes{', uneven' if self.ratio > 1 else ''}, {split}"


SETTINGS = (
    Setting(120, 6, folds=5),
    Setting(209, 10, folds=5),
    Setting(360, 6, folds=5),
    Setting(360, 6),
    Setting(360, 6, ratio=8),
    Setting(720, 10),
    Setting(1000, 10, ratio=4),
    Setting(1440, 10),
)


def features_of(files: list[Path]) -> tuple[Floats, Names]:
    """EfficientNet-Lite0's features [n, d] of pictures drawn from Hugging Face parquet files, and their classes [n]."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    from deponij.pipeline.backbones import as_batch
    from deponij.services.library import load_backbone

    table = pa.concat_tables([pq.read_table(file) for file in files])
    rows = np.sort(np.random.default_rng(0).permutation(len(table))[:N_PICTURES])
    pictures, labels = (table.column(place).take(rows).to_pylist() for place in (0, 1))
    backbone = load_backbone("efficientnet-lite0")
    transform, found = backbone.description.transform, []
    for start in range(0, len(rows), BATCH):
        opened = [
            Image.open(io.BytesIO(one["bytes"])).convert("RGB") for one in pictures[start : start + BATCH]
        ]
        found.append(backbone.embed_images(as_batch([transform.apply(one) for one in opened])).numpy())
    return np.concatenate(found), np.array([f"class {label}" for label in labels])


@dataclass(frozen=True)
class World:
    """Pictures of a setting, and what twice as many would be.

    Attributes:
        rows: of the features, for the curve. rotations: their parts.
        train, val: rows of the first rotation. more_train, more_val: twice as many, these among them.
        unseen: rows of the same classes that are in none.
    """

    rows: NDArray[np.int64]
    rotations: list[Examples]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    more_train: NDArray[np.int64]
    more_val: NDArray[np.int64]
    unseen: NDArray[np.int64]


def world(labels: Names, setting: Setting, seed: int) -> World:
    """Drawn without replacement; parts are stratified."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(labels))[: setting.n_classes]
    weights = np.geomspace(setting.ratio, 1, setting.n_classes)
    counts = np.maximum(8, np.round(setting.n * weights / weights.sum())).astype(int)
    first, second, rest = [], [], []
    for name, count in zip(classes, counts, strict=True):
        rows = rng.permutation(np.flatnonzero(labels == name))
        first.append(rows[:count])
        second.append(rows[count : 2 * count])
        # As many of each class, in the same proportion, as there are of the rarest; seen by nobody.
        rest.append(rows[2 * count :])
    share = min(len(rows) / count for rows, count in zip(rest, counts, strict=True))
    unseen = np.concatenate([rows[: int(share * count)] for rows, count in zip(rest, counts, strict=True)])
    rows = np.concatenate(first)
    # Places in units of a class, so that both halves are split alike.
    places = np.concatenate([(np.arange(count) + rng.random()) / count for count in counts])
    rotations = [_examples(labels[rows], parts) for parts in _parts(places, setting.folds)]
    part = rotations[0].parts
    more = np.concatenate(second)
    return World(
        rows,
        rotations,
        rows[part == "train"],
        rows[part == "val"],
        np.concatenate([rows[part == "train"], more[part == "train"]]),
        np.concatenate([rows[part == "val"], more[part == "val"]]),
        unseen,
    )


def _parts(places: NDArray[np.float64], folds: int) -> Iterator[Names]:
    """Fold k tests, fold k + 1 validates, the others teach."""
    if not folds:
        yield np.array(["train", "val", "test"])[np.digitize(places % 1, [0.6, 0.75])]
    fold = np.floor(places % 1 * folds).astype(int)
    for k in range(folds):
        yield np.where(fold == k, "test", np.where(fold == (k + 1) % folds, "val", "train"))


def _examples(labels: Names, parts: Names) -> Examples:
    ids = np.array([f"{row}" for row in range(len(labels))])
    return Examples(ids, labels, parts, ids, "items", tuple(np.unique(labels)), len(ids), 0, 0, 0)


def truth(features: Floats, labels: Names, drawn: World, head: str) -> tuple[float, float]:
    """Top-1 on unseen pictures, of all training items and of twice as many."""

    def top1(train: NDArray[np.int64], val: NDArray[np.int64]) -> float:
        fitted = NearestClassMean() if head == "centroid" else LogisticProbe()
        fitted.fit(features[train], labels[train], features[val], labels[val])
        return float((fitted.predict(features[drawn.unseen]) == labels[drawn.unseen]).mean())

    return top1(drawn.train, drawn.val), top1(drawn.more_train, drawn.more_val)


def last_point(features: Floats, drawn: World, head: str) -> CurvePoint:
    """Of all training items, with what twice as many would bring."""
    return learning_curve(features[drawn.rows], drawn.rotations, per_class=(), tries=5, heads=(head,))[-1]  # type: ignore[arg-type]


def _held(band: tuple[float, float], then: float) -> tuple[bool, float, float]:
    """Whether a band holds the truth, how wide it is, and how far its middle is above the truth."""
    return band[0] <= then <= band[1], band[1] - band[0], sum(band) / 2 - then


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="CIFAR-10 as Hugging Face parquet")
    parser.add_argument("--features", type=Path, required=True, help="where features are kept")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--head", default="logistic", choices=["logistic", "centroid"])
    given = parser.parse_args()
    if not given.features.exists():
        features, labels = features_of(given.files)
        np.savez(given.features, features=features, labels=labels)
    kept = np.load(given.features)
    features, labels = kept["features"], kept["labels"]
    table = Table("", "told", "holds, %", "wide", "off", "gain: holds, %", "wide", "off")
    for setting in SETTINGS:
        rows = []
        for seed in range(given.repeats):
            drawn = world(labels, setting, seed)
            twice = last_point(features, drawn, given.head).twice
            if twice is not None and twice.band and twice.gain_band:
                now, then = truth(features, labels, drawn, given.head)
                rows.append([*_held(twice.band, then), *_held(twice.gain_band, then - now)])
        means = [f"{100 * value:.1f}" for value in np.mean(rows, axis=0)] if rows else ["-"] * 6
        table.add_row(str(setting), f"{len(rows)} of {given.repeats}", *means)
    Console().print(table)


if __name__ == "__main__":
    main()
