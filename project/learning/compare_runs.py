"""Two runs, by the classifiers that validation chooses in them: before and after labels were corrected, say.

Runs may have other items, labels and splits. Compared are the items that are in the test part of both, so that neither
learned from one; they are found by their id, and where that has changed (a picture that was moved to the folder of
another class) by what they show. Where the truth differs both are judged by that of the second run, which is the later
one, and the notes say so. What two classifiers of one run have to do with each other: `compare`.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deponij.pipeline.metrics.predictions import Predictions
from deponij.project.in_force import run_of_results
from deponij.project.learning.candidates import Candidate
from deponij.project.learning.compare import Answered, Comparison, compared
from deponij.project.learning.result_files import read_result
from deponij.project.meant import run_meant
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items


class RunComparison(Comparison):
    """A `Comparison` of two runs, on the items that both tested.

    Attributes:
        n_only_a, n_only_b: test items of one of them alone, which are left out.
        n_relabelled: items whose truth differs; both are judged by B's.
        n_right_own_a: items that A has right by its own truth.
    """

    n_only_a: int
    n_only_b: int
    n_relabelled: int
    n_right_own_a: int


@dataclass(frozen=True, slots=True)
class Two:
    """Who is compared: results folders, and in a line how they came to be chosen (None where both were named)."""

    a: Path
    b: Path
    are_of_runs: bool = False
    said: str | None = None


def chosen_two(a: Path | None, b: Path | None, of_run: Path | None) -> Two:
    """The two that were named, of a run the one that validation chooses; where none was named, the two best of a run.

    With one run named it is compared with the run that is meant (`deponij.project.meant`).

    Raises:
        UsageError: one results folder alone, a run twice, or a run with fewer than two classifiers.
        StoreError: a run has no results, or damaged ones.
    """
    if a is None:
        meant = run_meant(of_run)
        first, *rest = _ranked(meant.at.root)
        second = next((one for one in rest if _kind(one) != _kind(first)), None)
        if second is None:
            raise UsageError(
                f"{meant.at.root} has one classifier only; name two results folders, or two runs"
            )
        names = " against ".join(f"{result.title} of {result.backbone}" for _, result in (first, second))
        return Two(first[0], second[0], said=meant.said(f"its two best: {names}"))
    if b is None and not _is_run(a):
        raise UsageError(f"name what {a} is compared with, too: `deponij compare A B`")
    if of_run is not None and b is not None:
        raise UsageError("--run says which run is meant where none is named; leave it out beside two")
    b = b or run_meant(of_run).at.root
    if not (_is_run(a) or _is_run(b)):
        return Two(a, b)
    if a.resolve() == b.resolve():
        raise UsageError(f"{a} would be compared with itself; name another run, such as one made with --out")
    places, lines = [], []
    for name, place in (("A", a), ("B", b)):
        if _is_run(place):
            meant = run_meant(place)
            folder, result = _ranked(place)[0]
            lines.append(f"{name} {meant.said(f'{result.title} of {result.backbone}')}")
            places.append(folder)
        else:
            places.append(place)
    return Two(places[0], places[1], are_of_runs=True, said="\n".join(lines))


def compare_runs(a: Path, b: Path, part: str = "test") -> RunComparison:
    """Compare the classifiers of two results folders of different runs.

    Raises:
        DataError: they are of different label columns, or no item is in this part of both.
        UsageError: one has no items of this part.
        StoreError: a folder holds no results, or damaged ones.
    """
    (result_a, found_a), (result_b, found_b) = read_result(a), read_result(b)
    if result_a.labels != result_b.labels:
        raise DataError(
            f"{a} and {b} cannot be compared: labels {result_a.labels!r} against {result_b.labels!r}; choose results "
            "of one column"
        )
    for folder, result in ((a, result_a), (b, result_b)):
        if part not in result.parts:
            raise UsageError(f"{folder} has no items of the part {part!r}; it has: {', '.join(result.parts)}")
    tested_a, tested_b = found_a.of(part), found_b.of(part)
    pairs = _same_items(tested_a, _keys(a, tested_a), tested_b, _keys(b, tested_b))
    if not pairs:
        raise DataError(
            f"{a} and {b} cannot be compared: none of the {len(tested_a.ids)} items in the first one's {part} part is "
            "in the second one's; split both alike (the same strategy and seed)"
        )
    rows_a, rows_b = np.array(pairs, np.int64).T
    truth, old_truth = tested_b.truth[rows_b], tested_a.truth[rows_a]
    answers_a = tested_a.top_labels[rows_a, 0]
    items = Answered(truth, answers_a, tested_b.top_labels[rows_b, 0], tested_b.groups[rows_b])
    comparison = compared((a, result_a), (b, result_b), items, part)
    only_a, only_b = len(tested_a.ids) - len(pairs), len(tested_b.ids) - len(pairs)
    changed = int((truth != old_truth).sum())
    own = int((answers_a == old_truth).sum())
    notes = [f"Compared are the {len(pairs):,} items that both runs tested."]
    if only_a or only_b:
        notes.append(f"Left out: {only_a:,} that only A tested, {only_b:,} that only B tested.")
    if changed:
        notes.append(
            f"{changed:,} of them {'has' if changed == 1 else 'have'} another label in B than in A. Both are judged by "
            f"B's labels; by its own A has {own:,} right."
        )
    return RunComparison(
        **comparison.model_dump(exclude={"notes"}),
        notes=(*notes, *comparison.notes),
        n_only_a=only_a,
        n_only_b=only_b,
        n_relabelled=changed,
        n_right_own_a=own,
    )


def _is_run(path: Path) -> bool:
    return (path / "items").is_dir()


def _ranked(run: Path) -> list[Candidate]:
    meant = run_meant(run)
    if not meant.ranked and meant.made_by is not None and not meant.labels:
        raise UsageError(f"there are no results to compare: {meant.why_no_labels}")
    if not meant.ranked:
        raise UsageError(f"{run} has no results to compare; `deponij run` or `dvc repro` makes them")
    return meant.ranked


def _kind(candidate: Candidate) -> tuple[str, str]:
    return candidate[1].backbone, candidate[1].method


def _keys(folder: Path, predictions: Predictions) -> list[str | None]:
    """What the items show, [n]; None where the run's items are not there."""
    run = run_of_results(folder)
    if run is None or not run.items.is_dir():
        return [None] * len(predictions.ids)
    items = Items(run.items)
    keys = items.keys
    return [keys[items.places[one]] if one in items.places else None for one in predictions.ids.tolist()]


def _same_items(
    found_a: Predictions, keys_a: list[str | None], found_b: Predictions, keys_b: list[str | None]
) -> list[tuple[int, int]]:
    """Rows of A and B that are of one item; an id whose picture was replaced is none."""
    rows_b = {item: row for row, item in enumerate(found_b.ids.tolist())}
    pairs: dict[int, int] = {}
    for row, item in enumerate(found_a.ids.tolist()):
        if (other := rows_b.get(item)) is not None:
            known = keys_a[row], keys_b[other]
            if None in known or known[0] == known[1]:
                pairs[row] = other
    # Moved ones; of several that look the same nobody knows which is which.
    taken = set(pairs.values())
    left_a = [row for row in range(len(keys_a)) if row not in pairs and keys_a[row] is not None]
    left_b = [row for row in range(len(keys_b)) if row not in taken and keys_b[row] is not None]
    n_a, n_b = Counter(keys_a[row] for row in left_a), Counter(keys_b[row] for row in left_b)
    of_key = {keys_b[row]: row for row in left_b}
    for row in left_a:
        key = keys_a[row]
        if n_a[key] == n_b[key] == 1:
            pairs[row] = of_key[key]
    return sorted(pairs.items())
