"""Stage `report`: results folders in, one page, its Markdown and JSON, and a sheet of samples out.

    python -m stages.report

It only shows; every figure was computed by the stage that it comes from.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import Field

from pipeline.metrics.classification import per_class
from pipeline.metrics.evaluation import Evaluation
from pipeline.metrics.predictions import Predictions
from pipeline.reports.confusion import confusion_svg, most_confused
from pipeline.reports.page import FeatureFacts, Page, RunFacts, SplitFacts, render_html, render_markdown
from pipeline.reports.samples import Sample, choose_samples, data_uri, sheet, thumbnail
from pipeline.reports.table import ResultGroup, result_groups, result_row, shown_part
from stages.console import say
from stages.harness import layout, run_stage
from stages.results import read_result
from stages.settings import Section, Slug, load
from store.atomic import write_bytes
from store.errors import DataError, StoreError
from store.items import Items
from store.view import View

PAGE_NAME = "page.html"
MARKDOWN_NAME = "results.md"
RESULTS_NAME = "results.json"
SHEET_NAME = "sheet.png"
# Thumbnails on the whole page; at some 4 kB each they stay far below 5 MB.
_MAX_THUMBNAILS = 640
_SHEET_SIDE_PX = 144


class ReportParams(Section):
    """What the page shows.

    Attributes:
        n_samples: right and wrong answers shown of each classifier (fewer where there are very many).
        n_confused: most frequent errors listed of each classifier.
        thumbnail_px: longer side of a picture on the page.
        seed: of the choice of samples.
    """

    n_samples: int = Field(default=16, ge=0, le=100)
    n_confused: int = Field(default=8, ge=0)
    thumbnail_px: int = Field(default=112, ge=32, le=256)
    seed: int = Field(default=0, ge=0)


class Params(Section):
    """The sections of params.yaml that this stage reads; of backbones and splits only their names."""

    profile: str
    backbones: dict[Slug, Any]
    splits: dict[Slug, Any]
    report: ReportParams = ReportParams()


@dataclass(frozen=True, slots=True)
class _Run:
    """One results folder, with the answers on the part that is shown."""

    evaluation: Evaluation
    found: Predictions
    right: list[Sample]
    wrong: list[Sample]


def run(
    params: ReportParams,
    *,
    results: Sequence[Path],
    items: Path,
    views: Sequence[Path],
    split_reports: Sequence[Path] = (),
    timings: Mapping[str, float] | None = None,
    profile: str,
    out: Path,
) -> Path:
    """Write `page.html`, `results.md`, `results.json` and `sheet.png`; equal inputs give equal bytes.

    Args:
        results: folders that learning stages wrote, in the order in which they are to be shown.
        items: the folder of items.
        views: the picture features that the results were made from.
        split_reports: JSON that the stage `split` wrote about each split.
        timings: seconds of each stage; they differ between runs, so leave them out for equal bytes.
        profile: a name for the heading.
        out: the folder to write to.

    Returns:
        The page.

    Raises:
        DataError: there are no results.
        StoreError: a file is missing or damaged.
    """
    if not results:
        raise DataError("there are no results to report; run a probe or zero-shot first")
    table = Items(items)
    runs = _read_runs(results, params)
    groups = result_groups([each.evaluation for each in runs])
    pictures = _thumbnails(table, runs, params)
    features = [_features(path) for path in views]
    page = Page(
        title=f"Deponij: results on {profile}",
        facts=_facts(table, groups, runs),
        groups=groups,
        runs=[_run_facts(each, pictures, params) for each in runs],
        splits=[_split_facts(path) for path in split_reports],
        items_path=str(items),
        features=[facts for facts, _ in features],
        timings_s=dict(timings or {}),
        failures=list(dict.fromkeys([*table.failures, *(pair for _, failed in features for pair in failed)])),
    )
    write_bytes(out / SHEET_NAME, _sheet(table, groups[0], runs))
    write_bytes(out / RESULTS_NAME, _json([row.to_json() for group in groups for row in group.rows]))
    write_bytes(out / MARKDOWN_NAME, render_markdown(page).encode())
    write_bytes(out / PAGE_NAME, render_html(page).encode())
    return out / PAGE_NAME


def results_table(results: Sequence[Path]) -> list[ResultGroup]:
    """The rows of results folders, grouped by split and labels, baselines first.

    Raises:
        StoreError: a folder holds no results, or damaged ones.
    """
    return result_groups([read_result(folder)[0] for folder in results])


def _read_runs(results: Sequence[Path], params: ReportParams) -> list[_Run]:
    n_samples = min(params.n_samples, _MAX_THUMBNAILS // (2 * len(results)))
    runs = []
    for folder in results:
        evaluation, found = read_result(folder)
        shown = found.of(shown_part(evaluation))
        right, wrong = choose_samples(shown, n_samples, params.seed)
        runs.append(_Run(evaluation, shown, right, wrong))
    return runs


def _thumbnails(table: Items, runs: Sequence[_Run], params: ReportParams) -> dict[str, str]:
    """Data URI by item id; a picture that is shown twice is decoded once."""
    wanted = {sample.item_id for each in runs for sample in (*each.right, *each.wrong)}
    images = _images(table, wanted, params.thumbnail_px)
    return {item_id: data_uri(image) for item_id, image in images.items()}


def _images(table: Items, wanted: set[str], side_px: int) -> dict[str, Image.Image]:
    rows = {row: item_id for row, item_id in enumerate(table.ids) if item_id in wanted}
    images = {}
    for row, content in table.contents(list(rows)):
        image = thumbnail(content, side_px)
        if image is not None:
            images[rows[row]] = image
    return images


def _run_facts(each: _Run, pictures: Mapping[str, str], params: ReportParams) -> RunFacts:
    evaluation, truth, answers = each.evaluation, each.found.truth, each.found.top_labels[:, 0]
    row = result_row(evaluation)
    names = sorted(set(truth.tolist()) | set(answers.tolist()))
    classes = sorted(per_class(truth, answers, names), key=lambda scores: (-scores.n_support, scores.name))
    return RunFacts(
        row=row,
        fingerprint=evaluation.fingerprint,
        protocol=evaluation.protocol,
        notes=evaluation.notes,
        confusion=confusion_svg(truth, answers, f"confusion matrix of {row.backbone}, {row.method}"),
        confused=most_confused(truth, answers, params.n_confused),
        classes=classes,
        right=[(sample, pictures.get(sample.item_id)) for sample in each.right],
        wrong=[(sample, pictures.get(sample.item_id)) for sample in each.wrong],
    )


def _facts(table: Items, groups: Sequence[ResultGroup], runs: Sequence[_Run]) -> list[tuple[str, str]]:
    photographs = len(set(table.column("image_id")))
    facts = [("Items", f"{len(table):,}"), ("Photographs", f"{photographs:,}")]
    labels = dict.fromkeys(each.evaluation.labels for each in runs)
    for name in labels:
        n_classes = max(row.n_classes for group in groups if group.labels == name for row in group.rows)
        facts.append((f"Classes of {name}", f"{n_classes}"))
    facts.append(("Backbones", f"{len({each.evaluation.backbone for each in runs})}"))
    facts.append(("Items that failed", f"{len(table.failures):,}"))
    return facts


def _split_facts(path: Path) -> SplitFacts:
    try:
        report: Any = json.loads(path.read_text(encoding="utf-8"))
        counts = {str(part): int(n) for part, n in report["n"].items()}
        notes = tuple(str(note) for note in report["notes"])
        return SplitFacts(path.stem, str(report["strategy"]), counts, str(report["leakage_summary"]), notes)
    except FileNotFoundError:
        raise StoreError(f"there is no report of a split at {path}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is no report of a split: {error!r}") from error


def _features(path: Path) -> tuple[FeatureFacts, list[tuple[str, str]]]:
    view = View(path)
    facts = FeatureFacts(
        backbone=view.backbone,
        path=str(path),
        kind=view.kind,
        # Dense maps stay in the depot; the view knows only how many there are.
        shape=view.embedding.shape if view.array_names else (len(view),),
        fingerprint=view.fingerprint,
        identity=json.loads(view.identity.to_json()),
        n_failed=len(view.failures),
    )
    return facts, view.failures


def _sheet(table: Items, group: ResultGroup, runs: Sequence[_Run]) -> bytes:
    """Samples of the first group's best classifier, wrong answers first."""
    members = [e for e in runs if (e.evaluation.split, e.evaluation.labels) == (group.split, group.labels)]
    best = max(members, key=lambda each: result_row(each.evaluation).top1)
    samples = [*best.wrong, *best.right]
    images = _images(table, {sample.item_id for sample in samples}, _SHEET_SIDE_PX)
    row = result_row(best.evaluation)
    title = f"{row.backbone}, {row.method}, {row.labels}: {row.top1:.1%} of {row.n} right"
    return sheet([(sample, images.get(sample.item_id)) for sample in samples], title)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def main() -> None:
    """Under DVC: everything the profile in force has brought out. No wall times: equal inputs, equal bytes."""
    params = load(Params)
    at = layout()
    page = run(
        params.report,
        # A backbone that has left the profile leaves its results behind.
        results=at.results(params.backbones),
        items=at.items,
        views=[at.view(backbone) for backbone in params.backbones],
        split_reports=[at.split_report(split) for split in params.splits],
        profile=params.profile,
        out=at.report,
    )
    say(f"report -> {page}")


if __name__ == "__main__":
    run_stage("report", main)
