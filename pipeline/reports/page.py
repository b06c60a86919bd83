"""One self-contained page of results, as HTML and as Markdown. Everything it shows is given; no file is read.

The HTML loads nothing: styles, matrices and pictures are inside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.metrics.classification import ClassScores
from pipeline.reports.confusion import Confused
from pipeline.reports.samples import Sample
from pipeline.reports.table import ResultGroup, ResultRow

_TEMPLATES = Path(__file__).parent / "templates"
_SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """One split: items by part, and what leaks from training into test."""

    name: str
    strategy: str
    counts: Mapping[str, int]
    summary: str
    notes: tuple[str, ...] = ()


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
class RunFacts:
    """One classifier in detail.

    Attributes:
        row: its row of the table. protocol: what was learned from what.
        notes: what a reader must know of this run (left-out items, missing classes, no convergence).
        confusion: an SVG. confused: the most frequent errors. classes: counts of each class.
        right, wrong: samples with the data URI of their thumbnail, None where there is none.
    """

    row: ResultRow
    fingerprint: str
    protocol: str
    notes: tuple[str, ...]
    confusion: str
    confused: Sequence[Confused]
    classes: Sequence[ClassScores]
    right: Sequence[tuple[Sample, str | None]]
    wrong: Sequence[tuple[Sample, str | None]]


@dataclass(frozen=True, slots=True)
class Page:
    """All that is shown, in the order in which it is shown.

    Attributes:
        title: a heading. facts: label and value of what the data are.
        items_path: where the items lie.
        timings_s: seconds of each stage, as this machine took them.
        failures: item id and reason; where: which step failed.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    groups: Sequence[ResultGroup]
    runs: Sequence[RunFacts]
    splits: Sequence[SplitFacts]
    items_path: str
    features: Sequence[FeatureFacts]
    timings_s: Mapping[str, float]
    failures: Sequence[tuple[str, str]]

    @property
    def shown_failures(self) -> Sequence[tuple[str, str]]:
        """The first of the failures."""
        return self.failures[:_SHOWN_FAILURES]


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal; an en dash for none."""
    return "–" if share is None else f"{100 * share:.1f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """Bounds as percentages; empty for none."""
    return "" if bounds is None else f"{percent(bounds[0])}–{percent(bounds[1])}"


def duration(seconds: float) -> str:
    """Seconds for people: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def render_html(page: Page) -> str:
    """The page as one HTML document."""
    style = (_TEMPLATES / "page.css").read_text(encoding="utf-8")
    template = _environment(autoescape=True).get_template("page.html.j2")
    anchors = {run.row: f"run-{number}" for number, run in enumerate(page.runs, start=1)}
    text: str = template.render(
        page=page, style=style, anchors=anchors, best_rows={group.best for group in page.groups}
    )
    return text


def render_markdown(page: Page) -> str:
    """The page's tables as Markdown; pictures are left to `sheet.png` beside it."""
    text: str = _environment(autoescape=False).get_template("page.md.j2").render(page=page)
    return text


@cache
def _environment(autoescape: bool) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval": interval,
        "duration": duration,
        "cell": _cell,
        "sentence": _sentence,
    }
    return environment


def _sentence(text: str) -> str:
    """First letter large; `str.capitalize` would make the others small."""
    return text[:1].upper() + text[1:]


def _cell(text: object) -> str:
    """Text for a cell of a Markdown table, in which a name must not become markup."""
    return str(text).replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
