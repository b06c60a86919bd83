"""What a run has found, gathered into one ordered list of advice. This is no stage.

Findings are made by `deponij.pipeline.advice.findings`; here files are read, the backbone is chosen whose doubts count, and
each finding gets the commands that act on it.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from deponij.pipeline.advice import findings
from deponij.pipeline.advice.quality import Look, faults, look
from deponij.pipeline.advice.records import Advice, Finding
from deponij.pipeline.data.corrections import read_corrections
from deponij.pipeline.data.parallel import ordered_map
from deponij.pipeline.likeness.pairs import Evidence
from deponij.pipeline.metrics.evaluation import shown_part
from deponij.pipeline.mistakes.records import MISTAKES, MistakesReport
from deponij.pipeline.pictures import Route, decode
from deponij.pipeline.reports.provenance import is_toy
from deponij.project.advice.acting import Acting
from deponij.project.advice.pools import Pool, Suggested, chosen_result, head_of, suggested
from deponij.project.frame.layout import Layout
from deponij.project.frame.toys import toys_of
from deponij.project.learning.item_columns import read_labels
from deponij.project.learning.result_files import read_result
from deponij.project.learning.results import require_finite
from deponij.project.report.inputs import read_records
from deponij.store.atomic import read_table
from deponij.store.errors import PictureError, StoreError
from deponij.store.items import Items
from deponij.store.view import View

# Comparing everything with everything takes a minute for so many.
_MOST_COMPARED = 60_000
_DECODED_PX = (256, 256)


@dataclass(frozen=True)
class Gathering:
    """A run to be looked through.

    Attributes:
        backbones, splits, labels: names, in their order.
        mistakes: files that there are.
        n_first: pictures to label that are named.
        workers: decoding threads.
    """

    at: Layout
    acting: Acting
    backbones: Sequence[str]
    splits: Sequence[str]
    mistakes: Sequence[Path]
    n_first: int = 12
    seed: int = 0
    workers: int = 1

    @cached_property
    def items(self) -> Items:
        """The run's."""
        return Items(self.at.items)

    @cached_property
    def toys(self) -> Set[str]:
        """Backbones that learnt from drawn pictures only, where these are others."""
        return toys_of(self.at.weights)

    @cached_property
    def column(self) -> str:
        """The first label column; empty for none."""
        return next(iter(self.acting.labels), "")

    @cached_property
    def audit(self) -> MistakesReport | None:
        """Of the first labels, by the backbone that agrees best with them, a toy only where all are; None for none."""
        found = [
            one for one in read_records(self.mistakes, MISTAKES, "mistakes") if one.labels == self.column
        ]
        ranked = sorted(found, key=lambda one: (is_toy(one.backbone, self.toys), -one.accuracy))
        return next(iter(ranked), None)

    @cached_property
    def backbone(self) -> str:
        """Whose features count: the audit's, else the first that is no toy; empty for none."""
        if self.audit is not None:
            return self.audit.backbone
        there = [one for one in self.backbones if self.at.view(one).is_file()]
        return next(iter(sorted(there, key=lambda one: is_toy(one, self.toys))), "")

    @cached_property
    def view(self) -> View | None:
        """Its features; those that are no vectors of whole pictures say nothing here."""
        found = View(self.at.view(self.backbone)) if self.backbone else None
        return found if found is not None and found.kind == "embedding" else None

    @cached_property
    def split(self) -> Path | None:
        """The table of the first split; None for none. Under DVC every stage has run, so that it must be there."""
        paths = [self.at.split(name) for name in self.splits[:1]]
        return next((path for path in paths if self.acting.under_dvc or path.is_file()), None)

    @cached_property
    def right(self) -> frozenset[str]:
        """Items that a person has looked at and found right."""
        files = self.acting.data.get("corrections") or ()
        rows = [one for file in files for one in read_corrections(Path(file))]
        return frozenset(one.item_id for one in rows if one.do == "right")

    @cached_property
    def label_of(self) -> Mapping[str, str | None]:
        """The label of each item, None for none."""
        return read_labels(self.items, self.column) if self.column else dict.fromkeys(self.items.ids)


