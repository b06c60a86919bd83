"""What tuning bought over frozen features, and what it cost: the ledger of the page.

Shares are of 1; differences in points are shares too, times 100 when they are shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.reports.provenance import Provenance
from deponij.store.texts import duration, in_percent


@dataclass(frozen=True, slots=True)
class Gain:
    """One classifier on the tuned backbone against the probe of the frozen one, on the same items.

    Attributes:
        top1: of the classifier.
        difference, interval, p: of top-1, tuned minus frozen; paired, by groups.
    """

    top1: float
    difference: float
    interval: Interval | None
    p: float
    is_more_than_chance: bool


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One tuned backbone.

    Attributes:
        question: `labels, split`.
        n: items of the part that both answered.
        n_learned, n_weights: weights that learned, of all of the tower.
        frozen_top1: of the probe of frozen features.
        probe: the same probe of the tuned backbone's features; None where there is none.
        network: its own classifier.
        seconds, peak_bytes: that tuning took on this machine, and by which memory grew; None where that is not known.
        size_bytes, adapter_bytes: of its files, and of these the adapter's; None without one.
    """

    name: str
    base: str
    recipe: str
    question: str
    part: str
    n: int
    n_learned: int
    n_weights: int
    frozen_top1: float
    probe: Gain | None
    network: Gain | None
    seconds: float | None
    peak_bytes: int | None
    size_bytes: int
    adapter_bytes: int | None
    is_toy: bool

    @property
    def best(self) -> Gain | None:
        """The larger gain."""
        gains = [one for one in (self.probe, self.network) if one is not None]
        return max(gains, key=lambda one: one.difference) if gains else None

    @property
    def verdict(self) -> str:
        """In a sentence, what it bought for what."""
        best = self.best
        if best is None:
            return f"{self.name}: nothing to compare."
        points = 100 * best.difference
        if not best.is_more_than_chance:
            return f"{self.name}: no better or worse than frozen features by more than chance ({points:+.1f} points)."
        if points < 0:
            return f"{self.name}: worse than the frozen features, by {-points:.1f} points."
        costs = [f"{self.size_bytes / 1e6 / points:,.1f} MB of disk"]
        if self.seconds is not None:
            costs.insert(0, duration(self.seconds / points))
        return (
            f"{self.name}: {points:.1f} points more than frozen features; a point cost {' and '.join(costs)}."
        )


@dataclass(frozen=True, slots=True)
class Ledger:
    """All tuned backbones of a run.

    Attributes:
        notes: what must be known of the figures.
    """

    rows: Sequence[LedgerRow]
    notes: Sequence[str]
    source: Provenance


def ledger_markdown(ledger: Ledger) -> str:
    """As a Markdown table with its verdicts."""
    lines = [
        "| Backbone | Tuned from | Recipe | Learned weights | Frozen probe | Tuned features, same probe | Own classifier | "
        "Took | Memory | Disk | Of it the adapter |",
        "|-|-|-|-:|-:|-:|-:|-:|-:|-:|-:|",
    ]
    lines += [
        f"| {one.name} | {one.base} | {one.recipe} | {one.n_learned:,} of {one.n_weights:,} | "
        f"{in_percent(one.frozen_top1)} | {_told(one.probe)} | {_told(one.network)} | "
        f"{'–' if one.seconds is None else duration(one.seconds)} | {_mb(one.peak_bytes)} | {_mb(one.size_bytes)} | "
        f"{_mb(one.adapter_bytes)} |"
        for one in ledger.rows
    ]
    return "\n".join([*lines, "", *(f"- {one.verdict}" for one in ledger.rows)])


def _told(gain: Gain | None) -> str:
    if gain is None:
        return "–"
    return f"{in_percent(gain.top1)} ({100 * gain.difference:+.1f}{_bounds(gain.interval)})"


def _mb(n_bytes: int | None) -> str:
    return "–" if n_bytes is None else f"{n_bytes / 1e6:,.1f} MB"


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
