"""The cells of the tables of results, computed from views, one split after the other. This is no stage.

For each split and label set: chance and majority, zero-shot of each backbone with text vectors, and
linear and MLP heads on each backbone, on concatenations, and as means of logits. Where they are
written, and for which profile, is the business of `tables`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.head import Head
from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.pipeline.metrics.classification import Names, rank
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.pipeline.reports.cells import (
    ZERO_SHOT,
    Cell,
    How,
    Place,
    chance_cell,
    majority_cell,
    measured_cell,
)
from deponij.project.frame.console import bar, say
from deponij.project.learning.class_texts import ClassTexts, class_texts, templates_of
from deponij.project.learning.out_of_fold import kept, out_of_fold
from deponij.project.learning.results import evaluate, feature_sources, read_shared_examples, write_results
from deponij.project.tables.plan import FeatureSet, Plan
from deponij.store.errors import DataError
from deponij.store.scratch import beside, taken

if TYPE_CHECKING:
    from deponij.pipeline.heads.gradient.seeded import Seeded

# Of the prompts that are reported apart; a longer list, such as ImageNet's 80, is reported as one.
_MAX_PROMPTS = 4
_PROMPT_NAMES = {"{}": "name", "a photo of a {}": "photo"}
_OF_MEANS = "mean of the logits of the members' heads of equal seeds, learned apart"
_ORDER = ("baseline", "single", "concat", "logits")
Vectors = NDArray[np.floating]
_Vectors = dict[tuple[tuple[str, ...], tuple[str, ...]], list[NDArray[np.floating]]]
# By features, labels and kind; of folds one for each, else one alone.
_Learned = dict[tuple[str, str, str], list["Seeded"]]


@dataclass(frozen=True, slots=True)
class _Task:
    """One split and label set, with the items that have features in every view."""

    split: Path
    labels: str
    examples: Examples
    vectors: Sequence[Vectors]

    @property
    def n_folds(self) -> int:
        return 0 if self.examples.folds is None else len(self.examples.rotations())

    @property
    def test(self) -> NDArray[np.int64]:
        return self.examples.rows("test")

    @property
    def val(self) -> NDArray[np.int64]:
        """Rows to choose by; of folds there are none, for every item is tested."""
        return self.examples.rows("val")

    @property
    def judged(self) -> NDArray[np.int64]:
        """Rows whose answers a cell is made of: test, then validation."""
        return np.concatenate([self.test, self.val])

    def answers(self, heads: Sequence[Head], features: Vectors, classes: Names) -> Vectors:
        """Logits [m, C] of the judged rows, of folds by the head of the rotation that tests them."""
        if self.examples.folds is None:
            return heads[0].decision_function(taken(features, self.judged))
        return out_of_fold(heads, self.examples, features, classes)

    @property
    def truth(self) -> Names:
        truth: Names = self.examples.labels[self.test]
        return truth

    @property
    def groups(self) -> Names:
        """Of the test items."""
        groups: Names = self.examples.groups[self.test]
        return groups

    def features(self, chosen: FeatureSet) -> Vectors:
        """[n, d], the members side by side."""
        return beside([self.vectors[row] for row in chosen.rows])


def compute(plan: Plan) -> list[Cell]:
    """All cells, split by split.

    Raises:
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    inputs = plan.inputs
    known: _Vectors = {}
    # What is wrong with the last split is said before the first one is learned.
    plans = [plan.fair(split) for split in inputs.splits]
    tasks = [
        [_task(one, split, labels, known) for labels in inputs.labels]
        for one, split in zip(plans, inputs.splits, strict=True)
    ]
    return [cell for one, of_split in zip(plans, tasks, strict=True) for cell in _one_split(one, of_split)]


