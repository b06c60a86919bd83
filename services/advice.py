"""`deponij advice`: what to do next with a run, and taking it: proposals as rows of a file of corrections. No stage.

from deponij.services.advice import read_advice, take
advice = read_advice("runs/mine")
take(advice, ["labels"], into="corrections.csv")
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from deponij.pipeline.advice.records import ADVICE, Advice, Finding
from deponij.pipeline.data.corrections import Correction, read_corrections, write_corrections
from deponij.project.meant import run_meant
from deponij.store.errors import StoreError, UsageError, explained


def read_advice(folder: str | Path | None = None) -> Advice:
    """What the stage `advice` wrote.

    Args:
        folder: of the run; None for the one that is meant here (`deponij.project.meant`).

    Raises:
        UsageError: it is no run's folder, or nothing says which is meant.
        StoreError: there is no advice yet, or it is damaged.
    """
    at = run_meant(None if folder is None else Path(folder)).at
    if not at.advice_file.is_file():
        raise StoreError(f"there is no advice in {at.advice}; `deponij run` or `dvc repro advice` makes it")
    with explained(f"cannot read {at.advice_file}"):
        data = at.advice_file.read_bytes()
    records = ADVICE.load(data, str(at.advice_file))
    if len(records) != 1:
        raise StoreError(
            f"{at.advice_file} is of another version: it holds {len(records)} records; run its stage again"
        )
    return records[0]


@dataclass(frozen=True, slots=True)
class Taken:
    """What was written: rows that are new, those that the file had of the same items, and all that it has now."""

    n_new: int
    n_there: int
    n_rows: int
    n_undecided: int


def take(advice: Advice, kinds: Collection[str], into: str | Path) -> Taken:
    """Write what findings propose as rows of a file of corrections; rows that it has stay as they are.

    Of an item of which only a person can tell what to do, `do` is left empty.

    Raises:
        UsageError: there is no such finding, it is about no pictures, or the file is no file of corrections.
        StoreError: it cannot be read or written.
    """
    into = Path(into)
    if into.suffix.lower() != ".csv":
        raise UsageError(f"--into wants a file that ends in .csv, got {into}")
    there: dict[str, Finding] = {one.kind: one for one in advice.findings}
    takeable = [
        kind for kind, one in there.items() if one.subjects and kind not in ("confused", "unlabelled")
    ]
    if strange := [kind for kind in kinds if kind not in takeable]:
        raise UsageError(
            f"there is nothing to take of {strange[0]!r}; this run has {', '.join(takeable) or 'nothing to take'}"
        )
    before = read_corrections(into) if into.is_file() else []
    known = {one.item_id for one in before}
    proposed: dict[str, Correction] = {}
    for kind in kinds:
        for one in there[kind].subjects:
            row = Correction(
                item_id=one.item_id,
                do=one.do,
                label=one.label,
                column=there[kind].column if one.do == "relabel" else "",
                was=one.was,
                note=f"{kind}: {one.note}",
            )
            proposed.setdefault(one.item_id, row)
    new = [row for item_id, row in proposed.items() if item_id not in known]
    write_corrections(into, [*before, *new])
    n_undecided = sum(not one.do for one in new)
    return Taken(len(new), len(proposed) - len(new), len(before) + len(new), n_undecided)
