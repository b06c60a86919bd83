"""What a backbone is tuned on: items of a split with labels, and what it made of them when it was frozen, or with captions.

Shape letters: n items, d width of the embedding, C classes, m captions.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.examples import Examples, LeftOut, join_examples
from deponij.pipeline.heads.logistic import LogisticProbe
from deponij.pipeline.tuning.drawing import drawing
from deponij.project.extraction.extracting import extract_items
from deponij.project.extraction.feature_maker import FeatureMaker, FoundBackbone
from deponij.project.extraction.tuned_on import learned_from
from deponij.project.frame.settings import RunOptions
from deponij.project.learning.item_columns import read_folds, read_groups, read_labels, read_parts
from deponij.project.learning.results import Vectors, read_shared_examples
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items
from deponij.store.view import View

Numbers = NDArray[np.int64]
# Mean and scale of the frozen features, weight and bias of a classifier of what is standardised by them.
Begun = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class ToldItems:
    """Items with a picture, a part and a label or a caption.

    Attributes:
        examples: n of them.
        rows: int64 [n], of the items.
        names: [C] classes of the training items or [m] captions of all, different and sorted.
        targets: int64 [n], numbers of their names, -1 for none of these, and for what is not chosen on (`fair`).
    """

    items: Items
    examples: Examples
    rows: Numbers
    names: NDArray[np.str_]
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

    def fair(self) -> Self:
        """Without items to be tested whose picture is learned from or chosen on; nor is one chosen on that is learned from.

        A picture may lie there twice, and a split that knows items alone puts it into two parts.

        Raises:
            DataError: nothing is left to test.
        """
        part_of, parts = self.learned_from(), self.examples.parts
        shown = np.array([part_of.get(str(self.items.keys[row]), "") for row in self.rows.tolist()], np.str_)
        is_tested, is_unfair = parts == "test", (parts == "test") & (shown != "")
        if is_unfair.any() and (is_unfair == is_tested).all():
            raise DataError(
                f"train and val have the pictures of all {is_tested.sum()} items of the test part too, so that nothing "
                "would test what is tuned; split anew, or add other pictures"
            )
        is_known = (parts == "val") & (shown == "train")
        chosen = replace(self, targets=np.where(is_known, -1, self.targets))
        return replace(chosen, **chosen._only(~is_unfair, "n_tuned_on"))

    def readable(self, failures: Collection[int]) -> Self:
        """Without rows of the items whose pictures cannot be read."""
        kept = ~np.isin(self.rows, list(failures))
        return replace(self, **self._only(kept, "n_without_features"))

    def _only(self, kept: NDArray[np.bool_], counted: LeftOut) -> dict[str, Any]:
        return {
            "examples": self.examples.only(kept, counted),
            "rows": self.rows[kept],
            "targets": self.targets[kept],
        }


@dataclass(frozen=True, kw_only=True)
class TuningData(ToldItems):
    """Items with a part, a label and features.

    Attributes:
        features: [n, d], of the frozen backbone; [n, 0] where they were not asked for.
        of_teacher: [n, d'], of its teacher; None without.
    """

    features: Vectors
    of_teacher: Vectors | None = None

    def _only(self, kept: NDArray[np.bool_], counted: LeftOut) -> dict[str, Any]:
        told = None if self.of_teacher is None else self.of_teacher[kept]
        return super()._only(kept, counted) | {"features": self.features[kept], "of_teacher": told}

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
        n_classes, d = len(self.names), features.shape[1]
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
            head = nn.Linear(d, len(self.names))
        mean, scale = np.zeros(d, np.float32), np.ones(d, np.float32)
        return mean, scale, head.weight.detach().numpy(), head.bias.detach().numpy()


def read_data(
    backbones: Sequence[FoundBackbone],
    items: Path,
    split: Path,
    labels: str,
    options: RunOptions,
    *,
    has_features: bool = True,
) -> TuningData:
    """Read it; features that the depot lacks are computed and kept there.

    Args:
        backbones: the backbone and, where there is one, its teacher. What one of them was tuned on tests nothing.
        has_features: without them no picture has been looked at: see `ToldItems.readable`.

    Raises:
        UsageError: the split has folds.
        DataError: fewer than two classes to learn.
        DeponijError: as `deponij.project.learning.results.read_examples`.
    """
    table = Items(items)
    others: list[Vectors] = []
    if has_features:
        with tempfile.TemporaryDirectory(prefix="deponij-tune-") as aside:
            views = []
            for number, one in enumerate(backbones):
                path = Path(aside) / f"{number}.h5"
                extract_items(FeatureMaker(one, options), items, path)
                views.append(View(path))
            examples, (features, *others) = read_shared_examples(views, table, split, labels)
    else:
        examples = _examples(backbones, table, read_labels(table, labels), split)
        features = np.empty((len(examples.ids), 0), np.float32)
    _require_parts(examples, split)
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
        of_teacher=others[0] if others else None,
        rows=_rows(table, examples),
        names=classes,
        targets=np.array([numbers.get(label, -1) for label in examples.labels.tolist()], np.int64),
    ).fair()


def read_captions(backbone: FoundBackbone, items: Path, split: Path, column: str) -> ToldItems:
    """Items with captions; blank ones are left out and counted (`examples.n_without_label`).

    Args:
        backbone: what it was tuned on tests nothing.

    Raises:
        UsageError: the items have no such column, it holds no texts, or the split has folds.
        DataError: fewer than two different captions to learn.
        DeponijError: as `deponij.project.learning.results.read_examples`.
    """
    table = Items(items)
    told = {
        item_id: caption if caption and caption.strip() else None
        for item_id, caption in zip(table.ids, _texts(table, column), strict=True)
    }
    examples = _examples([backbone], table, told, split)
    _require_parts(examples, split)
    n_learned = len(np.unique(examples.labels[examples.rows("train")]))
    if n_learned < 2:
        raise DataError(
            f"{split}: its train part has {n_learned} different caption(s) in {column!r}; two are needed to tell them apart"
        )
    captions, targets = np.unique(examples.labels, return_inverse=True)
    return ToldItems(
        items=table,
        examples=examples,
        rows=_rows(table, examples),
        targets=targets.astype(np.int64),
        names=captions,
    ).fair()


def _examples(
    backbones: Sequence[FoundBackbone], table: Items, told: Mapping[str, str | None], split: Path
) -> Examples:
    """Of all items that have a picture, but for those that would test a backbone which has learned from them."""
    table.require_current()
    seen = {key for one in backbones for key in learned_from(one.spec, one.description.weights_sha256)}
    key_of = {item_id: key for item_id, key in zip(table.ids, table.keys, strict=True) if key is not None}
    groups, unit = read_groups(split, table)
    tuned_on = {item_id for item_id, key in key_of.items() if key in seen}
    return join_examples(told, read_parts(split), groups, key_of, unit, read_folds(split), tuned_on)


def _texts(table: Items, column: str) -> list[str | None]:
    import pyarrow as pa

    texts = [
        one.name
        for one in table.metadata_schema
        if pa.types.is_string(one.type) or pa.types.is_large_string(one.type)
    ]
    if column not in texts:
        raise UsageError(
            f"the items have no column {column!r} of texts to learn captions from; they have: {', '.join(texts) or 'none'}"
        )
    return table.column(column)


def _require_parts(examples: Examples, split: Path) -> None:
    if examples.folds is not None:
        raise UsageError(
            f"{split} has folds, in which every item is tested; to be tuned, a backbone needs a split with a train part "
            "(--strategy group, or random)"
        )


def _rows(table: Items, examples: Examples) -> Numbers:
    return np.array([table.places[item_id] for item_id in examples.ids.tolist()], np.int64)
