"""What a backbone is tuned on: labelled items of a split, and what it made of them when it was frozen.

Shape letters: n items, d width of the embedding, C classes.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.logistic import LogisticProbe
from deponij.project.extraction.extracting import extract_items
from deponij.project.extraction.feature_maker import FeatureMaker, FoundBackbone
from deponij.project.frame.settings import RunOptions
from deponij.project.learning.results import Vectors, read_shared_examples
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items
from deponij.store.view import View

Numbers = NDArray[np.int64]
# Mean and scale of the frozen features, weight and bias of a classifier of what is standardised by them.
Begun = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class TuningData:
    """Items with a part, a label and features.

    Attributes:
        examples: n of them. rows: int64 [n], of the items. features: [n, d], of the frozen backbone.
        of_teacher: [n, d'], features of the teacher; None without.
        classes: [C], of the training items, sorted. targets: int64 [n], numbers of their classes, -1 for none of these.
    """

    items: Items
    examples: Examples
    features: Vectors
    rows: Numbers
    classes: NDArray[np.str_]
    targets: Numbers
    of_teacher: Vectors | None = None

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

    def probe(self, features: Vectors) -> Begun:
        """The logistic probe of features [n, d], as `deponij fit` learns it."""
        train, val = self.of("train"), self.examples.rows("val")
        labels = self.examples.labels
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


def read_data(
    found: Sequence[FoundBackbone], items: Path, split: Path, labels: str, options: RunOptions
) -> TuningData:
    """Read it; features that the depot lacks are computed and kept there.

    Args:
        found: the backbone and, where there is one, its teacher. What one of them was tuned on tests nothing.

    Raises:
        UsageError: the split has folds. DataError: fewer than two classes to learn.
        DeponijError: as `deponij.project.learning.results.read_examples`.
    """
    table = Items(items)
    with tempfile.TemporaryDirectory(prefix="deponij-tune-") as aside:
        views = []
        for number, one in enumerate(found):
            path = Path(aside) / f"{number}.h5"
            extract_items(FeatureMaker(one, options), items, path)
            views.append(View(path))
        examples, (features, *others) = read_shared_examples(views, table, split, labels)
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
        of_teacher=others[0] if others else None,
    )
