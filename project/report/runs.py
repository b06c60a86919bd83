"""What the page says of classifiers: which are shown in detail, their samples, the first two of each question.

This is no stage.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deponij.pipeline.metrics.classification import per_class
from deponij.pipeline.metrics.evaluation import Evaluation, shown_part
from deponij.pipeline.metrics.multilabel_result import MultilabelResult
from deponij.pipeline.metrics.predictions import Predictions, recalls
from deponij.pipeline.reports.confusion import confusion_svg, most_confused
from deponij.pipeline.reports.interval_plot import Level, Whisker, interval_plot
from deponij.pipeline.reports.multilabel import MultilabelRow
from deponij.pipeline.reports.page import Duel, GroupFacts, RunFacts
from deponij.pipeline.reports.provenance import Provenance, marked, named_features
from deponij.pipeline.reports.reliability_plot import in_words, reliability_plot
from deponij.pipeline.reports.samples import Sample, choose_samples
from deponij.pipeline.reports.table import (
    ResultGroup,
    ResultRow,
    by_rank,
    result_groups,
    worth_details,
)
from deponij.project.learning.compare import Comparison
from deponij.project.learning.compare import run as compare
from deponij.project.learning.result_files import read_result
from deponij.store.errors import DataError

# Classifiers in a drawing of intervals; beyond, rows are too many to be compared by eye.
_PLOTTED = 14
_CHANGES = 5

# The command that makes a figure again, from the name of its stage; empty for none known.
Remake = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Told:
    """What every caption says of the data.

    Attributes:
        profile, n_items: whose data, how many.
        remake: how a figure is made again.
    """

    profile: str
    n_items: int
    remake: Remake

    def source(self, stage: str, made_from: Iterable[Any] = (), **of: Any) -> Provenance:
        """A caption of these data.

        Args:
            stage: that makes the figure again; empty for none.
            made_from: records that have a backbone and a fingerprint.
            of: further fields of the caption.
        """
        features = named_features([(one.backbone, one.fingerprint) for one in made_from])
        command = self.remake(stage) if stage else ""
        return Provenance(self.profile, self.n_items, features=features, command=command, **of)

    def of(self, row: ResultRow, evaluations: Sequence[Evaluation], folder: Path | None = None) -> Provenance:
        """A caption of these classifiers on a row's items; of a single one its folder says which stage made it."""
        stage = "" if folder is None else folder.parents[2].name
        place = {"labels": row.labels, "split": row.split, "part": row.part, "n": row.n}
        return self.source(stage, evaluations, **place)

    def of_sets(self, row: MultilabelRow, results: Sequence[MultilabelResult]) -> Provenance:
        """A caption of classifiers with several labels an item."""
        place = {"labels": row.labels, "split": row.split, "part": row.part, "n": row.n}
        return self.source("multilabel", results, **place)


@dataclass(frozen=True, slots=True)
class Run:
    """One classifier that is shown in detail, with its answers on the part that is shown."""

    folder: Path
    row: ResultRow
    anchor: str
    is_first: bool
    evaluation: Evaluation
    predictions: Predictions
    right: list[Sample]
    wrong: list[Sample]


@dataclass(frozen=True, slots=True)
class Standing:
    """One group, with the folder and the evaluation of each of its classifiers, in the order of its rows."""

    group: ResultGroup
    folders: tuple[Path, ...]
    evaluations: tuple[Evaluation, ...]
    chosen: tuple[int, ...]

    @property
    def rows(self) -> tuple[ResultRow, ...]:
        """The classifiers' rows."""
        return tuple(row for row in self.group.rows if not row.is_baseline)

    @property
    def first(self) -> int:
        """Place of the classifier that is chosen, or stands first where nothing chooses."""
        return min(range(len(self.rows)), key=lambda place: self.rows[place].rank)


def standings(results: Sequence[Path], n_detailed: int, toys: Set[str] = frozenset()) -> list[Standing]:
    """Results folders grouped by label set and split; of each group n_detailed are chosen, real ones before toys.

    Raises:
        StoreError: a folder holds no results, or damaged ones.
    """
    read = [(folder, *read_result(folder)) for folder in results]
    groups = []
    ranked = result_groups([evaluation for _, evaluation, _ in read], toys, [answers for *_, answers in read])
    for group in ranked:
        members = [(f, e) for f, e, _ in read if (e.split, e.labels) == (group.split, group.labels)]
        rows = [row for row in group.rows if not row.is_baseline]
        folders, evaluations = zip(*members, strict=True)
        groups.append(Standing(group, folders, evaluations, tuple(worth_details(rows, n_detailed))))
    return groups


def detailed_runs(groups: Sequence[Standing], n_samples: int, seed: int) -> list[Run]:
    """The chosen classifiers, with at most n_samples right and wrong answers each."""
    runs = []
    for g, standing in enumerate(groups, start=1):
        for number, place in enumerate(standing.chosen, start=1):
            evaluation, answers = read_result(standing.folders[place])
            shown = answers.of(shown_part(evaluation.parts))
            right, wrong = choose_samples(shown, n_samples, seed)
            runs.append(
                Run(
                    standing.folders[place],
                    standing.rows[place],
                    f"run-{g}-{number}",
                    place == standing.first,
                    evaluation,
                    shown,
                    right,
                    wrong,
                )
            )
    return runs


