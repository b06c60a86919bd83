"""`deponij segmentation-table` and `deponij compare` of segmentations: what they print, as words and as JSON."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_world import call, done
from report_world import make_report_world
from resealing import rewrite
from rich.console import Console
from segmentation_world import APPROACHES, Approach, make_results, make_scenes

from deponij.commands.show.segmentation import print_segmentation_tables
from deponij.pipeline.metrics.segmentation import paired
from deponij.pipeline.reports.segmentation.published import published_for
from deponij.pipeline.reports.segmentation.table import segmentation_tables
from deponij.project.frame.layout import Layout
from deponij.project.segmentation.result_files import SEGMENTATION_NAME, read_counts, read_segmentation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    make_results(make_scenes(root / "scenes"), Layout(root))
    return root


@pytest.fixture(scope="module")
def folders(run: Path) -> list[Path]:
    """From the best to the worst."""
    return [Layout(run).segmented(one.method, one.backbone, one.words) for one in reversed(APPROACHES)]


def test_the_table_has_every_approach_in_the_order_of_validation(run: Path, folders: list[Path]) -> None:
    (table,) = done("segmentation-table", run, "--json").json
    assert [row["method"] for row in table["rows"]] == ["swiftnet-160", "linear", "bilinear"]
    assert [row["is_chosen"] for row in table["rows"]] == [True, False, False]
    for row, classes, folder in zip(table["rows"], table["by_class"], folders, strict=True):
        result = read_segmentation(folder)
        assert row["miou"] == result.parts["test"].miou and row["val_miou"] == result.parts["val"].miou
        assert [one["iou"] for one in classes] == [one.iou for one in result.parts["test"].by_class]
    assert table["absent"] == ["boat"] and table["published"] == []


def test_words_and_markdown_say_the_same(run: Path) -> None:
    text, markdown = done("segmentation-table", run).out, done("segmentation-table", run, "--markdown").out
    for said in ("always road", "13,040,000", "no test picture shows boat", "2 min 19 s"):
        assert said in markdown
        assert said in text or said == "2 min 19 s"
    assert "| swiftnet-160 | mini-convnext | names |" in markdown


def test_another_part_and_single_folders(run: Path, folders: list[Path]) -> None:
    (table,) = done("segmentation-table", folders[1], "--part", "val", "--json").json
    assert (table["part"], table["n_pictures"], len(table["rows"])) == ("val", 6, 1)
    assert table["rows"][0]["miou_interval"] is None
    answer = call("segmentation-table", folders[1], "--part", "train")
    assert answer.status == 2 and "there are test, val" in answer.err


@pytest.mark.parametrize("width", [60, 80, 100, 132])
def test_names_stay_whole_on_a_narrow_terminal(run: Path, width: int) -> None:
    results = [(str(one), read_segmentation(one)) for one in Layout(run).segmentations()]
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    print_segmentation_tables(segmentation_tables(results, set()), set(), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "swiftnet-160" in text and "pedestrian" in text
    assert ("too narrow" in text) == (width < 132 or "weights" in text)


def test_published_figures_have_a_column_each(run: Path) -> None:
    """Kombol 2023: a frozen encoder with names has 63.16 on test and 73.90 on train."""
    results = [(str(one), read_segmentation(one)) for one in Layout(run).segmentations()]
    (table,) = segmentation_tables(results, set())
    camvid = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist"
    theirs = tuple(one for one in published_for(camvid.split()) if one.miou_train is not None)
    console = Console(file=io.StringIO(), width=132, force_terminal=True, color_system=None)
    print_segmentation_tables([table.model_copy(update={"published": theirs})], set(), console=console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "mIoU train" in text and "73.9" in text and "63.2" in text


def renamed(folder: Path, to: Path, names: list[str]) -> Path:
    """The same results of classes that are called otherwise."""
    shutil.copytree(folder, to)

    def change(record: dict) -> dict:  # type: ignore[type-arg]
        record["classes"] = names
        for part in record["parts"].values():
            part["absent"] = []
            for one, name in zip(part["by_class"], names, strict=True):
                one["name"] = name
        return record

    rewrite(to / SEGMENTATION_NAME, change)
    return to


def test_two_are_compared_picture_by_picture(run: Path, folders: list[Path]) -> None:
    """Expected: `paired` on the counts of the folders."""
    best, middle, _ = folders
    found = done("compare", middle, best, "--json").json
    a, b = (read_counts(folder)[1].of("test") for folder in (middle, best))
    expected = paired(a.confusions, b.confusions, a.groups)
    assert found["miou"] == expected.miou.model_dump(mode="json") and found["is_more_than_chance"]
    assert found["miou"]["interval"] == pytest.approx(expected.miou.interval)
    assert {one["name"]: one["difference"] for one in found["classes"]} == {
        read_segmentation(best).classes[one.place]: one.difference for one in expected.classes
    }
    text = done("compare", middle, best).out
    assert (
        "B beats A by" in text and "points of mIoU" in text and "classes where A gains or loses most" in text
    )
    again = done("compare", best, best).out
    assert "A and B have the same mIoU." in again


def test_what_cannot_be_compared_says_why(tmp_path: Path, run: Path, folders: list[Path]) -> None:
    names = [f"other {number}" for number in range(len(read_segmentation(folders[0]).classes))]
    other = renamed(folders[1], tmp_path / "other", names)
    answer = call("compare", folders[0], other)
    assert answer.status == 1 and "their classes are sky, building" in answer.err
    few = make_results(make_scenes(tmp_path / "few", {"val": 2, "test": 3}), Layout(tmp_path / "fewer"))
    answer = call("compare", folders[0], few[0])
    assert answer.status == 1 and "are only in the first" in answer.err
    answer = call("compare", folders[0], run)
    assert answer.status == 2 and "name two folders of segmentations" in answer.err


def test_of_a_run_without_any_it_says_what_makes_some(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    answer = call("segmentation-table", "--run", tmp_path)
    assert answer.status == 2 and "dvc repro decoders" in answer.err


def test_nothing_is_chosen_where_validation_was_learned_from(tmp_path: Path) -> None:
    scenes = make_scenes(tmp_path / "scenes")
    best, worse = Approach("a", "a", "names", 0.6, 5), Approach("b", "b", "names", 0.9, 5)
    folders = make_results(scenes, Layout(tmp_path), [best, worse])
    for folder in folders:
        rewrite(folder / SEGMENTATION_NAME, lambda record: {**record, "learned_from": ["train", "val"]})
    (table,) = done("segmentation-table", tmp_path, "--json").json
    assert [row["is_chosen"] for row in table["rows"]] == [False, False]
    mious = [row["miou"] for row in table["rows"]]
    assert mious == sorted(mious, reverse=True) and np.isfinite(mious).all()
    assert "flatters the first" in done("segmentation-table", tmp_path).out


def test_results_of_a_run_show_its_segmentation_too(tmp_path: Path) -> None:
    make_report_world(tmp_path)
    make_results(make_scenes(tmp_path / "scenes"), Layout(tmp_path))
    (table,) = done("results", tmp_path, "--json").json["segmentation"]
    assert [row["method"] for row in table["rows"]] == ["swiftnet-160", "linear", "bilinear"]
    text = done("results", tmp_path).out
    assert "6 classes, test part, percent of 24 pictures" in text and "IoU of each class" not in text
