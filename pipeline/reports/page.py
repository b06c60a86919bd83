"""One self-contained page of results, as HTML and as Markdown. Everything it shows is given; no file is read.

The HTML loads nothing: styles, drawings, pictures and a small script are inside it, and its security
policy forbids the rest. Without the script it can be read whole. How figures are written: `wording`.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deponij.pipeline.advice.records import Advice
from deponij.pipeline.likeness.records import LikenessReport
from deponij.pipeline.metrics.calibration import Calibration
from deponij.pipeline.metrics.classification import ClassScores
from deponij.pipeline.metrics.clustered import Estimate
from deponij.pipeline.mistakes.records import MistakesReport
from deponij.pipeline.reports import wording
from deponij.pipeline.reports.answer_facts import AnswerFacts
from deponij.pipeline.reports.attention import AttentionFacts
from deponij.pipeline.reports.cell_tables import (
    CellTable,
    cell_tables,
    how_to_read,
    says_more,
)
from deponij.pipeline.reports.cell_tables import render_markdown as cells_markdown
from deponij.pipeline.reports.cells import Cell
from deponij.pipeline.reports.confusion import Confused
from deponij.pipeline.reports.embedding_map import EmbeddingMap, map_rules
from deponij.pipeline.reports.filling import TEMPLATES, environment_of_templates
from deponij.pipeline.reports.headline import in_words
from deponij.pipeline.reports.learning_curves import Chart
from deponij.pipeline.reports.multilabel import MultilabelFacts
from deponij.pipeline.reports.palette import palette_css
from deponij.pipeline.reports.provenance import Provenance
from deponij.pipeline.reports.retrieval_tables import RetrievalTable
from deponij.pipeline.reports.samples import Sample
from deponij.pipeline.reports.segmentation.facts import SegmentationFacts
from deponij.pipeline.reports.segmentation.published import PUBLISHED_PROTOCOL
from deponij.pipeline.reports.segmentation.table import tables_markdown
from deponij.pipeline.reports.sheets import Sprite
from deponij.pipeline.reports.table import ResultGroup, ResultRow
from deponij.pipeline.reports.tuning import Ledger, ledger_markdown

_SHOWN_FAILURES = 20
_MORE = "Over seeds, prompts and joined answers"


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split: items by part, and what leaks from training into test; folds have no parts, and nothing to leak from."""

    name: str
    strategy: str
    counts: Mapping[str, int]
    summary: str
    notes: tuple[str, ...] = ()
    n_folds: int = 0

    @property
    def told_counts(self) -> list[tuple[str, int]]:
        """What is counted, and how many."""
        if self.n_folds:
            return [("items, each tested once", self.counts["test"]), ("folds", self.n_folds)]
        return list(self.counts.items())


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """One view: where it lies and what made it."""

    backbone: str
    path: str
    kind: str
    shape: tuple[int, ...]
    fingerprint: str
    identity: Mapping[str, str]
    n_failed: int