def group_facts(standing: Standing, runs: Sequence[Run], told: Told) -> GroupFacts:
    """One group's table, drawing and the comparison of its first two."""
    group = standing.group
    # Rows of two classifiers may be equal; they are told apart by being different objects.
    pairs = zip(standing.rows, standing.folders, strict=True)
    anchors = {id(row): run.anchor for row, folder in pairs for run in runs if run.folder == folder}
    ranked = by_rank(group.rows)
    plotted = [row for row in ranked if not row.is_baseline][:_PLOTTED]
    duel, no_duel = _duel(standing)
    first = standing.evaluations[standing.first]
    return GroupFacts(
        group=group,
        ranked=[(row, anchors.get(id(row), "")) for row in ranked],
        plot=_plot(group, plotted, first.majority_class),
        n_plotted=len(plotted),
        duel=duel,
        no_duel=no_duel,
        source=told.of(group.rows[0], standing.evaluations),
        chosen_source=told.of(standing.rows[standing.first], [first], standing.folders[standing.first]),
    )


def run_facts(run: Run, pictures: Mapping[str, str], n_confused: int, told: Told) -> RunFacts:
    """One classifier's details."""
    evaluation, truth, answers = run.evaluation, run.predictions.truth, run.predictions.top_labels[:, 0]
    row = run.row
    names = sorted(set(truth.tolist()) | set(answers.tolist()))
    classes = sorted(per_class(truth, answers, names), key=lambda scores: (-scores.n_support, scores.name))
    return RunFacts(
        row=row,
        anchor=run.anchor,
        protocol=evaluation.protocol,
        notes=evaluation.notes,
        confusion=confusion_svg(truth, answers, f"confusion matrix of {row.backbone}, {row.method}"),
        confused=most_confused(truth, answers, n_confused),
        classes=classes,
        recalls=recalls(run.predictions),
        calibration=evaluation.calibration,
        reliability=_reliability(evaluation),
        dots=in_words(evaluation.calibration.bins) if evaluation.calibration else "",
        right=[(sample, pictures.get(sample.item_id)) for sample in run.right],
        wrong=[(sample, pictures.get(sample.item_id)) for sample in run.wrong],
        source=told.of(row, [evaluation], run.folder),
    )


def _plot(group: ResultGroup, plotted: Sequence[ResultRow], majority_class: str) -> str:
    whiskers = [
        Whisker(
            f"{marked(row.backbone, row.is_toy)} · {row.method}",
            row.top1,
            row.top1_interval,
            is_chosen=row.is_chosen,
            is_aside=row.is_toy,
        )
        for row in plotted
    ]
    chance, majority = (row for row in group.rows if row.is_baseline)
    levels = [Level("chance", chance.top1), Level(f"always {majority_class}", majority.top1)]
    return interval_plot(whiskers, levels, f"top-1 with intervals on {group.labels}, split {group.split}")


def _reliability(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Heading and SVG, as it is and after scaling."""
    calibration = evaluation.calibration
    if calibration is None:
        return []
    name = f"reliability of {evaluation.backbone}, {evaluation.title}"
    plots = [("as answered", reliability_plot(calibration.bins, name))]
    if calibration.bins_scaled is not None:
        plots.append(
            ("after temperature scaling", reliability_plot(calibration.bins_scaled, f"{name}, scaled"))
        )
    return plots


def _duel(standing: Standing) -> tuple[Duel | None, str]:
    """The first two of a group; or None, and why. Nothing real is held against a toy."""
    order = sorted(range(len(standing.rows)), key=lambda place: standing.rows[place].rank)
    order = [place for place in order if standing.rows[place].is_toy == standing.rows[order[0]].is_toy][:2]
    if len(order) < 2:
        return None, ""
    first, second = order
    try:
        comparison = compare(standing.folders[first], standing.folders[second], standing.rows[first].part)
    except DataError as error:
        return None, str(error)
    return _told_duel(comparison, _name(standing.rows[first]), _name(standing.rows[second])), ""


def _told_duel(comparison: Comparison, a: str, b: str) -> Duel:
    changed = [change for change in comparison.classes if change.n_difference]
    changed.sort(key=lambda change: (-abs(change.n_difference), change.name))
    return Duel(
        a=a,
        b=b,
        n=comparison.n,
        n_groups=comparison.n_groups,
        unit=comparison.unit,
        difference=comparison.difference.value,
        interval=comparison.difference.interval,
        only_a=comparison.difference.only_a,
        only_b=comparison.difference.only_b,
        p=comparison.difference.p,
        test=comparison.difference.test,
        verdict=comparison.verdict,
        changes=[(c.name, c.support, c.recall_a, c.recall_b) for c in changed[:_CHANGES]],
        notes=comparison.notes,
    )


def _name(row: ResultRow) -> str:
    return f"{row.backbone}, {row.method}"
