"""A data set in, a table of items out."""

import io
import os
from pathlib import Path

import cli_world
import pytest
from PIL import Image

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


def _as_file(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir()}


def test_a_part_for_a_try_out_has_every_class_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    result = stage.run("folder", {"folder": folder}, out=tmp_path / "part", run_options=OPTIONS, limit=6)
    items = Items(tmp_path / "part")
    assert (result.n_items, len(items)) == (6, 6)
    assert sorted(items.column("label")) == sorted([*cli_world.COLOURS] * 2)
    assert any("only a part, as asked (limit): 6 of" in note for note in result.notes)
    assert "only a part" in " ".join(capsys.readouterr().err.split())


def test_items_that_name_their_pictures_are_the_same_items(tmp_path: Path) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    for name, how in (("held", "always"), ("named", "never"), ("again", "never")):
        stage.run("folder", {"folder": folder}, out=tmp_path / name, run_options=OPTIONS, copy_pictures=how)  # type: ignore[arg-type]
    held, named = Items(tmp_path / "held"), Items(tmp_path / "named")
    assert (held.by_reference, named.by_reference) == (False, True)
    assert held.table() == named.table()
    rows = [row for row, key in enumerate(held.keys) if key is not None]
    assert list(held.contents(rows)) == list(named.contents(rows))
    assert _as_file(tmp_path / "named") == _as_file(tmp_path / "again")


def test_files_that_are_known_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    # As if two seconds had passed.
    monkeypatch.setattr("deponij.pipeline.data.known_files.RACY_NS", 0)

    def read(out: str) -> list[str]:
        seen: list[str] = []
        plain = Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            if path.suffix == ".png":
                seen.append(path.relative_to(folder).as_posix())
            return plain(path)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", read_bytes)
            stage.run(
                "folder",
                {"folder": folder},
                out=tmp_path / out,
                run_options=OPTIONS,
                copy_pictures="never",
            )
        return seen

    assert len(read("first")) == 3 * cli_world.N_PER_CLASS + 1
    # What failed is tried anew.
    assert read("second") == [cli_world.TRUNCATED]
    twin = (folder / "can" / "01.png").read_bytes()
    (folder / "can" / "00.png").write_bytes(twin)
    (folder / "can" / "new.png").write_bytes(twin)
    assert sorted(read("third")) == sorted(["can/00.png", "can/new.png", cli_world.TRUNCATED])
    third = Items(tmp_path / "third")
    assert third.content("can/00.png") == third.content("can/new.png") == twin
    assert third.keys[third.places["can/00.png"]] == third.keys[third.places["can/01.png"]]


def test_a_file_that_is_written_right_after_it_was_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known is of the bytes that were read, not of those that came in their place."""
    path = tmp_path / "pictures" / "can" / "0.bmp"
    path.parent.mkdir(parents=True)
    first, second = (_bmp(grey) for grey in (10, 200))
    assert len(first) == len(second)
    path.write_bytes(first)
    os.utime(path, (0, 0))
    monkeypatch.setattr("deponij.pipeline.data.known_files.RACY_NS", 0)
    plain = Path.read_bytes

    def read_bytes(read: Path) -> bytes:
        content = plain(read)
        if read.suffix == ".bmp":
            read.write_bytes(second)
        return content

    options = {"folder": tmp_path / "pictures"}
    for name in ("before", "after"):
        with monkeypatch.context() as patch:
            if name == "before":
                patch.setattr(Path, "read_bytes", read_bytes)
            stage.run("folder", options, out=tmp_path / name, run_options=OPTIONS, copy_pictures="never")
    assert Items(tmp_path / "after").content("can/0.bmp") == second


def _bmp(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (9, 9), grey).save(file, "BMP")
    return file.getvalue()


def test_pictures_are_named_past_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    total = sum(one.stat().st_size for one in folder.rglob("*.png"))
    for limit_bytes, is_named in ((total, False), (total - 1, True)):
        monkeypatch.setattr(stage, "COPIED_BYTES", limit_bytes)
        stage.run("folder", {"folder": folder}, out=tmp_path / "items", run_options=OPTIONS)
        assert Items(tmp_path / "items").by_reference == is_named


def test_crops_are_never_named(tmp_path: Path) -> None:
    annotations = cli_world.coco(tmp_path / "coco")
    options = {"annotations": annotations, "images": annotations.parent / "images"}
    with pytest.raises(UsageError, match="can only be named instead of copied where whole ones lie as files"):
        stage.run("coco", options, out=tmp_path / "x", run_options=OPTIONS, copy_pictures="never")
    whole = {**options, "whole": True}
    stage.run("coco", whole, out=tmp_path / "whole", run_options=OPTIONS, copy_pictures="never")
    assert Items(tmp_path / "whole").by_reference


def test_a_cache_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    stage.run("folder", {"folder": folder}, out=tmp_path / "items", run_options=OPTIONS)
    assert "is not remembered, so that they are read again" in " ".join(capsys.readouterr().err.split())
