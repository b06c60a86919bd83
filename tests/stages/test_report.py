"""The report stage: one self-contained page, its Markdown, JSON and sheet."""

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from learning_world import (
    CLASSES,
    World,
    make_world,
    picture,
    vectors,
    write_features,
    write_items,
    write_split,
)
from PIL import Image

from stages import probe, report, zero_shot
from stages.probe import ProbeParams
from stages.report import ReportParams
from stages.zero_shot import ZeroShotParams
from store.errors import DataError, StoreError
from store.keys import key_of_bytes

SPLIT_REPORT = {
    "split": "split.parquet",
    "strategy": "group",
    "seed": 0,
    "n": {"train": 60, "val": 20, "test": 40},
    "n_outside": 4,
    "leakage": {},
    "leakage_summary": "0 of 40 test items (0.0%) share a photograph with training items.",
    "notes": ["2 items could not be read."],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def world(root: Path) -> World:
    return make_world(root)


@pytest.fixture(scope="module")
def results(root: Path, world: World) -> list[Path]:
    data = {"features": world.features, "items": world.items, "split": world.split, "labels": "label"}
    zero_shot.run(ZeroShotParams(), texts=world.texts, **data, out=root / "zero_shot")
    probe.run(ProbeParams(), **data, out=root / "probe")
    (root / "split.json").write_text(json.dumps(SPLIT_REPORT))
    return [root / "zero_shot", root / "probe"]


def write(root: Path, world: World, results: list[Path], out: Path, **changes: object) -> Path:
    arguments = {
        "results": results,
        "items": world.items,
        "views": [world.features],
        "split_reports": [root / "split.json"],
        "timings": {"extract@tiny": 75.2, "probe@tiny": 1.25},
        "profile": "made-up",
        "out": out,
    }
    return report.run(changes.pop("params", ReportParams()), **{**arguments, **changes})


class Reader(HTMLParser):
    """Collects what a page refers to, its ids and its text; complains of tags that do not close."""

    VOID = frozenset({"meta", "link", "img", "br", "rect", "path"})

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


def test_the_page_is_whole_and_loads_nothing(
    root: Path, world: World, results: list[Path], tmp_path: Path
) -> None:
    page = write(root, world, results, tmp_path)
    reader = read(page)
    assert reader.open == []
    anchors = {f"#{name}" for name in reader.ids}
    assert all(reference.startswith("data:") or reference in anchors for reference in reader.references)
    assert sum(reference.startswith("data:image/jpeg") for reference in reader.references) > 16
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|<script|url\((?!data:)", text)
    assert page.stat().st_size < 5_000_000


def test_the_page_says_what_it_shows(root: Path, world: World, results: list[Path], tmp_path: Path) -> None:
    words = " ".join(read(write(root, world, results, tmp_path)).words)
    for told in (
        "Deponij: results on made-up",
        "zero-shot",
        "linear probe",
        "chance",
        "majority class",
        SPLIT_REPORT["leakage_summary"],
        "2 items could not be read.",
        str(world.features),
        "w" * 64,
        "decoder died",
        "1 min 15 s",
        "Left out: 2 items of the split without features.",
    ):
        assert str(told) in words


def test_figures_agree_with_the_results(
    root: Path, world: World, results: list[Path], tmp_path: Path
) -> None:
    write(root, world, results, tmp_path)
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [(row["backbone"], row["method"]) for row in rows[2:]] == [
        ("tiny", "zero-shot"),
        ("tiny", "linear probe"),
    ]
    document = json.loads((results[1] / "result.json").read_text())
    assert rows[3]["top1"] == document["parts"]["test"]["top1"]
    assert rows[3]["top1_interval"] == document["parts"]["test"]["top1_interval"]
    markdown = (tmp_path / "results.md").read_text()
    low, high = rows[3]["top1_interval"]
    assert f"| {100 * rows[3]['top1']:.1f} ({100 * low:.1f}–{100 * high:.1f}) |" in markdown
    assert [row.to_json() for group in report.results_table(results) for row in group.rows] == [
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        for row in rows
    ]


def test_same_inputs_same_bytes(root: Path, world: World, results: list[Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(root, world, results, tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["page.html", "results.json", "results.md", "sheet.png"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_sheet_is_a_picture(root: Path, world: World, results: list[Path], tmp_path: Path) -> None:
    write(root, world, results, tmp_path)
    assert Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes())).size[0] > 600


def test_bare_minimum(root: Path, world: World, results: list[Path], tmp_path: Path) -> None:
    changes = {"split_reports": (), "timings": None, "params": ReportParams(n_samples=0, n_confused=0)}
    page = write(root, world, results[:1], tmp_path, **changes)
    assert read(page).open == []
    assert "Time taken" not in page.read_text(encoding="utf-8")


def test_names_from_the_data_cannot_become_markup(tmp_path: Path) -> None:
    ids = [f"<b>i{i}</b>|" for i in range(12)]
    names = ["<script>alert(1)</script>", 'a "quoted" | name', "c&d"]
    labels = [names[i % 3] for i in range(12)]
    write_items(tmp_path / "items", [(ids[i], picture(i), labels[i]) for i in range(12)])
    write_split(tmp_path / "s.parquet", ids, ["train"] * 6 + ["test"] * 6)
    # Test items look like another class, so that all names are among the errors too.
    embedding = vectors([CLASSES[(i + i // 6) % 3] for i in range(12)], 0.1, seed=0)
    write_features(tmp_path / "v.h5", ids, [key_of_bytes(picture(i)) for i in range(12)], embedding)
    paths = {"features": tmp_path / "v.h5", "items": tmp_path / "items"}
    probe.run(ProbeParams(), **paths, split=tmp_path / "s.parquet", labels="label", out=tmp_path / "p")
    page = report.run(
        ReportParams(),
        results=[tmp_path / "p"],
        items=tmp_path / "items",
        views=[tmp_path / "v.h5"],
        profile="<i>x</i>",
        out=tmp_path / "out",
    )
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>i" not in text
    assert "<i>x" not in text
    assert read(page).open == []
    markdown = (tmp_path / "out" / "results.md").read_text()
    assert "<script" not in markdown
    assert 'a "quoted" \\| name' in markdown


def test_missing_inputs_are_told(root: Path, world: World, results: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results to report"):
        write(root, world, [], tmp_path)
    with pytest.raises(StoreError, match=r"no results in .*it has no result\.json"):
        write(root, world, [tmp_path], tmp_path)
    with pytest.raises(StoreError, match="no report of a split at"):
        write(root, world, results, tmp_path, split_reports=[tmp_path / "absent.json"])
    (tmp_path / "odd.json").write_text("[]")
    with pytest.raises(StoreError, match="is no report of a split"):
        write(root, world, results, tmp_path, split_reports=[tmp_path / "odd.json"])
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(StoreError, match="is damaged"):
        report.results_table([tmp_path])


def test_the_stage_imports_nothing_heavy() -> None:
    code = (
        "import sys, stages.report\n"
        "assert not {'torch', 'sklearn', 'pandas', 'matplotlib', 'open_clip'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(report.__file__).parent.parent)
