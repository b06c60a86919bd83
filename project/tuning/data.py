"""What a backbone is tuned on: labelled items of a split, and what it made of them when it was frozen, where that is asked.

Shape letters: n items, d width of the embedding, C classes.
"""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.examples import Examples, join_examples
from deponij.pipeline.heads.logistic import LogisticProbe
from deponij.pipeline.tuning.drawing import drawing
from deponij.project.extraction.extracting import extract_items
from deponij.project.extraction.feature_maker import FeatureMaker, FoundBackbone
from deponij.project.extraction.tuned_on import learned_from
from deponij.project.frame.settings import RunOptions
from deponij.project.learning.item_columns import read_folds, read_groups, read_labels, read_parts
from deponij.project.learning.results import Vectors, read_examples
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items
from deponij.store.view import View

Numbers = NDArray[np.int64]
# Mean and scale of the frozen features, weight and bias of a classifier of what is standardised by them.
Begun = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class TuningData:
    """Items with a part, a label and a picture.

    Attributes:
        examples: n of them. rows: int64 [n], of the items. features: [n, d], of the frozen backbone, or [n, 0]
            where they were not asked for.
        classes: [C], of the training items, sorted. targets: int64 [n], numbers of their classes, -1 for none of these.
    """

    items: Items
    examples: Examples
    features: Vectors
    rows: Numbers
    classes: NDArray[np.str_]
    targets: Numbers

    def of(self, part: str) -> Numbers:
        """Places of a part's items that can be learned from or chosen on."""
        places = self.examples.rows(part)
        return places[self.targets[places] >= 0]

    def learned_from(self) -> dict[str, str]:
        """Key -> part of the pictures that shape what is learned; of a picture in both parts it is `train`."""
        return {
            str(self.items.keys[self.rows[place]]): part
            for part in ("val", "train")
            for place in self.of(part)
        }

    def readable(self, failures: Collection[int]) -> "TuningData":
        """Without rows of the items whose pictures cannot be read."""
        kept = ~np.isin(self.rows, list(failures))
        return replace(
            self,
            examples=self.examples.only(kept),
            features=self.features[kept],
            rows=self.rows[kept],
            targets=self.targets[kept],
        )

    def probe(self) -> Begun:
        """The logistic probe of the frozen features, as `deponij fit` learns it."""
        train, val = self.of("train"), self.examples.rows("val")
        labels, features = self.examples.labels, self.features
        pair = (features[val], labels[val]) if len(val) else (None, None)
        head = LogisticProbe().fit(features[train], labels[train], *pair)
        return head.mean_, head.scale_, head.coef_, head.intercept_

    def nothing(self) -> Begun:
        """A classifier that knows nothing, of standardised features."""
        features = self.features[self.of("train")].astype(np.float64)
        scale = features.std(axis=0)
        wide = np.where(scale > 0, scale, 1.0)
        n_classes, d = len(self.classes), features.shape[1]
        return (
            features.mean(axis=0).astype(np.float32),
            wide.astype(np.float32),
            np.zeros((n_classes, d), np.float32),
            np.zeros(n_classes, np.float32),
        )

    def plain(self, d: int, seed: int) -> Begun:
        """A classifier of features [n, d] as they are, which begins as torch's linear layers do."""
        from torch import nn

        with drawing(seed, "classifier"):
            head = nn.Linear(d, len(self.classes))
        mean, scale = np.zeros(d, np.float32), np.ones(d, np.float32)
        return mean, scale, head.weight.detach().numpy(), head.bias.detach().numpy()


def read_data(
    found: FoundBackbone,
    items: Path,
    split: Path,
    labels: str,
    options: RunOptions,
    *,
    has_features: bool = True,
) -> TuningData:
    """Read it; features that the depot lacks are computed and kept there.

    Args:
        has_features: of the frozen backbone. Without them no picture has been looked at: see `TuningData.readable`.

    Raises:
        UsageError: the split has folds. DataError: fewer than two classes to learn.
        DeponijError: as `deponij.project.learning.results.read_examples`.
    """
    table = Items(items)
    if has_features:
        with tempfile.TemporaryDirectory(prefix="deponij-tune-") as aside:
            path = Path(aside) / "frozen.h5"
            extract_items(FeatureMaker(found, options), items, path)
            examples, features = read_examples(View(path), table, split, labels)
    else:
        table.require_current()
        examples = _examples(found, table, split, labels)
        features = np.empty((len(examples.ids), 0), np.float32)
    if examples.folds is not None:
        raise UsageError(
            f"{split} has folds, in which every item is tested; to be tuned, a backbone needs a split with a train part "
            "(--strategy group, or random)"
        )
    places = {item_id: row for row, item_id in enumerate(table.ids)}
    classes = np.unique(examples.labels[examples.rows("train")])
    if len(classes) < 2:
        raise DataError(
            f"{split}: its train part has items of {len(classes)} class(es) of {labels!r}; two are needed"
        )
    numbers = {name: number for number, name in enumerate(classes.tolist())}
    return TuningData(
        items=table,
        examples=examples,
        features=features,
        rows=np.array([places[item_id] for item_id in examples.ids.tolist()], np.int64),
        classes=classes,
        targets=np.array([numbers.get(label, -1) for label in examples.labels.tolist()], np.int64),
    )


def _examples(found: FoundBackbone, table: Items, split: Path, labels: str) -> Examples:
    """Of all items that have a picture, but for those that would test a backbone which has learned from them."""
    seen = learned_from(found.spec, found.description.weights_sha256)
    key_of = {item_id: key for item_id, key in zip(table.ids, table.keys, strict=True) if key is not None}
    groups, unit = read_groups(split, table)
    return join_examples(
        read_labels(table, labels),
        read_parts(split),
        groups,
        key_of,
        unit,
        read_folds(split),
        {item_id for item_id, key in key_of.items() if key in seen},
    )