def _task(plan: Plan, split: Path, labels: str, known: _Vectors) -> _Task:
    """Read one; features of items that an earlier one had are kept once."""
    examples, vectors = read_shared_examples(plan.views, plan.items, split, labels)
    seen = tuple(view.backbone for view in plan.views)
    vectors = known.setdefault((seen, tuple(examples.ids.tolist())), vectors)
    rotations = examples.rotations()
    empty = [part for part in PARTS if not any(len(one.rows(part)) for one in rotations)]
    if empty:
        raise DataError(
            f"{split}: no items with a {labels!r} and features in its part {' and '.join(empty)}; tables need "
            "train to learn from, val to choose on and test to report"
        )
    for name in plan.texts:
        _texts(plan, name, examples.pool_classes)
    return _Task(split, labels, examples, vectors)


def _texts(
    plan: Plan, backbone: str, classes: Sequence[str], templates: Sequence[str] | None = None
) -> ClassTexts:
    return class_texts(
        plan.texts[backbone],
        classes,
        backbone=backbone,
        items=plan.inputs.items,
        labels=plan.inputs.labels,
        templates=templates,
    )


def _one_split(plan: Plan, tasks: Sequence[_Task]) -> list[Cell]:
    learned: _Learned = {}
    for alike in _same_items(tasks):
        learned |= _learn(plan, alike)
    cells = []
    for task in tasks:
        n_classes = len(task.examples.pool_classes)
        train = task.examples.labels[task.test if task.n_folds else task.examples.rows("train")]
        where = (task.labels, task.split.stem)
        cells += [
            chance_cell(*where, task.groups, n_classes, task.examples.unit),
            majority_cell(*where, train, task.truth, task.groups, n_classes, task.examples.unit),
        ]
        new = _model_cells(plan, task, learned)
        say(f"tables {task.split.stem}/{task.labels}: {len(new)} cells of {len(task.test)} test items")
        cells += new
    return cells


def _same_items(tasks: Sequence[_Task]) -> list[list[_Task]]:
    """Label sets over the same items are trained together."""
    groups: dict[tuple[str, ...], list[_Task]] = {}
    for task in tasks:
        groups.setdefault(tuple(task.examples.ids.tolist()), []).append(task)
    return list(groups.values())


def _learn(plan: Plan, tasks: Sequence[_Task]) -> _Learned:
    from deponij.pipeline.heads.gradient.recipe import Recipe
    from deponij.pipeline.heads.gradient.seeded import SeededPlan, fit_seeds, n_heads

    params, first = plan.params, tasks[0]
    sets = (*plan.singles, *plan.ensembles)
    plans = [
        SeededPlan(
            one.name,
            task.labels,
            kind,
            (params.lrs[one.name],) if one.name in params.lrs else params.candidates,
        )
        for one in sets
        for task in tasks
        for kind in params.kinds
    ]
    learned: _Learned = {(one.features, one.labels, one.kind): [] for one in plans}
    rotations = first.examples.rotations()
    n = len(rotations) * n_heads(plans, len(plan.seeds))
    with bar(f"heads {first.split.stem}", n, "heads") as advance:
        for rotation in rotations:
            fitted = fit_seeds(
                plans,
                {one.name: first.features(one) for one in sets},
                {task.labels: task.examples.labels for task in tasks},
                rotation.rows("train"),
                rotation.rows("val"),
                recipe=Recipe(epochs=params.epochs, batch=params.batch, patience=params.patience),
                seeds=plan.seeds,
                weight_decay=params.weight_decay,
                balance=params.balance,
                threads=plan.threads,
                advance=advance,
            )
            for one, seeded in fitted.items():
                learned[one.features, one.labels, one.kind].append(seeded)
    return learned


# ------------------------------------------------------------------ cells


