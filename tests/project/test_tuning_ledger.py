"""What tuning bought, in sentences and tables."""

import pytest

from deponij.pipeline.reports.provenance import Provenance
from deponij.pipeline.reports.tuning import Gain, Ledger, LedgerRow, ledger_markdown


def row(probe: Gain | None, network: Gain | None = None, seconds: float | None = None) -> LedgerRow:
    return LedgerRow(
        name="tuned",
        base="base",
        recipe="LoRA, rank 8, on attention",
        question="kind, split group",
        part="test",
        n=200,
        n_learned=1000,
        n_weights=50_000,
        frozen_top1=0.5,
        probe=probe,
        network=network,
        seconds=seconds,
        size_bytes=8_000_000,
        is_toy=False,
    )


def gain(difference: float, *, more: bool = True) -> Gain:
    return Gain(0.5 + difference, difference, (difference - 0.01, difference + 0.01), 0.01, more)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        # 8 MB and 120 s over 4 points.
        (
            row(gain(0.04), seconds=120),
            "tuned: 4.0 points more than frozen features; a point cost 30 s and 2.0 MB of disk.",
        ),
        (
            row(gain(0.01), gain(0.04)),
            "tuned: 4.0 points more than frozen features; a point cost 2.0 MB of disk.",
        ),
        (
            row(gain(0.02, more=False)),
            "tuned: no better or worse than frozen features by more than chance (+2.0 points).",
        ),
        (row(gain(-0.03)), "tuned: worse than the frozen features, by 3.0 points."),
        (row(None), "tuned: nothing to compare."),
    ],
)
def test_the_verdict_by_hand(one: LedgerRow, told: str) -> None:
    assert one.verdict == told


def test_the_table_has_differences_in_points_with_intervals() -> None:
    told = ledger_markdown(Ledger([row(gain(0.04))], [], Provenance("p", 10)))
    assert "| 50.0 % | 54.0 % (+4.0 [+3.0, +5.0]) | – |" in told
    assert "1,000 of 50,000" in told
