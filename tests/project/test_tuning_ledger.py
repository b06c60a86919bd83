"""What tuning bought, in sentences and tables."""

from pathlib import Path

import pytest
from learning_world import learned, make_world

from deponij.pipeline.reports.provenance import Provenance
from deponij.pipeline.reports.tuning import Gain, Ledger, LedgerRow, ledger_markdown
from deponij.project.frame.layout import Layout
from deponij.project.report.runs import Told
from deponij.project.report.tuning import ledger
from deponij.project.tuning.took import Took
from deponij.store.atomic import write_bytes
from deponij.store.sealed import sealed


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
        peak_bytes=None if seconds is None else 250_000_000,
        size_bytes=8_000_000,
        adapter_bytes=50_000,
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
    told = ledger_markdown(Ledger([row(gain(0.04)), row(None, seconds=30)], [], Provenance("p", 10)))
    assert "| 50.0 % | 54.0 % (+4.0 [+3.0, +5.0]) | – | – | – | 8.0 MB | 0.1 MB |" in told
    assert "| 30 s | 250.0 MB | 8.0 MB | 0.1 MB |" in told
    assert "1,000 of 50,000" in told


def test_what_learned_captions_is_compared_by_the_probes_of_labels(tmp_path: Path) -> None:
    world, at = make_world(tmp_path), Layout(tmp_path)
    for backbone, arguments in (("base", {}), ("tuned", {"cs": [1e-9]})):
        learned(world, "logistic", at.result("logistic", backbone) / "split-label", arguments)
    record = {
        "name": "tuned", "base": "m", "base_name": "base", "base_weights": "0" * 64, "recipe": {},
        "said": "LoRA, rank 8, by captions", "learns": "captions", "labels": "caption", "split": "split",
        "n_captions": 5, "n_train": 9, "n_val": 3, "n_weights": 9, "n_learned": 2, "history": [], "kept": 0,
        "size_bytes": 36,
    }  # fmt: skip
    other = record | {"name": "elsewhere", "split": "other"}
    for one in (record, other):
        write_bytes(at.tuned_record(str(one["name"])), sealed({"format": 1, "tuned": one}))
    records = [at.tuned_record(name) for name in ("tuned", "elsewhere")]
    took = {"tuned": Took(seconds=7.5, peak_bytes=4096)}
    found = ledger(records, at.results(), took, set(), Told("p", 10, lambda stage: stage))
    assert found is not None
    (row,) = found.rows
    assert (row.name, row.recipe, row.question) == (
        "tuned", "LoRA, rank 8, by captions", "label, split split",
    )  # fmt: skip
    assert row.network is None
    assert (row.seconds, row.peak_bytes, row.adapter_bytes) == (7.5, 4096, None)
    assert row.probe is not None
    # Regularised to nothing, the one probe says the most frequent class and the other has learned.
    assert row.probe.difference == pytest.approx(row.probe.top1 - row.frozen_top1) != 0
    assert any("compare with: elsewhere" in note for note in found.notes)
