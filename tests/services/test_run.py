"""`deponij run`: somebody's own pictures through every stage."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import cli_world
import fake_backbone
import pytest

from deponij.commands.show.results import print_results
from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.heads.knn import NearestNeighbours
from deponij.pipeline.metrics.retrieval import RETRIEVAL
from deponij.project.data_sets import SourceChoice, source_of
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.indexes import Index
from deponij.services import run as service
from deponij.services.predict.chosen_model import ModelRequest, best_model
from deponij.services.run import Plan
from deponij.stages.registry import STAGES, is_current
from deponij.store.depot import FeatureStore
from deponij.store.errors import BackboneError, DataError, UsageError
from deponij.store.view import View


@pytest.fixture(autouse=True, scope="module")
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(fake_backbone.make(tmp_path / "model"))


def run(tmp_path: Path, source: SourceChoice, *backbones: str, **plan: Any) -> dict[str, Any]:
    options = RunOptions(depot=str(tmp_path / "depot"), device="cpu", threads=1, workers=2)
    made = Plan(source=source, backbones=backbones, **plan)
    return service.run(made, out=tmp_path / "out", options=options)


def shown(result: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Every backbone that something was learned from, alone or joined, with split and labels."""
    rows = [row for row in result["results"] if not row["is_baseline"]]
    return {(one, row["split"], row["labels"]) for row in rows for one in row["backbone"].split("+")}


def tasks_of(at: Layout, backbone: str) -> set[str]:
    return {one.task for one in RETRIEVAL.load(at.retrieval(backbone).read_bytes(), backbone)}


def test_class_folders_and_a_second_run_with_other_backbones(tmp_path: Path, model: str) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    mute = str(fake_backbone.make(tmp_path / "wordless", has_text=False))
    source = source_of(folder=folder, coco=None, images=None, parquet=None)
    first = run(tmp_path, source, model, mute)
    # So few pictures are cross-validated.
    assert shown(first) == {("model", "folds", "label"), ("wordless", "folds", "label")}
    assert first["n_failed"] == 1
    page = Path(first["page"]).read_text()
    assert "wordless" in page
    assert cli_world.TRUNCATED in page
    assert Path(first["sheet"]).is_file()
    n_rows = sum(len(sidecar.keys) for sidecar in FeatureStore(tmp_path / "depot").sidecars)
    at = Layout(Path(first["root"]))
    assert {len(Index.open(at.index(name))) for name in ("model", "wordless")} == {
        len(View(at.view("model")))
    }
    asked = {name: tasks_of(at, name) for name in ("model", "wordless")}
    assert asked == {
        "model": {"image-to-image", "text-to-image", "image-to-text"},
        "wordless": {"image-to-image"},
    }
    assert [path.stem for path in at.texts("model").parent.iterdir()] == ["model"]
    second = run(tmp_path, source, model)
    assert shown(second) == {("model", "folds", "label")}
    assert [index.name for index in at.indexes.iterdir()] == ["model"]
    assert [view["backbone"] for view in second["views"]] == ["model"]
    assert "wordless" not in Path(second["page"]).read_text()
    assert sum(len(sidecar.keys) for sidecar in FeatureStore(tmp_path / "depot").sidecars) == n_rows
    # No classes were named to answer with, no column of several labels, and no label maps.
    idle = {"classes", "label_sets", "scenes", "dense"}
    took = {stage.name for stage in STAGES if stage.over is None and not idle & stage.needs}
    took |= {"extract@model"}
    assert took <= set(second["seconds"])
    assert "extract@wordless" in first["seconds"]
    assert "Words find pictures" in page
    # Looked at again, without times of a stage that an earlier version had.
    (at.timings / "lookups.json").write_text('{"stage": "lookups", "seconds": 9.0}')
    again = service.results(at.root)
    assert again["results"] == second["results"]
    assert again["seconds"] == second["seconds"]
    assert cli_world.done("results", at.root, "--all", "--json").json == json.loads(json.dumps(again))
    with pytest.raises(UsageError, match="no folder of a run: there is no .*items"):
        service.results(tmp_path)


def test_times_are_of_stages_and_backbones_that_there_are() -> None:
    labels = ("items", "lookups", "extract@a", "extract@b", "prepare@sample", "a")
    assert [label for label in labels if is_current(label, ["a"])] == ["items", "extract@a", "prepare@sample"]
    assert is_current("extract@b", None)


