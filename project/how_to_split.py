"""How a run divides its items where not all of it was said. What strategies do: `deponij.pipeline.data.splitting`."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from deponij.pipeline.data.splitting.strategies import SplitParams
from deponij.pipeline.metrics.evaluation import FEWEST_FOLDS
from deponij.project.frame.settings import check
from deponij.project.learning.item_columns import holds_sets
from deponij.store.errors import UsageError
from deponij.store.items import Items

# With fewer in a test part an interval is some 20 points wide; then every item is tested once.
FEWEST_TESTED = 100
# What only some strategies can do, as its flag is written.
_ONLY_FOR = {"fractions": ("--fractions", ("random", "group")), "n_folds": ("--folds", ("folds",))}


@dataclass(frozen=True, slots=True)
class SplitWish:
    """What a user said of the split; None was left open. See `SplitParams`."""

    strategy: str | None = None
    group_by: str | None = None
    fractions: tuple[float, float, float] | None = None
    n_folds: int | None = None
    seed: int = 0

    def params(self, items: Items, labels: str) -> SplitParams:
        """As was asked for, as the data are divided, by folds where a test part would say little.

        Raises:
            UsageError: a wish that does not go with the strategy, or a value out of its range.
        """
        wishes = {"group_by": self.group_by, "fractions": self.fractions, "n_folds": self.n_folds}
        asked: dict[str, Any] = {name: one for name, one in wishes.items() if one is not None}
        if self.group_by is not None and self.group_by not in items.column_names:
            raise UsageError(
                f"these items have no column {self.group_by!r}; --group-by can name {', '.join(items.column_names)}"
            )
        strategy = self.strategy or self._strategy(items, labels)
        if strategy == "folds" and holds_sets(items, labels):
            raise UsageError(
                f"folds take one label an item, and {labels} holds several; leave --folds out, or --split random"
            )
        for name, (flag, strategies) in _ONLY_FOR.items():
            if name in asked and strategy not in strategies:
                raise UsageError(f"{flag} goes with --split {' or '.join(strategies)}, not with {strategy}")
        values = {"strategy": strategy, "labels": labels, "seed": self.seed}
        return check(SplitParams, values | asked, "the split")

    def _strategy(self, items: Items, labels: str) -> str:
        if self.n_folds is not None:
            return "folds"
        if self.fractions is None:
            if any(part is not None for part in items.column("given")):
                return "given"
            if not holds_sets(items, labels) and _is_small(items, labels):
                return "folds"
        # Whole pictures are their own photographs: then grouping would only cost the balance.
        groups = items.column(self.group_by or "image_id")
        return "group" if len(set(groups)) < len(items) else "random"


def _is_small(items: Items, labels: str) -> bool:
    """Whether a test part of the usual share would say little, and folds can be made of most items."""
    rows = zip(items.column(labels), items.column("failure"), strict=True)
    counts = Counter(label for label, failure in rows if label is not None and failure is None)
    # A class of fewer is never tested, chosen on and learned from at once.
    n_foldable = sum(count for count in counts.values() if count >= FEWEST_FOLDS)
    return counts.total() * SplitParams().fractions[2] < FEWEST_TESTED and 2 * n_foldable >= counts.total()
