"""Which classifiers of a run may be chosen, and in which order: one rule for predictions, searches and comparisons.

Only one label set and one split are looked at, for figures of different ones do not compare. Ensembles, which need
several backbones, are left aside and used by name.
"""

from collections.abc import Sequence
from pathlib import Path

from deponij.pipeline.heads import head as heads
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.pipeline.reports.table import result_row
from deponij.project.frame.layout import Layout
from deponij.project.frame.toys import toys_of
from deponij.project.in_force import InForce
from deponij.project.learning.result_files import read_result
from deponij.store.errors import UsageError

Candidate = tuple[Path, Evaluation]


def candidates(
    at: Layout,
    made_by: InForce | None,
    *,
    labels: str | None = None,
    split: str | None = None,
    backbone: str | None = None,
    must_say: bool = True,
) -> list[Candidate]:
    """Results folders of heads, the one to take first (`deponij.pipeline.metrics.choice`); of equals the folder that
    sorts first. Empty where there are none.

    Args:
        made_by: the run's parameters; of its labels and splits the first one is meant if nothing is asked.
        labels, split, backbone: as they are asked for; None is anything.
        must_say: where several labels or splits might be meant, ask; else take the name that sorts first.

    Raises:
        UsageError: nothing is there by the names that were asked for, or more must be asked.
        StoreError: results are damaged.
    """
    folders = [
        one
        for one in at.results(made_by.backbones if made_by else None)
        if (one / heads.HEADS.card_name).is_file()
    ]
    results = [(folder, read_result(folder)[0]) for folder in folders]
    if not results:
        return []
    first = (made_by.labels, tuple(made_by.splits)) if made_by else ((), ())
    labels = picked("--labels", labels, first[0], [one.labels for _, one in results], must_say)
    results = [(folder, one) for folder, one in results if one.labels == labels]
    split = picked("--split", split, first[1], [one.split for _, one in results], must_say)
    results = [(folder, one) for folder, one in results if one.split == split]
    if backbone is not None:
        picked("--backbone", backbone, (), [one.backbone for _, one in results])
        results = [(folder, one) for folder, one in results if one.backbone == backbone]
    toys = toys_of(at.weights)
    return sorted(results, key=lambda pair: (result_row(pair[1], toys).rank, str(pair[0])))


def is_judged(result: Evaluation) -> bool:
    """Whether something says how good it is on items that it did not learn from: validation, or answers out of fold."""
    return "val" in result.parts or result.n_folds > 0


def picked(
    flag: str, asked: str | None, preferred: Sequence[str], there: Sequence[str], must_say: bool = True
) -> str:
    """What was asked for, else the first preferred one, else the only one there is."""
    names = sorted(set(there))
    if asked is not None:
        if asked not in names:
            raise UsageError(f"{flag} {asked!r}: no results of it; there are: {', '.join(names)}")
        return asked
    first = next((name for name in preferred if name in names), None)
    if first is None and len(names) > 1 and must_say:
        raise UsageError(f"say which with {flag}: there are results of {', '.join(names)}")
    return first or names[0]