def _model_cells(plan: Plan, task: _Task, learned: _Learned) -> list[Cell]:
    """Of one split and label set: each backbone, then concatenations, then means of logits."""
    cells = []
    logits: dict[tuple[str, str], list[Vectors]] = {}
    for one in (*plan.singles, *plan.ensembles):
        cells += _zero_shot_cells(plan, task, one)
        features = task.features(one)
        how: How = "concat" if len(one.members) > 1 else "single"
        fingerprints = tuple(plan.views[row].fingerprint for row in one.rows)
        for kind in plan.params.kinds:
            seeded = learned[one.name, task.labels, kind]
            heads = list(zip(*(one.heads for one in seeded), strict=True))
            classes = np.unique(np.concatenate([head.classes_ for head in heads[0]]))
            facts: dict[str, Any] = {"seed_values": plan.seeds, "fingerprints": fingerprints}
            runs = [task.answers(of_folds, features, classes) for of_folds in heads]
            logits[one.name, kind] = runs
            place = Place(how, one.members, kind, task.labels, task.split.stem)
            protocol = seeded[0].protocol
            if task.n_folds:
                protocol = f"{len(seeded)} folds, each tested once; the first: {protocol}"
            lr = median_low(one.lr for one in seeded)
            cells.append(_cell(task, place, runs, classes, lr=lr, protocol=protocol, **facts))
            if len(one.members) > 1:
                # The members' own heads came before: backbones stand first.
                means = [
                    np.mean(run, axis=0)
                    for run in zip(*(logits[name, kind] for name in one.members), strict=True)
                ]
                place = Place("logits", one.members, kind, task.labels, task.split.stem)
                cells.append(_cell(task, place, means, classes, protocol=_OF_MEANS, **facts))
            if plan.results is not None:
                folder = plan.results / kind / one.name / f"{task.split.stem}-{task.labels}"
                _write(folder, plan, task, one, heads[0], features)
    return sorted(cells, key=lambda cell: _ORDER.index(cell.how))


def _zero_shot_cells(plan: Plan, task: _Task, one: FeatureSet) -> list[Cell]:
    """All prompts together, and where there are a few each one alone."""
    text_view = plan.texts.get(one.name)
    if text_view is None:
        return []
    prompts = templates_of(text_view)
    apart = prompts if 1 < len(prompts) <= _MAX_PROMPTS else []
    named = {ZERO_SHOT: None} | {
        f"{ZERO_SHOT} ({_PROMPT_NAMES.get(prompt, prompt)})": [prompt] for prompt in apart
    }
    features = taken(task.features(one), task.judged)
    cells = []
    for name, chosen in named.items():
        texts = _texts(plan, one.name, task.examples.pool_classes, chosen)
        head = ZeroShotClassifier().fit(texts.vectors, texts.classes)
        cells.append(
            _cell(
                task,
                Place("single", one.members, name, task.labels, task.split.stem),
                [head.decision_function(features)],
                head.classes_,
                fingerprints=(plan.views[one.rows[0]].fingerprint, text_view.fingerprint),
                protocol=f"{head.protocol}; prompts: {', '.join(repr(each) for each in texts.templates)}",
            )
        )
    return cells


def _cell(task: _Task, place: Place, runs: Sequence[Vectors], classes: Names, **facts: Any) -> Cell:
    """Of the logits [n, C] of each run, to the task's judged items."""
    answers = [classes[rank(logits, 3)] for logits in runs]
    n_test = len(task.test)
    return measured_cell(
        place,
        task.truth,
        [ranked[:n_test] for ranked in answers],
        task.groups,
        unit=task.examples.unit,
        n_classes=len(classes),
        val=(task.examples.labels[task.val], [ranked[n_test:] for ranked in answers])
        if len(task.val)
        else None,
        n_folds=task.n_folds,
        **facts,
    )


def _write(
    folder: Path, plan: Plan, task: _Task, one: FeatureSet, heads: Sequence[Head], features: Vectors
) -> None:
    """One seed's head and its results, for comparisons, ensembles and the report; of folds a head of all."""
    sources = feature_sources([plan.views[row] for row in one.rows], task.labels)
    made = kept(heads[0], heads, lambda head, *pairs: head.fit(*pairs), task.examples, features)
    judged = evaluate(made, sources, task.examples, labels=task.labels, split=task.split)
    write_results(folder, judged.evaluation, judged.predictions, judged.logits, made.head.files(sources))
