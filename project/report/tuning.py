"""What the page tells of tuned backbones: what each bought over the frozen features of its base. This is no stage."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from deponij.pipeline.reports.tuning import Gain, Ledger, LedgerRow
from deponij.project.learning import compare
from deponij.project.report.runs import Told
from deponij.project.tuning.record import METHOD, TunedRecord, read_record
from deponij.project.tuning.took import Took
from deponij.store.errors import DataError, UsageError

# The classifier that frozen and tuned features are compared by.
PROBE = "logistic"


def ledger(
    records: Sequence[Path], results: Sequence[Path], took: Mapping[str, Took], toys: Set[str], told: Told
) -> Ledger | None:
    """Of all tuned backbones; None where there is none.

    Args:
        records: what the stages say of them.
        results: folders of classifiers, RESULTS/STAGE/METHOD/BACKBONE/QUESTION.
        took: what tuning each took, where that is known.

    Raises:
        StoreError: a record or a folder is damaged.
    """
    tuned = [read_record(path) for path in records]
    places = {(one.parts[-3], one.parts[-2], one.parts[-1]): one for one in results if len(one.parts) > 3}
    rows = [
        row
        for one in tuned
        for question in _questions(one, places)
        if (row := _row(one, question, places, took, toys)) is not None
    ]
    if not rows:
        return None
    lacking = sorted({one.name for one in tuned} - {row.name for row in rows})
    notes = [
        "Items that a backbone was tuned on never test it; intervals are paired, by drawing groups anew."
    ]
    if lacking:
        notes.append(f"Without a {PROBE} probe of the frozen features to compare with: {', '.join(lacking)}.")
    if any(len(row.network.interval or ()) == 0 for row in rows if row.network is not None):
        notes.append("Too few groups for an interval.")
    return Ledger(rows, notes, told.source("finetune"))


def _questions(one: TunedRecord, places: Mapping[tuple[str, str, str], Path]) -> list[str]:
    """Where it is compared: on the labels that it learned; what learned captions on all that its base was probed by."""
    if one.learns == "classes":
        return [f"{one.split}-{one.labels}"]
    return sorted(question for method, name, question in places if (method, name) == (PROBE, one.base_name))


def _row(
    one: TunedRecord,
    question: str,
    places: Mapping[tuple[str, str, str], Path],
    took: Mapping[str, Took],
    toys: Set[str],
) -> LedgerRow | None:
    frozen = places.get((PROBE, one.base_name, question))
    if frozen is None:
        return None
    pairs = {
        "probe": places.get((PROBE, one.name, question)),
        "network": places.get((METHOD, one.name, question)),
    }
    compared = {name: _compared(path, frozen) for name, path in pairs.items() if path is not None}
    said = next((each for each in compared.values() if each is not None), None)
    if said is None or said.split != one.split:
        return None
    cost = took.get(one.name)
    return LedgerRow(
        name=one.name,
        base=one.base_name,
        recipe=one.said,
        question=f"{said.labels}, split {said.split}",
        part=said.part,
        n=said.n,
        n_learned=one.n_learned,
        n_weights=one.n_weights,
        frozen_top1=said.b.top1,
        probe=_gain(compared.get("probe")),
        network=_gain(compared.get("network")),
        seconds=cost.seconds if cost is not None else None,
        peak_bytes=cost.peak_bytes if cost is not None else None,
        size_bytes=one.size_bytes,
        adapter_bytes=one.adapter_bytes,
        is_toy=one.name in toys,
    )


def _compared(tuned: Path, frozen: Path) -> compare.Comparison | None:
    """On the test part; None where there is none, or the two answered different items."""
    try:
        return compare.run(tuned, frozen)
    except (UsageError, DataError):
        return None


def _gain(comparison: compare.Comparison | None) -> Gain | None:
    if comparison is None:
        return None
    its = comparison.difference
    return Gain(comparison.a.top1, its.value, its.interval, its.p, comparison.is_more_than_chance)
