"""Pictures with label maps in, a folder of scenes out, by the stage and by the command."""

from pathlib import Path

import numpy as np
import pytest
import scenes_made
import yaml
from cli_world import call, done
from scenes_made import N_CLASSES, numbers, picture, png, put

from deponij.pipeline.data.splitting.strategies import SplitParams
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, load
from deponij.stages import scenes as stage
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.scenes import Scenes

OPTIONS = RunOptions(workers=2)
# Of CamVid's test part, the published copy at 360 x 480: percent of what is not void, and of void (docs: protocols).
CAMVID_TEST = (17.75, 25.59, 1.22, 26.84, 9.64, 11.70, 1.05, 1.23, 4.13, 0.66, 0.20)


def street(root: Path) -> dict[str, object]:
    return scenes_made.segnet(root)


def folders(root: Path, n: int = 12) -> dict[str, object]:
    """Pictures in no part, of three classes."""
    for k in range(n):
        put(root / "images" / f"{k}.jpg", picture(k))
        put(root / "labels" / f"{k}.png", png(numbers(k)))
    return {"folder": root, "classes": [{"name": name} for name in "abc"], "void": [255]}


def test_given_parts_shares_and_failures(tmp_path: Path) -> None:
    result = stage.run("label-maps", street(tmp_path / "data"), out=tmp_path / "scenes", run_options=OPTIONS)
    assert result.n == {"train": 2, "val": 1, "test": 1, "outside": 0}
    assert (result.n_failed, list(result.failures), result.n_groups) == (1, ["train/0016E5_000060.jpg"], 4)
    # Of the only test picture by hand: it was drawn with seed 4.
    counts = np.bincount(numbers(4).ravel(), minlength=256)
    said = [one.shares["test"] for one in result.classes]
    assert said == pytest.approx([*(counts[:N_CLASSES] / counts[:N_CLASSES].sum()), *[0] * 8])
    assert result.void["test"] == pytest.approx(counts[255] / counts.sum())
    scenes = Scenes(tmp_path / "scenes")
    assert scenes.ids("val") == ["val/0006R0_f01.jpg"]
    assert scenes.group_of("train/0016E5_000090.jpg") == "0016E5"
    assert scenes.items.column("label_file")[0] == "testannot/Seq05VD_f02.png"
    assert scenes.classes[6].spoken == "sign symbol" and "traffic" in scenes.classes[6].description
    assert stage.summary(result).startswith("4 scenes of 11 classes: train 2, val 1, test 1; 1 left out")