@dataclass(frozen=True, slots=True)
class Duel:
    """Two classifiers on the same items.

    Attributes:
        a, b: their names; of n items in n_groups, and what these are (unit).
        difference, interval: A's top-1 minus B's.
        only_a, only_b: items that only one of them has right.
        p, test: exact, and how it was made.
        verdict: all that in a sentence.
        changes: classes that differ most: name, support, recall of A and of B.
        notes: what a reader must know; where they cannot be compared, why.
    """

    a: str
    b: str
    n: int
    n_groups: int
    unit: str
    difference: float
    interval: tuple[float, float] | None
    only_a: int
    only_b: int
    p: float
    test: str
    verdict: str
    changes: Sequence[tuple[str, int, float, float]]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """All classifiers on one label set and split.

    Attributes:
        group: their rows.
        ranked: rows for showing, each with the anchor of its details, empty for none.
        plot: an SVG of intervals.
        n_plotted: its classifiers.
        duel: the first two; None where there is one classifier alone.
        no_duel: why the first two could not be compared; empty otherwise.
        source: of the figures.
        chosen_source: of the chosen (or first) one's.
    """

    group: ResultGroup
    ranked: Sequence[tuple[ResultRow, str]]
    plot: str
    n_plotted: int
    duel: Duel | None
    no_duel: str
    source: Provenance
    chosen_source: Provenance

    @property
    def interval_of(self) -> str:
        """What intervals are of, and how much wider groups make them."""
        rows = [row for row, _ in self.ranked if not row.is_baseline]
        return wording.interval_of(rows[0].n_groups, rows[0].unit, (row.design_effect for row in rows))

    @property
    def chosen(self) -> tuple[ResultRow, str] | None:
        """The row that validation chooses, and its anchor; None without validation."""
        return next((pair for pair in self.ranked if pair[0].is_chosen), None)

    @property
    def headline(self) -> tuple[ResultRow, str]:
        """The row that answers the question, and its anchor: the chosen one, else the first."""
        return self.chosen or next(pair for pair in self.ranked if not pair[0].is_baseline)

    @property
    def said(self) -> str:
        """What the headline means."""
        chance, majority = (row for row, _ in self.ranked if row.is_baseline)
        return in_words(self.headline[0], chance, majority)

    @property
    def has_val(self) -> bool:
        """Whether any was scored on a validation part; of folds none is."""
        return any(row.n_val for row, _ in self.ranked)

    @property
    def differs_in_n(self) -> bool:
        """Whether rows are of different numbers of items."""
        return len({row.n for row, _ in self.ranked}) > 1

    @property
    def part(self) -> str:
        """Whose figures these are."""
        return self.group.rows[0].part

    @property
    def n_classifiers(self) -> int:
        """Rows that are no baselines."""
        return sum(not row.is_baseline for row, _ in self.ranked)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One classifier in detail.

    Attributes:
        row: its row of the table.
        anchor: its place on the page.
        protocol: what was learned from what.
        notes: what a reader must know of this run (left-out items, missing classes, no convergence).
        confusion: an SVG.
        confused: the most frequent errors.
        classes: counts of each class.
        recalls: with their intervals, of those that occur.
        calibration: of its probabilities.
        reliability: SVGs as they are and, where there is a temperature, scaled.
        dots: in words, what these of the first stand for.
        right, wrong: samples with the data URI of their thumbnail, None where there is none.
        source: of the figures.
    """

    row: ResultRow
    anchor: str
    protocol: str
    notes: tuple[str, ...]
    confusion: str
    confused: Sequence[Confused]
    classes: Sequence[ClassScores]
    recalls: Mapping[str, Estimate]
    calibration: Calibration | None
    reliability: Sequence[tuple[str, str]]
    dots: str
    right: Sequence[tuple[Sample, str | None]]
    wrong: Sequence[tuple[Sample, str | None]]
    source: Provenance

    @property
    def weakest(self) -> list[ClassScores]:
        """Classes that occur, those of the lowest recall first."""
        return sorted(
            (one for one in self.classes if one.n_support), key=lambda one: (one.recall or 0, one.name)
        )


@dataclass(frozen=True, slots=True)
class MapFacts:
    """Maps of embeddings.

    Attributes:
        maps: one for each label set, with its source.
        settings: backbone, and how its layouts were computed.
        points: names and pictures of the points, as JSON.
        sprite: their pictures.
        n_points, n_items: points shown, and items that have a place.
    """

    maps: Sequence[tuple[EmbeddingMap, Provenance]]
    settings: Sequence[tuple[str, str]]
    points: str
    sprite: Sprite | None
    n_points: int
    n_items: int

    @property
    def rules(self) -> str:
        """Style rules for choosing layers and classes."""
        one, _ = self.maps[0]
        n_classes = max(len(each.legend) for each, _ in self.maps)
        return map_rules(len(one.backbones), len(one.layouts), n_classes)


@dataclass(frozen=True, slots=True)
class Page:
    """All that is shown, in the order in which it is shown.

    Attributes:
        title: a heading.
        facts: label and value of what the data are.
        cells: of the tables over seeds, with their source; none for no tables.
        retrieval: how well features find what belongs together.
        charts: learning curves with their SVG and source.
        mistakes: with their source.
        pictures: data URI by item id for them and for what retrieval finds.
        items_path: where the items lie.
        timings_s: seconds of each stage, as this machine took them.
        failures: item id and reason.
        where: which step failed.
        toys: backbones that know drawn pictures only, where these are others.
        likeness: near-duplicates and what stands apart, with its source.
        by_words: answers, of classes that were named.
        multilabel: classifiers with several labels an item.
        segmentation: of scenes.
        parts: of data that are not taken as a whole, what is said of it.
        lacking: where there are no groups, what is so and what labels would add.
        advice: what to do next; its pictures are among `pictures`.
        attention: where heads look that attend to parts of pictures.
        tuning: what tuned backbones bought over their frozen ones.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    cells: Sequence[Cell]
    cells_source: Provenance | None
    groups: Sequence[GroupFacts]
    runs: Sequence[RunFacts]
    retrieval: Sequence[RetrievalTable]
    charts: Sequence[tuple[Chart, str, Provenance]]
    maps: MapFacts | None
    mistakes: Sequence[tuple[MistakesReport, Provenance]]
    pictures: Mapping[str, str]
    splits: Sequence[SplitFacts]
    items_path: str
    features: Sequence[FeatureFacts]
    timings_s: Mapping[str, float]
    failures: Sequence[tuple[str, str]]
    toys: frozenset[str] = frozenset()
    advice: Advice | None = None
    likeness: Sequence[tuple[LikenessReport, Provenance]] = ()
    by_words: Sequence[AnswerFacts] = ()
    parts: Sequence[str] = ()
    lacking: str = ""
    multilabel: Sequence[MultilabelFacts] = ()
    segmentation: Sequence[SegmentationFacts] = ()
    attention: Sequence[AttentionFacts] = ()
    tuning: Ledger | None = None

    @property
    def more_cells(self) -> list[Cell]:
        """The cells that say more than the rows of all results do."""
        return [cell for cell in self.cells if says_more(cell)]

    @property
    def tables(self) -> list[CellTable]:
        """These cells, one table a label set."""
        return cell_tables(self.more_cells, self.toys)

    @property
    def reading(self) -> list[str]:
        """How the tables are to be read."""
        return how_to_read(self.more_cells)

    @property
    def has_val(self) -> bool:
        """Whether any group was scored on a validation part."""
        return any(group.has_val for group in self.groups)

    @property
    def has_published(self) -> bool:
        """Whether any figure was published for one of the tables."""
        return any(cell.reference for cell in self.cells)

    @property
    def answers(self) -> list[RunFacts]:
        """Of each question the classifier that answers it."""
        first = {(run.row.labels, run.row.split): run for run in reversed(self.runs)}
        return [run for run in self.runs if run in first.values()]

    @property
    def others(self) -> list[RunFacts]:
        """The other classifiers in detail."""
        answers = self.answers
        return [run for run in self.runs if run not in answers]

    @property
    def shown_failures(self) -> Sequence[tuple[str, str]]:
        """The first of the failures."""
        return self.failures[:_SHOWN_FAILURES]

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Anchor and heading of each part that there is."""
        every = (
            ("lacking", "Without labels", not self.groups and not self.multilabel),
            ("best", "The answer", bool(self.groups)),
            ("multilabel", "Several labels an item", bool(self.multilabel)),
            ("next", "What to do next", bool(self.advice and self.advice.findings)),
            ("tuning", "Tuning", self.tuning is not None),
            ("segmentation", "Segmentation", bool(self.segmentation)),
            ("words", "Answers by words", bool(self.by_words)),
            ("answers", "Right and wrong", bool(self.runs)),
            ("attention", "Where it looks", bool(self.attention)),
            ("mistakes", "Mistakes", bool(self.mistakes)),
            ("curves", "Learning curves", bool(self.charts)),
            ("results", "All results", bool(self.groups)),
            ("runs", "Other classifiers", bool(self.others)),
            ("map", "Map", self.maps is not None),
            ("likeness", "Alike and apart", bool(self.likeness)),
            ("retrieval", "Retrieval", bool(self.retrieval)),
            ("splits", "Splits", bool(self.splits)),
            ("features", "Features", True),
            ("timings", "Time taken", bool(self.timings_s)),
            ("failures", "Failures", bool(self.failures)),
        )
        return [(anchor, heading) for anchor, heading, is_there in every if is_there]


def render_html(page: Page) -> str:
    """The page as one HTML document."""
    names = ("page.css", "advice.css", "segmentation.css")
    style = palette_css() + "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    template = environment_of_templates(autoescape=True).get_template("page.html.j2")
    text: str = template.render(
        page=page, style=style, script=script, policy=_policy(script), published_protocol=PUBLISHED_PROTOCOL
    )
    return text


def render_markdown(page: Page) -> str:
    """The page's tables as Markdown; drawings and pictures are left to the page and to `sheet.png`."""
    tables = _demoted(cells_markdown(page.more_cells, _MORE, page.toys)) if page.more_cells else ""
    template = environment_of_templates(autoescape=False).get_template("page.md.j2")
    segmented = [(one, tables_markdown(one.table)) for one in page.segmentation]
    tuned = ledger_markdown(page.tuning) if page.tuning is not None else ""
    text: str = template.render(page=page, tables=tables, segmented=segmented, tuned=tuned)
    return re.sub(r"\n{3,}", "\n\n", text)


def _policy(script: str) -> str:
    """Nothing is loaded, and of scripts just this one runs, whatever names the data bring."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = (
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
    )
    return "; ".join((*rules, "base-uri 'none'", "form-action 'none'"))


def _demoted(markdown: str) -> str:
    """Headings one level down."""
    return re.sub(r"^#", "##", markdown, flags=re.MULTILINE)