def advise(run: Gathering) -> Advice:
    """Everything that is worth doing, in its order.

    Raises:
        StoreError: a file is missing, damaged or of other items.
    """
    notes: list[str] = []
    if not run.column:
        sets = ", ".join(run.acting.label_sets)
        why = f"{sets} holds several an item" if sets else "nothing was learned from any"
        notes.append(f"labels and classes were not looked through: {why}")
    found = [
        None if run.audit is None else findings.wrong_labels(run.audit, run.right),
        _near_duplicates(run, notes),
        findings.unreadable(_failures(run)),
        _small_classes(run),
        *_spoilt(run),
        None if run.audit is None else findings.confused(run.audit),
        _unlabelled(run),
    ]
    there = [_with_acts(run, one) for one in findings.ordered(found)]
    return Advice(
        root=str(run.at.root),
        n_items=len(run.items),
        backbone=run.backbone,
        findings=tuple(there),
        again=run.acting.again if any(_proposes(one) for one in there) else (),
        notes=tuple(notes),
        labels=run.column,
    )


def _failures(run: Gathering) -> list[tuple[str, str]]:
    view = run.view
    return [*run.items.failures, *([] if view is None else view.failures)]


def _parts(run: Gathering) -> Mapping[str, str]:
    """Part of each item by the first split; of folds, which one tests it."""
    path = run.split
    if path is None:
        return {}
    table = read_table(path)
    names = [str(one) for one in table["item_id"].to_pylist()]
    is_folded = "fold" in table.column_names
    values = table["fold" if is_folded else "part"].to_pylist()
    said = {one: f"fold {one}" if is_folded else str(one) for one in set(values)}
    return {name: said[value] for name, value in zip(names, values, strict=True) if value is not None}


def _near_duplicates(run: Gathering, notes: list[str]) -> Finding | None:
    rows = [row for row, key in enumerate(run.items.keys) if key is not None]
    if not 1 < len(rows) <= _MOST_COMPARED:
        if rows[1:]:
            notes.append(
                f"near-duplicates of {len(rows):,} items were not looked for: `deponij duplicates` does, in hours"
            )
        return None
    table = run.items.table(["item_id", "key", "phash"])
    ids, keys, phashes = ([table[name][row].as_py() for row in rows] for name in ("item_id", "key", "phash"))
    vectors = None
    if run.view is not None:
        seen = set(run.view.ids.tolist())
        places = [place for place, one in enumerate(ids) if one in seen]
        # Without features looks alone are left, which err too often.
        ids, keys, phashes = ([values[place] for place in places] for values in (ids, keys, phashes))
        vectors = run.view.read(ids)
        require_finite(vectors, ids, f"{run.view.path}: the features", "extract with precision fp32")
    if len(ids) < 2:
        return None
    parts = _parts(run)
    return findings.near_duplicates(
        Evidence(keys, phashes, vectors),
        ids,
        [run.label_of.get(one) for one in ids],
        [parts.get(one) for one in ids],
        run.right,
        run.column,
    )


def _small_classes(run: Gathering) -> Finding | None:
    chosen = chosen_result(run.at, run.column, next(iter(run.splits), None)) if run.column else None
    if chosen is None:
        return None
    result, predictions = read_result(chosen[0])
    part = shown_part(result.parts)
    scored = predictions.of(part)
    return findings.small_classes(scored.truth, scored.top_labels[:, 0], part, run.column)


def _spoilt(run: Gathering) -> list[Finding | None]:
    ids, looks = looks_of(run.items, run.workers)
    return [findings.spoilt(fault, rows, ids, looks, run.right) for fault, rows in faults(looks).items()]


