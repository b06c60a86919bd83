"""The report stage: one self-contained page, its Markdown, JSON and sheet."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from learning_world import picture, write_features, write_items, write_split
from PIL import Image
from report_world import SPLIT_REPORT, ReportWorld, make_report_world, more_results
from resealing import relist
from under_dvc import under_dvc

from deponij.pipeline.curves import CURVES
from deponij.pipeline.metrics.retrieval import RETRIEVAL
from deponij.pipeline.mistakes.records import MISTAKES
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, check
from deponij.project.learning.learn import HeadParams, learn
from deponij.project.report.summary import results_table
from deponij.project.retrieval import images
from deponij.project.retrieval.archive import RetrievalParams
from deponij.stages import curves, mistakes, report
from deponij.stages import map as mapping
from deponij.stages.curves import CurveParams
from deponij.stages.map import MapParams
from deponij.stages.mistakes import MistakesParams
from deponij.stages.report import ReportParams
from deponij.store.atomic import read_table, write_table
from deponij.store.errors import DataError, StoreError
from deponij.store.keys import key_of_bytes

PARTS = {
    "cells": ("Over seeds, prompts and joined answers", None),
    "retrieval": ("Retrieval", ()),
    "curves": ("Learning curves", ()),
    "maps": ("Map of the embeddings", ()),
    "mistakes": ("Mistakes worth looking at", ()),
    "likeness": ("Alike, and apart", ()),
    "answers": ("Answers by words", ()),
    "advice": ("What to do next", None),
    "split_reports": ("The split", ()),
    "timings": ("Time taken", None),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ReportWorld:
    return make_report_world(tmp_path_factory.mktemp("report"))


def write(made: ReportWorld, out: Path, **changes: object) -> Path:
    params = changes.pop("params", ReportParams())
    return report.run(params, **made.arguments(**changes), out=out)


@pytest.fixture(scope="module")
def out(made: ReportWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything on the page."""
    return write(made, tmp_path_factory.mktemp("page")).parent