def test_camvid(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "camvid"
    if not folder.is_dir():
        pytest.skip(f"no CamVid at {folder}; set DEPONIJ_SHARED to run this test")
    result = stage.run("label-maps", {"folder": folder}, out=tmp_path / "scenes", run_options=OPTIONS)
    assert result.n == {"train": 367, "val": 101, "test": 233, "outside": 0}
    assert result.n_failed == 0
    shares = [round(100 * (one.shares["test"] or 0), 2) for one in result.classes]
    assert shares == pytest.approx(CAMVID_TEST, abs=0.006)
    assert round(100 * (result.void["test"] or 0), 2) == 3.83


@pytest.mark.parametrize("strategy", ["random", "group"])
def test_pictures_in_no_part_are_divided(tmp_path: Path, strategy: str) -> None:
    split = SplitParams(strategy=strategy, group_by=stage.GROUP, fractions=(0.5, 0.25, 0.25))
    result = stage.run(
        "label-maps", folders(tmp_path / "data"), out=tmp_path / "s", run_options=OPTIONS, split=split
    )
    assert result.n == {"train": 6, "val": 3, "test": 3, "outside": 0}


def test_by_default_what_is_given_else_groups(tmp_path: Path) -> None:
    result = stage.run("label-maps", folders(tmp_path / "data"), out=tmp_path / "s", run_options=OPTIONS)
    assert any("brings no split" in note for note in result.notes)
    assert sum(result.n.values()) == 12 and min(result.n[part] for part in ("train", "val", "test")) > 0


def test_groups_stay_together(tmp_path: Path) -> None:
    for k in range(20):
        name = f"{('0001TP', '0006R0', '0016E5', 'Seq05VD')[k % 4]}_f{k:05}"
        put(tmp_path / "d" / "images" / f"{name}.jpg", picture(k))
        put(tmp_path / "d" / "labels" / f"{name}.png", png(np.where(numbers(k) == 255, 11, numbers(k))))
    split = SplitParams(strategy="group", group_by=stage.GROUP, fractions=(0.5, 0.25, 0.25))
    stage.run("label-maps", {"folder": tmp_path / "d"}, out=tmp_path / "s", run_options=OPTIONS, split=split)
    scenes = Scenes(tmp_path / "s")
    parts = {scenes.group_of(one): set() for one in scenes.parts}
    for one, part in scenes.parts.items():
        parts[scenes.group_of(one)].add(part)
    assert len(parts) == 4 and all(len(found) == 1 for found in parts.values())


def test_equal_data_give_equal_bytes_whatever_the_workers(tmp_path: Path) -> None:
    options = street(tmp_path / "data")
    found = []
    for n_workers in (1, 3):
        out = tmp_path / f"s{n_workers}"
        stage.run("label-maps", options, out=out, run_options=RunOptions(workers=n_workers))
        found.append({path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert found[0] == found[1] and len(found[0]) == 5


def test_not_one_picture_and_splits_that_cannot_be(tmp_path: Path) -> None:
    options = folders(tmp_path / "data")
    with pytest.raises(DataError, match="not one of 12 pictures.*the first reason: .*does not name"):
        wrong = {**options, "classes": [{"name": "a", "ids": [9]}]}
        stage.run("label-maps", wrong, out=tmp_path / "s", run_options=OPTIONS)
    assert not (tmp_path / "s").exists()
    with pytest.raises(DataError, match="brings no split"):
        stage.run(
            "label-maps",
            options,
            out=tmp_path / "s",
            run_options=OPTIONS,
            split=SplitParams(strategy="given"),
        )
    with pytest.raises(UsageError, match="folds"):
        folds = SplitParams(strategy="folds", group_by=stage.GROUP, n_folds=3)
        stage.run("label-maps", options, out=tmp_path / "s", run_options=OPTIONS, split=folds)


def test_an_empty_section_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("{}", "{scenes: {}}", "{scenes: {root: data}}"):
        Path("params.yaml").write_text(text)
        assert load(stage.Params).scenes is None
    Path("params.yaml").write_text("{scenes: {adapter: label-maps}}")
    with pytest.raises(UsageError, match="root"):
        load(stage.Params)


def test_the_stage_by_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    street(tmp_path / "data")
    section = {"adapter": "label-maps", "root": "data", "options": {"folder": "data"}}
    Path("params.yaml").write_text(yaml.safe_dump({"scenes": section}))
    at = Layout.of("x")
    stage.main(load(stage.Params), at, OPTIONS)
    assert Scenes(at.scenes).ids("train") == ["train/0001TP_000030.jpg", "train/0016E5_000090.jpg"]
    assert '"n_train": 2' in at.metrics("scenes").read_text()


def test_the_command(tmp_path: Path) -> None:
    street(tmp_path / "data")
    answer = call("scenes", "--folder", tmp_path / "data", "--out", tmp_path / "s")
    assert answer.status == 3
    for said in (
        "4 scenes: train 2, val 1, test 1",
        "sign symbol",
        "void, of all pixels",
        "left out: train/0016E5_000060.jpg",
    ):
        assert said in " ".join(answer.out.split()), answer.out
    scenes_made.coco(tmp_path / "coco")
    flags = [
        "--coco",
        tmp_path / "coco" / "annotations.json",
        "--images",
        tmp_path / "coco",
        "--out",
        tmp_path / "c",
    ]
    answer = call("scenes", *flags, "--classes", "*=litter", "--background", "", "--json")
    assert answer.status == 3 and [one["name"] for one in answer.json["classes"]] == ["litter"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            [],
            "name one data set: --folder DIR, --images DIR --label-maps DIR, or --coco FILE --images DIR; got none",
        ),
        (["--folder", ".", "--coco", "x.json"], "got --folder and --coco"),
        (["--coco", "x.json"], "--images goes with --coco or --label-maps"),
        (["--folder", ".", "--images", "x"], "--images goes with --coco or --label-maps"),
        (["--folder", ".", "--group", "("], "no regular expression"),
        (["--folder", ".", "--treat", "a=skip"], "--treat is for a COCO file"),
        (["--coco", "x.json", "--images", ".", "--void", "3"], "--void is for a folder of label maps"),
        (["--folder", ".", "--void", "x"], "--void is numbers such as 0,255"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path: Path, flags: list[str], said: str) -> None:
    answer = call("scenes", "--out", tmp_path / "s", *flags)
    assert answer.status == 2 and said in " ".join(answer.err.split())


def test_two_folders_anywhere_and_groups_by_name(tmp_path: Path) -> None:
    for k in range(6):
        put(tmp_path / "one" / "photos" / f"film{k % 3}_{k}.jpg", picture(k))
        put(tmp_path / "truth" / f"film{k % 3}_{k}.png", png(numbers(k)))
    flags = ["--images", tmp_path / "one" / "photos", "--label-maps", tmp_path / "truth", "--void", "255"]
    answer = call(
        "scenes",
        *flags,
        "--classes",
        _table(tmp_path),
        "--group",
        "([^/]+)_",
        "--out",
        tmp_path / "s",
        "--json",
    )
    assert answer.status == 0, answer.err
    assert answer.json["n_groups"] == 3
    scenes = Scenes(tmp_path / "s")
    assert scenes.group_of("one/photos/film0_3.jpg") == "film0"
    assert np.array_equal(scenes.label_map("one/photos/film0_3.jpg"), numbers(3))


def test_items_and_scenes_are_told_apart(tmp_path: Path) -> None:
    done(
        "scenes",
        "--folder",
        folders(tmp_path / "d")["folder"],
        "--classes",
        _table(tmp_path),
        "--void",
        "255",
        "--out",
        tmp_path / "s",
    )
    with pytest.raises(StoreError, match="there are no scenes at"):
        Scenes(tmp_path / "s" / "items")


def _table(folder: Path) -> Path:
    path = folder / "classes.csv"
    path.write_text("name\na\nb\nc\n")
    return path