def test_few_pictures_are_all_tested_once_and_the_head_that_is_kept_knows_all(
    tmp_path: Path, model: str
) -> None:
    source = source_of(folder=cli_world.class_folders(tmp_path / "pictures"))
    result = run(tmp_path, source, model)
    n_sound = 3 * cli_world.N_PER_CLASS
    rows = [row for row in result["results"] if not row["is_baseline"]]
    assert {(row["part"], row["n"], row["n_folds"]) for row in rows} == {("test", n_sound, 10)}
    first = next(row for row in rows if row["is_chosen"])
    assert first["top1"] == max(row["top1"] for row in rows)
    assert first["n_candidates"] == len(rows)
    assert first["fair_top1"] <= first["top1"]
    print_results(result)
    at = Layout(tmp_path / "out")
    (kept,) = (folder for folder in at.results(["model"]) if folder.parent.parent.name == "knn")
    assert len(NearestNeighbours.load(kept).codes_) == n_sound
    chosen = best_model(at, ModelRequest(), [])
    assert "best out-of-fold top-1" in chosen.why
    # With shares, or where it is asked for, there is one split.
    shares = run(tmp_path, source, model, fractions=(0.6, 0.2, 0.2))
    assert shown(shares) == {("model", "random", "label")}
    with pytest.raises(UsageError, match="--folds goes with --split folds, not with random"):
        run(tmp_path, source, model, strategy="random", n_folds=5)


def test_coco_is_split_by_photograph(tmp_path: Path, model: str) -> None:
    from deponij.sample.painter import generate

    generate(tmp_path / "coco", scenes=8, seed=2)
    annotations, images = tmp_path / "coco" / "annotations.json", tmp_path / "coco" / "images"
    source = source_of(folder=None, coco=annotations, images=images, parquet=None)
    result = run(tmp_path, source, model, labels=("category", "supercategory"), fractions=(0.8, 0.1, 0.1))
    assert shown(result) == {("model", "group", "category"), ("model", "group", "supercategory")}


@pytest.mark.parametrize("last", ["test", "val"])
def test_a_split_that_the_data_bring_is_kept(tmp_path: Path, model: str, last: str) -> None:
    """Where it brings train and val alone, val is what results are read from, and what is chosen on is of train."""
    folder = cli_world.class_folders(tmp_path / "all")
    for part, numbers in (("train", range(8)), (last, range(8, cli_world.N_PER_CLASS))):
        for name in cli_world.COLOURS:
            (tmp_path / "parts" / part / name).mkdir(parents=True)
            for number in numbers:
                shutil.copy(folder / name / f"{number:02}.png", tmp_path / "parts" / part / name)
    source = source_of(folder=tmp_path / "parts", coco=None, images=None, parquet=None)
    result = run(tmp_path, source, model)
    assert shown(result) == {("model", "given", "label")}
    report = json.loads((tmp_path / "out" / "splits" / "given.json").read_text())
    assert report["n"]["test"] == 3 * (cli_world.N_PER_CLASS - 8)
    assert report["n"]["val"] > 0
    assert {row["part"] for row in result["results"]} == {"test"}


def test_backbones_of_one_name_keep_apart(tmp_path: Path) -> None:
    one = str(fake_backbone.make(tmp_path / "a" / "model", seed=1))
    other = str(fake_backbone.make(tmp_path / "b" / "model", seed=2))
    folder = cli_world.class_folders(tmp_path / "pictures")
    result = run(tmp_path, SourceChoice("folder", {"folder": folder}), one, other)
    assert {view["backbone"] for view in result["views"]} == {"model", "model~2"}
    assert len({view["fingerprint"] for view in result["views"]}) == 2


@pytest.mark.parametrize(
    ("folder", "name"), [("_mine", "mine"), (".cache", "cache"), ("größe", "gr--e"), ("..", "backbone")]
)
def test_backbone_folders_of_any_name_get_a_name_for_files(folder: str, name: str) -> None:
    assert service._slugs([f"models/{folder}"]) == {f"models/{folder}": name}
    assert list(service._slugs([f"a/{folder}", f"b/{folder}"]).values()) == [name, f"{name}~2"]


def test_wrong_requests_cost_nothing_that_is_there(tmp_path: Path, model: str) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    source = SourceChoice("folder", {"folder": folder})
    page = Path(run(tmp_path, source, model)["page"])
    with pytest.raises(DataError, match="does not exist"):
        run(tmp_path, SourceChoice("folder", {"folder": tmp_path / "typo"}), model)
    with pytest.raises(UsageError, match="unknown backbone"):
        run(tmp_path, source, "mini-openclp")
    with pytest.raises(BackboneError, match="not on this machine"):
        run(tmp_path, source, "dinov2-giant")
    assert page.is_file()


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_run_that_cannot_begin_leaves_the_earlier_one_whole(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    source = SourceChoice("folder", {"folder": folder})
    run(tmp_path, source, model)
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match="brings no split"):
        run(tmp_path, source, model, strategy="given")
    assert contents(tmp_path / "out") == before
    with pytest.raises(UsageError, match=r"no values in a column 'given'.* label"):
        run(tmp_path, source, model, labels=("label", "given"))
    with (
        monkeypatch.context() as patch,
        pytest.raises(UsageError, match=r"no column 'lable'; .* name label$"),
    ):
        # Said before a single picture is opened.
        patch.setattr("deponij.stages.items.main", None)
        run(tmp_path, source, model, labels=("label", "lable"))
    assert contents(tmp_path / "out") == before
    assert not list((tmp_path / "out").glob("*.part"))