class Reader(HTMLParser):
    """Collects what a page refers to, its ids and its text; complains of tags that do not close."""

    VOID = frozenset({"meta", "link", "img", "br", "wbr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


def test_the_page_is_whole_and_loads_nothing(out: Path) -> None:
    reader = read(out / "page.html")
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    anchors = {f"#{name}" for name in reader.ids}
    assert all(reference.startswith("data:") or reference in anchors for reference in reader.references)
    assert sum(reference.startswith("data:image/jpeg") for reference in reader.references) > 16
    text = (out / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\((?!data:)", text)
    assert len(text) < 5_000_000


def test_its_policy_lets_its_own_script_run_and_nothing_else(out: Path) -> None:
    text = (out / "page.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL)
    assert [attributes for attributes, _ in scripts] == [' type="application/json" id="points"', ""]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    digest = base64.b64encode(hashlib.sha256(scripts[1][1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in policy
    assert "default-src &#39;none&#39;" in policy


def test_the_page_says_what_it_shows(made: ReportWorld, out: Path) -> None:
    words = " ".join(read(out / "page.html").words)
    for told in (
        "Deponij: results on made-up",
        "zero-shot",
        "linear probe",
        "chance",
        "majority class",
        SPLIT_REPORT["leakage_summary"],
        "2 items could not be read.",
        str(made.world.features),
        "w" * 64,
        "decoder died",
        "1 min 15 s",
        "Left out: 2 items of the split without features.",
        "whole photographs exchanged",
        "95 % over 20 photographs",
        "a made-up paper",
        "70.50",
        "labelled items (logarithmic)",
        "at perplexity 10",
        "the 1 most doubtful of 7",
        "alike to the backbone, 0.980; of one photograph",
        "3 of 9",
        "After temperature scaling",
        "Pictures find pictures",
        "Words find pictures",
        "Each test item asks all",
    ):
        assert str(told) in words, told


def test_retrieval_on_the_page_is_that_of_its_files(made: ReportWorld, out: Path) -> None:
    """Figures as in the files; of each query that is shown, its hits in their order, framed by relevance."""
    results = [
        one for path in made.parts["retrieval"] for one in RETRIEVAL.load(path.read_bytes(), str(path))
    ]
    section = re.search(r'<section id="retrieval">.*?</section>', (out / "page.html").read_text(), re.DOTALL)
    markdown = (out / "results.md").read_text()
    for one in results:
        for name in ("mAP", "recall@1", "recall@5", "recall@10"):
            figure = one.figures.micro[name]
            assert (figure.interval is None) == (one.figures.n_resampled < 10) == (one.resampled == "texts")
            bounds = figure.interval or ()
            between = f"[{', '.join(f'{100 * bound:.1f}' for bound in bounds) or 'too few'}]"
            assert f"{100 * figure.value:.1f}<small>{between}</small>" in section.group(0), (one.task, name)
            assert f" {100 * figure.value:.1f} {between} |" in markdown
        for each in one.figures.classes:
            assert f"| {each.name} | {each.n} | {100 * each.figures['mAP'].value:.1f} |" in markdown
    framed = re.findall(r'<figure class="(hit|miss)" title="([^"]+)">', section.group(0))
    hits = [hit for one in results for example in one.examples for hit in example.hits]
    assert framed == [("hit" if hit.is_relevant else "miss", hit.item_id) for hit in hits]
    assert len(hits) == 2 * 2 * 3


def test_pictures_of_hits_are_limited(
    made: ReportWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_MAX_HITS", 6)
    text = write(made, tmp_path).read_text(encoding="utf-8")
    section = re.search(r'<section id="retrieval">.*?</section>', text, re.DOTALL).group(0)
    assert len(re.findall(r'<figure class="(?:hit|miss)"', section)) == 6


def test_every_figure_says_where_it_comes_from(made: ReportWorld, out: Path) -> None:
    text = (out / "page.html").read_text(encoding="utf-8")
    captions = re.findall(r'<p class="source">(.*?)</p>', text)
    fingerprint = json.loads((made.results[1] / "result.json").read_text())["fingerprint"]
    assert all("profile made-up · 120 items" in caption for caption in captions)
    assert all(f'title="fingerprint of tiny: {fingerprint}">{fingerprint[:8]}<' in one for one in captions)
    for told in (
        "split split · test, n = ",
        "make heads",
        "make tables",
        "make retrieval",
        "make curves",
        "make mistakes",
        "make map",
        "make likeness",
        "make answers",
    ):
        assert any(told in caption for caption in captions), told
    # The best; tables; results; three ways of asking; one chart a head; a map; two classifiers; mistakes; likeness; words.
    assert len(captions) == 1 + 1 + 1 + 3 + 2 + 1 + 2 + 1 + 1 + 1


def test_contents_lead_to_every_section(out: Path) -> None:
    text = (out / "page.html").read_text(encoding="utf-8")
    sections = re.findall(r'<section id="(\w+)"', text)
    contents = re.search(r"<nav.*?</nav>", text, re.DOTALL).group(0)
    assert re.findall(r'href="#(\w+)"', contents) == sections
    assert len(sections) == 15


def test_advice_shows_its_pictures_and_what_acts(made: ReportWorld, out: Path) -> None:
    text = (out / "page.html").read_text(encoding="utf-8")
    section = text[
        text.index('<section id="next">') : text.index("</section>", text.index('<section id="next">'))
    ]
    # Two findings, the first open; one picture beside another; commands that can be selected whole.
    assert section.count("<details") == 2 and section.count("<details open>") == 1
    assert section.count("<img ") == 2
    assert (
        "advice runs/made-up <span>--take</span> duplicates <span>--into</span> corrections.csv</code>"
        in section
    )
    assert "<code>deponij compare a b</code>" in section


@pytest.mark.parametrize("part", PARTS)
def test_a_part_without_its_files_is_not_on_the_page(made: ReportWorld, tmp_path: Path, part: str) -> None:
    heading, nothing = PARTS[part]
    page = write(made, tmp_path, **{part: nothing})
    assert read(page).open == []
    assert heading not in page.read_text(encoding="utf-8")
    markdown = (tmp_path / "results.md").read_text()
    assert f"\n## {heading}\n" not in markdown
    others = [other for name, (other, _) in PARTS.items() if name not in (part, "split_reports")]
    assert all(f"\n## {other}\n" in markdown for other in others)


def test_figures_agree_with_the_results(made: ReportWorld, out: Path) -> None:
    rows = json.loads((out / "results.json").read_text())
    assert [(row["backbone"], row["method"]) for row in rows[2:]] == [
        ("tiny", "zero-shot"),
        ("tiny", "linear probe (logistic regression)"),
    ]
    document = json.loads((made.results[1] / "result.json").read_text())
    assert rows[3]["top1"] == document["parts"]["test"]["top1"]
    assert rows[3]["top1_interval"] == document["parts"]["test"]["top1_interval"]
    markdown = (out / "results.md").read_text()
    low, high = rows[3]["top1_interval"]
    assert f"| {100 * rows[3]['top1']:.1f} [{100 * low:.1f}, {100 * high:.1f}] |" in markdown
    assert [row.to_json() for group in results_table(made.results) for row in group.rows] == [
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        for row in rows
    ]


def test_markdown_has_what_the_page_has(out: Path) -> None:
    markdown = (out / "results.md").read_text()
    for told in (
        "70.50 / 81.17 / 87.66",
        "Expected calibration error",
        "| tiny | 1 | 4 | 2 |",
        "| Lid | Can | 3 | 9 |",
    ):
        assert told in markdown, told
    assert markdown.count("profile made-up · 120 items") == 1 + 1 + 3 + 2 + 1 + 2 + 1 + 1 + 1
    assert "\n\n\n" not in markdown


def test_toys_are_marked_in_every_part(made: ReportWorld, out: Path, tmp_path: Path) -> None:
    assert "toy" not in (out / "results.md").read_text()
    assert 'class="toy"' not in (out / "page.html").read_text()
    text = write(made, tmp_path, toys={"tiny"}).read_text()
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', text, flags=re.DOTALL))
    sections["tables"] = sections["results"].partition('id="tables"')[2]
    for name in (
        "best",
        "answers",
        "tables",
        "results",
        "retrieval",
        "curves",
        "runs",
        "mistakes",
        "likeness",
        "words",
        "features",
    ):
        assert 'class="toy"' in sections[name], name
    assert "tiny</bdi> (toy)" in sections["map"]
    markdown = (tmp_path / "results.md").read_text()
    rows = [line for line in markdown.splitlines() if line.startswith(("| tiny", "### tiny"))]
    assert len(rows) > 10 and all("tiny (toy)" in line for line in rows)
    # A toy alone is still shown as what validation chooses, with its mark.
    assert "tiny (toy)" in markdown.partition("## The answer")[2].partition("##")[0]


def test_same_inputs_same_bytes(made: ReportWorld, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(made, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["page.html", "results.json", "results.md", "sheet.png"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_of_many_classifiers_the_best_have_details_and_all_a_row(made: ReportWorld, tmp_path: Path) -> None:
    results = [*made.results, *more_results(made.results[1], tmp_path / "results", 20)]
    params = ReportParams(n_detailed=3)
    text = write(made, tmp_path / "out", results=results, params=params).read_text(encoding="utf-8")
    assert text.count('<details class="run"') == 3 + len(("mistakes", "likeness", "answers"))
    assert "the first 14 of 22" in text
    assert "All 22" in text
    assert all(f"ensemble {i}" in text for i in range(20))
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(rows) == 2 + 22


def test_two_that_answered_other_items_are_not_compared(made: ReportWorld, tmp_path: Path) -> None:
    folder = Layout(tmp_path / "r").result("logistic", "tiny") / "split-label"
    shutil.copytree(made.results[1], folder)
    answers = read_table(folder / "predictions.parquet")
    ids = [*answers["item_id"].to_pylist()[:-1], "another"]
    write_table(folder / "predictions.parquet", answers.set_column(0, "item_id", [ids]))
    relist(folder)
    text = write(made, tmp_path / "out", results=[made.results[1], folder]).read_text(encoding="utf-8")
    assert "The first two were not compared item by item" in text


def test_one_classifier_alone_has_nobody_to_be_compared_with(made: ReportWorld, tmp_path: Path) -> None:
    text = write(made, tmp_path, results=made.results[:1]).read_text(encoding="utf-8")
    assert "item by item" not in text


def test_map_points_and_pictures_are_limited(made: ReportWorld, tmp_path: Path) -> None:
    params = ReportParams(n_map_points=30, n_map_pictures=10)
    text = write(made, tmp_path, params=params).read_text(encoding="utf-8")
    points = json.loads(re.search(r'id="points">(.*?)</script>', text).group(1))
    assert len(points["ids"]) == 30
    assert sorted(place for place in points["pictures"] if place >= 0) == list(range(10))
    assert sum(len(rows) for rows in points["maps"][0]["rows"]) == 30
    without = write(made, tmp_path, params=ReportParams(n_map_pictures=0)).read_text(encoding="utf-8")
    assert "background-image" not in without


def test_the_sheet_is_a_picture(out: Path) -> None:
    assert Image.open(io.BytesIO((out / "sheet.png").read_bytes())).size[0] > 600


def test_bare_minimum(made: ReportWorld, tmp_path: Path) -> None:
    nothing = {part: nothing for part, (_, nothing) in PARTS.items()}
    params = ReportParams(n_samples=0, n_confused=0)
    page = write(made, tmp_path, results=made.results[:1], params=params, **nothing)
    assert read(page).open == []
    assert read(page).ids == ["best", "answers", "run-1-1", "results", "results-1", "features", "failures"]


HOSTILE = (
    "<script>alert(1)</script>",
    'a "quoted" | name',
    "c&d ![x](http://example.org/x.png)",
    "x" * 300,
    "\u202eevil בקבוק",
    "🥤 cup</style><img src=x>",
)


def test_names_from_the_data_cannot_become_markup(tmp_path: Path) -> None:
    n = 12 * len(HOSTILE)
    ids = [f"<b>i{i}</b>|" for i in range(n)]
    labels = [HOSTILE[i % len(HOSTILE)] for i in range(n)]
    write_items(tmp_path / "items", [(ids[i], picture(i), labels[i]) for i in range(n)])
    write_split(tmp_path / "s.parquet", ids, ["train"] * (n // 2) + ["test"] * (n // 2))
    # Test items look like another class, so that all names are among the errors too.
    embedding = np.eye(len(HOSTILE), 16)[[(i + 2 * i // n) % len(HOSTILE) for i in range(n)]]
    embedding = (embedding + 0.1 * np.random.default_rng(0).normal(size=embedding.shape)).astype(np.float32)
    write_features(tmp_path / "v.h5", ids, [key_of_bytes(picture(i)) for i in range(n)], embedding)
    paths = {"features": tmp_path / "v.h5", "items": tmp_path / "items"}
    data = {**paths, "labels": "label"}
    folder = tmp_path / "<i>heads" / "<i>p" / "<i>tiny" / "s-label"
    views = {"features": [paths["features"]], "split": tmp_path / "s.parquet"}
    learn(HeadParams(head="logistic"), **{**data, **views}, out=folder)
    points = curves.run(CurveParams(per_class=(1,), tries=1), **data, split=tmp_path / "s.parquet")
    found = mistakes.run(MistakesParams(), **data)
    asked = images.run(RetrievalParams(), **data, split=tmp_path / "s.parquet")
    (tmp_path / "retrieval.json").write_bytes(RETRIEVAL.dump([asked]))
    (tmp_path / "curves.json").write_bytes(CURVES.dump(points))
    (tmp_path / "mistakes.json").write_bytes(MISTAKES.dump([found]))
    mapping.run(
        MapParams(perplexity=5, iterations=250), features=tmp_path / "v.h5", out=tmp_path / "m.parquet"
    )
    page = report.run(
        ReportParams(),
        results=[folder],
        items=tmp_path / "items",
        views=[tmp_path / "v.h5"],
        retrieval=[tmp_path / "retrieval.json"],
        curves=[tmp_path / "curves.json"],
        mistakes=[tmp_path / "mistakes.json"],
        maps=[tmp_path / "m.parquet"],
        remake=lambda stage: f"make {stage}",
        profile="<i>x</i>",
        out=tmp_path / "out",
    )
    text = page.read_text(encoding="utf-8")
    assert len(re.findall("<script", text)) == 2
    assert "<img src=x" not in text
    assert "<b>i" not in text
    assert not re.search("<i>(x|p|tiny|heads)", text)
    assert read(page).open == []
    markdown = (tmp_path / "out" / "results.md").read_text()
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert "![x](" not in markdown
    assert "\u202e" not in markdown
    assert 'a "quoted" \\| name' in markdown


@pytest.fixture(scope="module")
def laid_out(made: ReportWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has left what it makes, of the profile `made-up`."""
    root = tmp_path_factory.mktemp("project")
    at = Layout(root / "runs" / "made-up")
    for source, target in (
        (made.world.items, at.items),
        (made.world.features, at.view("tiny")),
        (made.parts["split_reports"][0], at.split_report("split")),
        (made.parts["cells"], at.tables / "cells.json"),
        (made.parts["retrieval"][0], at.retrieval("tiny")),
        (made.parts["curves"][0], at.curves("tiny")),
        (made.parts["maps"][0], at.map("tiny")),
        (made.parts["mistakes"][0], at.mistakes("tiny")),
        (made.parts["likeness"][0], at.likeness("tiny")),
        (made.parts["advice"], at.advice_file),
        (made.results[0], at.result("zero-shot", "tiny") / "split-label"),
        (made.results[1], at.result("logistic", "tiny") / "split-label"),
        (made.results[1], at.result("linear", "tiny", "tables") / "split-label"),
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    more_results(made.results[1], at.ensembles, 1)
    at.segmentation.mkdir()
    (root / "params.yaml").write_text(
        "profile: made-up\nbackbones: {tiny: {}, other: {}}\nsplits: {split: {}}\n"
        "text_backbones: []\nlabels: [label]\nreport: {n_detailed: 9}\n"
    )
    for of in (at.view, at.retrieval, at.curves, at.map, at.mistakes, at.likeness):
        shutil.copy(of("tiny"), of("other"))
    return root


def test_commands_are_stages_that_there_are(laid_out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(laid_out)
    under_dvc(report)
    text = Layout.of("made-up").report.joinpath("page.html").read_text(encoding="utf-8")
    known = yaml.safe_load((Path(report.__file__).resolve().parent.parent / "dvc.yaml").read_text())["stages"]
    commands = set(re.findall(r"dvc repro ([\w@.+-]+)", text))
    # Of each classifier the stage that made it, of every other part its own.
    made_of = {"heads", "tables", "ensembles"}
    assert commands == made_of | {"retrieval", "curves", "mistakes", "map", "likeness"}
    assert all(stage in known and "do" not in known[stage] for stage in commands)
    runs = "".join(re.findall(r'<section id="(?:answers|runs)">.*?</section>', text, re.DOTALL))
    told = re.findall(r"dvc repro ([\w@.+-]+)", runs)
    assert sorted(told) == ["ensembles", "heads", "heads", "tables"]


@pytest.mark.parametrize(
    ("stage", "method", "backbone"),
    [
        ("heads", "logistic", "tiny"),
        ("heads", "zero-shot", "tiny"),
        ("heads", "knn", "tiny"),
        ("heads", "centroid", "tiny"),
        ("heads", "wise-ft", "tiny"),
        ("heads", "tip-adapter", "tiny"),
        ("tables", "linear", "tiny+other"),
        ("tables", "mlp", "tiny"),
        ("ensembles", "greedy", "tiny+other"),
    ],
)
def test_the_folder_of_a_classifier_says_which_stage_made_it(
    made: ReportWorld, tmp_path: Path, stage: str, method: str, backbone: str
) -> None:
    folder = Layout(tmp_path).result(method, backbone, stage) / "split-label"
    shutil.copytree(made.results[1], folder)
    text = write(made, tmp_path / "out", results=[folder]).read_text(encoding="utf-8")
    runs = re.search(r'<section id="answers">.*?</section>', text, re.DOTALL).group(0)
    assert re.findall(r"make (\w+)", runs) == [stage]


def test_elsewhere_no_command_is_told_and_what_is_missing_is_left_out(laid_out: Path, tmp_path: Path) -> None:
    """`deponij run` goes on where data were too few for a stage; under DVC its file must be there."""
    at = Layout(tmp_path / "out")
    shutil.copytree(laid_out / "runs" / "made-up", at.root)
    for path in (at.curves("other"), at.map("other"), at.mistakes("other"), at.tables / "cells.json"):
        path.unlink()
    sections = {"profile": "mine", "backbones": {"tiny": {}, "other": {}}, "splits": {"split": {}}}
    sections |= {"text_backbones": [], "labels": ["label"]}
    params = check(report.Params, sections, "the test")
    with pytest.raises(StoreError, match="there are no mistakes at"):
        report.main(params, at, RunOptions(under_dvc=True))
    report.main(params, at, RunOptions())
    text = (at.report / "page.html").read_text(encoding="utf-8")
    assert "dvc repro" not in text
    assert "Over seeds, prompts" not in text
    assert "<h2>Learning curves</h2>" in text


def test_missing_inputs_are_told(made: ReportWorld, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results to report"):
        write(made, tmp_path, results=[], maps=[], likeness=[], answers=[])
    with pytest.raises(StoreError, match=r"no results in .*it has no result\.json"):
        write(made, tmp_path, results=[tmp_path])
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "predictions.parquet").touch()
    with pytest.raises(StoreError, match="an older version of Deponij wrote them"):
        results_table([tmp_path])


@pytest.mark.parametrize(
    ("part", "missing", "damaged"),
    [
        ("split_reports", "no report of a split at", "has no 'checksum'"),
        ("cells", "no tables at", "has no 'checksum'"),
        ("curves", "no learning curves at", "has no 'checksum'"),
        ("retrieval", "no retrieval results at", "has no 'checksum'"),
        ("mistakes", "no mistakes at", "has no 'checksum'"),
        ("likeness", "no near-duplicates and outliers at", "has no 'checksum'"),
        ("answers", "there is no table at", "is damaged or not a Parquet file"),
    ],
)
def test_missing_and_damaged_parts_are_told(
    made: ReportWorld, tmp_path: Path, part: str, missing: str, damaged: str
) -> None:
    odd = tmp_path / "odd.json"
    given = odd if part == "cells" else [odd]
    with pytest.raises(StoreError, match=missing):
        write(made, tmp_path / "out", **{part: given})
    odd.write_text('[{"labels": 3}]')
    with pytest.raises(StoreError, match=damaged):
        write(made, tmp_path / "out", **{part: given})


def test_missing_and_damaged_maps_are_told(made: ReportWorld, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no map at"):
        write(made, tmp_path, maps=[tmp_path / "absent.parquet"])
    table = read_table(made.parts["maps"][0])
    write_table(tmp_path / "odd.parquet", table.drop_columns(["tsne_x"]))
    with pytest.raises(StoreError, match=r"is no map: it lacks the columns \['tsne_x'\]"):
        write(made, tmp_path, maps=[tmp_path / "odd.parquet"])


def test_the_stage_imports_nothing_heavy() -> None:
    code = (
        "import sys, deponij.stages.report\n"
        "assert not {'torch', 'sklearn', 'pandas', 'matplotlib', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(report.__file__).resolve().parent.parent
    )
