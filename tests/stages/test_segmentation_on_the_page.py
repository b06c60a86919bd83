"""What the page says of segmentation: figures as folders have them, scenes from the worst to the best, nothing loaded."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from report_world import make_report_world
from segmentation_world import make_results, make_scenes
from test_report import read

from deponij.pipeline.metrics.segmentation import Figures, margins
from deponij.project.frame.layout import Layout
from deponij.project.segmentation.result_files import read_counts, read_segmentation
from deponij.stages import report
from deponij.stages.report import ReportParams


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    found = Layout(tmp_path_factory.mktemp("run"))
    make_results(make_scenes(found.scenes), found)
    return found


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict:  # type: ignore[type-arg]
    return make_report_world(tmp_path_factory.mktemp("world")).arguments()


def made(given: dict, at: Layout, out: Path, **params: int) -> str:  # type: ignore[type-arg]
    changed = {**given, "segmentation": at.segmentations(), "scenes": at.scenes}
    return report.run(ReportParams(**params), **changed, out=out).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(given: dict, at: Layout, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[type-arg]
    out = tmp_path_factory.mktemp("page")
    made(given, at, out)
    return out / "page.html"


def section(page: Path) -> str:
    return re.search(r'<section id="segmentation">.*?</section>', page.read_text(), re.DOTALL).group(0)


def test_the_figures_are_those_of_the_folders(page: Path, at: Layout) -> None:
    text = section(page)
    for folder in at.segmentations():
        scores = read_segmentation(folder).parts["test"]
        assert f"<b>{100 * scores.miou:.1f}</b>" in text
        low, high = scores.miou_interval
        assert f"[{100 * low:.1f}, {100 * high:.1f}]" in text
    assert "names · windows cut" in text and "always <bdi>road</bdi>" in text
    assert "No test picture shows boat" in text and "not there" in text
    assert "A beats B by" in text


def test_scenes_go_from_the_worst_to_the_best_by_the_first_approach(page: Path, at: Layout) -> None:
    """Expected: each picture's own mIoU from its own confusion matrix."""
    best = at.segmented("swiftnet-160", "mini-convnext", "names")
    counts = read_counts(best)[1].of("test")
    own = Figures(7).miou(margins(counts.confusions).astype(np.float64))
    order = np.argsort(own, kind="stable")
    expected = [counts.ids[order[place]] for place in (0, 12, 23)]
    found = re.findall(r"<h5>(\w+) <small>mIoU ([\d.]+)&nbsp;% · <bdi>([^<]+)</bdi>", section(page))
    assert [what for what, _, _ in found] == ["Worst", "Median", "Best"]
    assert [item for _, _, item in found] == expected
    assert [float(share) for _, share, _ in found] == pytest.approx(
        [100 * own[order[k]] for k in (0, 12, 23)], abs=0.06
    )
    headings = re.findall(r"<figcaption>([^<]+)</figcaption>", section(page))
    assert headings[:4] == ["Photograph", "Truth", "swiftnet-160", "Errors of swiftnet-160"]
    assert len(headings) == 3 * (2 + 2 * 3)


def test_the_page_stays_whole_and_loads_nothing(page: Path) -> None:
    reader = read(page)
    assert reader.open == [] and len(reader.ids) == len(set(reader.ids))
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\((?!data:)", text)
    assert "#segmentation" in text


def test_markdown_has_the_tables(page: Path) -> None:
    text = (page.parent / "results.md").read_text()
    assert "## Segmentation" in text and "| swiftnet-160 | mini-convnext | names |" in text
    assert "| pedestrian |" in text and "[too few]" in text


def test_without_scenes_or_examples_there_are_figures_alone(given: dict, at: Layout, tmp_path: Path) -> None:  # type: ignore[type-arg]
    assert '<div class="scene">' not in made(given, at, tmp_path / "none", n_scenes=0)
    out = report.run(
        ReportParams(), **{**given, "segmentation": at.segmentations()}, out=tmp_path / "elsewhere"
    )
    assert '<section id="segmentation">' in out.read_text() and '<div class="scene">' not in out.read_text()


def test_segmentation_alone_is_worth_a_page(given: dict, at: Layout, tmp_path: Path) -> None:  # type: ignore[type-arg]
    alone = {name: given[name] for name in ("items", "views", "profile")}
    out = tmp_path / "alone"
    report.run(
        ReportParams(), results=[], **alone, segmentation=at.segmentations(), scenes=at.scenes, out=out
    )
    assert '<section id="segmentation">' in (out / "page.html").read_text()
    assert json.loads((out / "results.json").read_text()) == []