def test_what_a_killed_run_left_is_taken_over(tmp_path: Path, model: str) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    source, out = SourceChoice("folder", {"folder": folder}), tmp_path / "out"
    (out / "next-run.part" / "items.part").mkdir(parents=True)
    run(tmp_path, source, model, strategy="group")
    # Between the two renames that put the new items in the place of the old ones.
    (out / "next-run.part").mkdir()
    (out / "items").rename(out / "next-run.part" / "items")
    again = run(tmp_path, source, model, strategy="random")
    assert shown(again) == {("model", "random", "label")}
    assert {path.stem for path in (out / "splits").iterdir()} == {"random"}
    assert not list(out.glob("*.part"))
    (out / "items" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"items holds other things.*notes\.txt"):
        run(tmp_path, source, model)


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path, model: str) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    mine = tmp_path / "out" / "results" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(UsageError, match="holds other things.*results"):
        run(tmp_path, SourceChoice("folder", {"folder": folder}), model)
    assert mine.read_text() == "years of work"


def test_what_very_few_pictures_do_not_allow_is_told_and_the_rest_is_made(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (name, colour) in enumerate(cli_world.COLOURS.items()):
        (tmp_path / "few" / name).mkdir(parents=True)
        cli_world.picture(colour, number).save(tmp_path / "few" / name / "a.png")
    result = run(tmp_path, SourceChoice("folder", {"folder": tmp_path / "few"}), model)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: no ")]
    assert [line.split(":")[1] for line in told] == [" no curves", " no mistakes", " no tables"]
    page = Path(result["page"]).read_text()
    assert "Map of the embeddings" in page
    assert "There is no test part" in page
    assert "There is no validation part to choose by, so that none is called the best" in page
    assert not any(row["is_chosen"] for row in result["results"])
    # A bad page of a table over training items would pass for one over test items.
    print_results(result)
    assert "train items, from which the classifiers learned" in capsys.readouterr().out


def test_one_data_set_must_be_named() -> None:
    a, b = Path("a"), Path("b")
    for wrong, said in (
        ({}, "name one data set: .* got none"),
        ({"folder": a, "coco": b}, "name one data set: .* got --folder and --coco"),
        ({"images": b}, "name one data set"),
        ({"coco": b}, "--images DIR go together"),
        ({"folder": a, "images": b}, "--images is for a COCO file or a table"),
        ({"yolo": a, "boxes": "xyxy"}, "--boxes is for a COCO file"),
        ({"table": a, "keep_crowds": True}, "--keep-crowds is for annotated instances"),
        ({"parquet": [a], "links_into": [b]}, "--links-into is for pictures in folders"),
    ):
        with pytest.raises(UsageError, match=said):
            source_of(**cast(dict[str, Any], wrong))
    assert source_of(parquet=[a]) == SourceChoice("parquet", {"files": (a,)})
    assert source_of(table=a, images=b) == SourceChoice("listed", {"table": a, "images": b})
    assert source_of(yolo=a) == SourceChoice("yolo", {"data": a})
    crowds = source_of(voc=a, keep_crowds=True, treat={"x": "skip"})
    assert crowds == SourceChoice("voc", {"folder": a, "crop": {"keep_crowds": True}, "treat": {"x": "skip"}})


def test_a_column_of_paths_is_named_for_a_table_alone(tmp_path: Path) -> None:
    table = tmp_path / "bilder.csv"
    cli_world.picture(next(iter(cli_world.COLOURS.values())), 0).save(tmp_path / "ä 1.png")
    table.write_text("Datei;Klasse\nä 1.png;rot\n", encoding="utf-16")
    with pytest.raises(DataError, match="name one with --path-column"):
        open_source("listed", source_of(table=table).options)
    source = open_source("listed", source_of(table=table, path_column="Datei").options)
    assert [(item.item_id, item.failure, item.metadata["Klasse"]) for item in source.items()] == [
        ("ä 1.png", None, "rot")
    ]
    with pytest.raises(UsageError, match="--path-column is for a table of paths"):
        source_of(folder=tmp_path, path_column="Datei")


def test_a_run_that_has_not_finished_names_no_page(tmp_path: Path, model: str) -> None:
    result = run(tmp_path, source_of(folder=cli_world.class_folders(tmp_path / "pictures")), model)
    Path(result["page"]).unlink()
    assert service.results(Path(result["root"]))["page"] is None
    assert "the run has not finished" in cli_world.done("results", result["root"]).out
