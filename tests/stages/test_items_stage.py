"""A data set in, a table of items out."""

from pathlib import Path

import cli_world
import pytest

from deponij.project.frame.settings import RunOptions
from deponij.stages import items as stage
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.items import Items

OPTIONS = RunOptions(workers=2)


def test_class_folders(tmp_path: Path) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    (folder / "can" / "twin.png").write_bytes((folder / "can" / "00.png").read_bytes())
    (folder / "notes.txt").write_text("not a picture")
    result = stage.run("folder", {"folder": folder}, out=tmp_path / "items", run_options=OPTIONS)
    n_sound = 3 * cli_world.N_PER_CLASS
    assert (result.n_items, result.n_distinct, result.n_failed) == (n_sound + 2, n_sound, 1)
    assert result.n_photographs == n_sound + 2
    assert any("notes" in note or "not pictures" in note for note in result.notes)
    table = Items(tmp_path / "items")
    assert [item_id for item_id, _ in table.failures] == [cli_world.TRUNCATED]
    assert table.content("can/twin.png") == (folder / "can" / "00.png").read_bytes()
    assert stage.summary(result).startswith(f"{n_sound + 2} items ({n_sound} distinct)")


def test_a_class_that_would_vanish_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    (folder / "bird").mkdir()
    for number in range(3):
        (folder / "bird" / f"{number}.xyz").write_bytes(b"no picture")
    result = stage.run("folder", {"folder": folder}, out=tmp_path / "items", run_options=OPTIONS)
    assert "bird" in dict(Items(tmp_path / "items").failures)
    assert result.n_failed == len(Items(tmp_path / "items").failures)
    told = " ".join(capsys.readouterr().err.split())
    assert "warning: folders without any picture, which are no classes: 1: 'bird' (.xyz: 3)" in told


def test_coco_crops_in_variants_side_by_side(tmp_path: Path) -> None:
    annotations = cli_world.coco(tmp_path / "coco")
    options = {"annotations": annotations, "images": annotations.parent / "images"}
    tight = stage.run("coco", options, out=tmp_path / "tight", run_options=OPTIONS)
    wide = stage.run("coco", options | {"crop": {"margin": 0.2}}, out=tmp_path / "wide", run_options=OPTIONS)
    assert (tight.n_items, tight.n_photographs) == (wide.n_items, wide.n_photographs) == (4, 2)
    one, other = Items(tmp_path / "tight"), Items(tmp_path / "wide")
    assert one.ids == other.ids
    assert set(one.keys).isdisjoint(other.keys)
    assert other.column("width_px")[0] > one.column("width_px")[0]


def test_equal_data_give_equal_bytes_whatever_the_workers(tmp_path: Path) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    for n_workers in (1, 3):
        out = tmp_path / f"items{n_workers}"
        stage.run("folder", {"folder": folder}, out=out, run_options=RunOptions(workers=n_workers))
    files = [{p.name: p.read_bytes() for p in (tmp_path / f"items{n}").iterdir()} for n in (1, 3)]
    assert files[0] == files[1]


def test_a_data_set_that_fails_leaves_the_earlier_items(tmp_path: Path) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    stage.run("folder", {"folder": folder}, out=tmp_path / "items", run_options=OPTIONS)
    before = {p: p.read_bytes() for p in (tmp_path / "items").iterdir()}
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "x.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match="not one of 1 items could be made; the first reason: .*HTML"):
        stage.run("folder", {"folder": tmp_path / "bad"}, out=tmp_path / "items", run_options=OPTIONS)
    assert {p: p.read_bytes() for p in (tmp_path / "items").iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "items", "pictures"]


def test_refusals(tmp_path: Path) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    with pytest.raises(UsageError, match="Did you mean 'folder'"):
        stage.run("folders", {"folder": folder}, out=tmp_path / "items", run_options=OPTIONS)
    with pytest.raises(UsageError, match="fodler"):
        stage.run("folder", {"fodler": folder}, out=tmp_path / "items", run_options=OPTIONS)
    with pytest.raises(StoreError, match="other files"):
        stage.run("folder", {"folder": folder}, out=folder, run_options=OPTIONS)
    assert (folder / "can" / "00.png").is_file()