def looks_of(items: Items, workers: int) -> tuple[list[str], list[Look]]:
    """Ids of the items that can be decoded, and what was measured of each."""
    rows = [row for row, key in enumerate(items.keys) if key is not None]
    table = items.table(["width_px", "height_px"])
    sizes = list(zip(table["width_px"].to_pylist(), table["height_px"].to_pylist(), strict=True))

    def measured(pair: tuple[int, bytes | StoreError]) -> tuple[int, Look | None]:
        row, content = pair
        if isinstance(content, StoreError):
            return row, None
        try:
            image = decode(content, route=Route.DRAFT, input_px=_DECODED_PX)
        except PictureError:
            return row, None
        size = sizes[row] if None not in sizes[row] else None
        return row, look(image, size)

    found: Iterator[tuple[int, Look | None]] = ordered_map(
        measured, items.found(rows, only_there=True), workers, chunk=8
    )
    pairs = [(items.ids[row], one) for row, one in found if one is not None]
    return [item_id for item_id, _ in pairs], [one for _, one in pairs]


def _unlabelled(run: Gathering) -> Finding | None:
    view = run.view
    if view is None or not run.column:
        return None
    seen = set(view.ids.tolist())
    without = [one for one in run.items.ids if one in seen and run.label_of.get(one) is None]
    if not without:
        return None
    first = first_to_label(run, view, without)
    return findings.unlabelled(len(without), [(one.item_id, one.note) for one in first], run.column)


def first_to_label(run: Gathering, view: View, without: Sequence[str]) -> list[Suggested]:
    """The pictures to label first, by the head that validation chooses where it takes these features."""
    labelled = [one for one in run.items.ids if run.label_of.get(one) is not None]
    chosen = chosen_result(run.at, run.column, backbone=view.backbone)
    head = head_of(chosen[0]) if chosen is not None and chosen[1].fingerprint == view.fingerprint else None
    pool, known = Pool.of(view, run.items, without), Pool.of(view, run.items, labelled)
    return suggested(pool, known, head, run.n_first, run.seed)


def _proposes(finding: Finding) -> bool:
    return any(one.do for one in finding.subjects)


def _with_acts(run: Gathering, finding: Finding) -> Finding:
    """With its commands; files that only some may have are not named."""
    act = run.acting
    acts: tuple[str, ...]
    match finding.kind:
        case "labels":
            acts, look = (act.take("labels"),), act.look("mistakes", run.backbone, "--out", "look")
        case "duplicates":
            of_split = [] if run.split is None else ["--split", str(run.split)]
            acts = (act.take("duplicates"),)
            look = (
                act.look("duplicates", run.backbone, *of_split, "--sheet", "alike.png")
                if run.view is not None
                else ""
            )
        case "small-classes":
            folded = [act.folded] if act.folded else []
            acts, look = (*folded, act.suggest(*_new_pictures(run))), ""
        case "confused":
            between = _first_pair(run)
            acts, look = (
                (act.suggest(*_new_pictures(run), *between),),
                act.look("mistakes", run.backbone, "--out", "look"),
            )
        case "unlabelled":
            acts, look = (act.suggest(),), ""
        case _:
            acts, look = (act.take(finding.kind),), ""
    return finding.model_copy(update={"acts": acts, "look": look})


def _new_pictures(run: Gathering) -> list[str]:
    """Where the run has no pictures without a label, some must be brought."""
    known = run.label_of
    failed = {item_id for item_id, _ in run.items.failures}
    has_some = any(known.get(one) is None for one in run.items.ids if one not in failed)
    return [] if has_some else ["--folder", "NEW_PICTURES"]


def _first_pair(run: Gathering) -> list[str]:
    finding = None if run.audit is None else findings.confused(run.audit)
    if finding is None or not finding.subjects:
        return []
    truth, answer = finding.subjects[0].was, finding.subjects[0].label
    return ["--between", truth, "--between", answer]
