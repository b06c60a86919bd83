"""Items that name their pictures' files: what they give back, what they refuse, and what everybody's tools see."""

import io
from pathlib import Path

import pyarrow as pa
import pytest
from depot_world import keys_of
from PIL import Image

from deponij.store.errors import StoreError
from deponij.store.items import Items, ItemWriter
from deponij.store.references import COLUMN, FileReference, digest_of, home_of, named
from deponij.store.upkeep.forgetting import drop_items

SCHEMA = pa.schema([("label", pa.string())])


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def reference_to(file: Path, content: bytes, items: Path) -> FileReference:
    return FileReference(named(file, home_of(items)), len(content), digest_of(content))


def write(root: Path, n_items: int = 4) -> Path:
    """Items in `root/items` of pictures in `root/pictures`; the second holds its picture, the last failed."""
    (root / "pictures").mkdir(parents=True)
    with ItemWriter(root / "items", SCHEMA, by_reference=True) as writer:
        for number in range(n_items):
            file = root / "pictures" / f"{number}.png"
            file.write_bytes(picture(number))
            held = number == 1
            writer.add(
                content=picture(number) if held else None,
                reference=None if held else reference_to(file, picture(number), root / "items"),
                item_id=file.name,
                key=keys_of([number])[0],
                image_id=file.name,
                metadata={"label": "can"},
            )
        writer.add(content=None, item_id="broken.png", failure="cut off", metadata={})
    return root / "items"


def test_named_and_held_pictures_are_given_back(tmp_path: Path) -> None:
    items = Items(write(tmp_path))
    assert items.by_reference
    assert list(items.contents(range(4))) == [(number, picture(number)) for number in range(4)]
    assert items.content("3.png") == picture(3)
    assert items.metadata_schema == SCHEMA
    assert COLUMN not in items.column_names
    with pytest.raises(StoreError, match="has no picture; it failed"):
        list(items.contents([4]))
    assert list(items.contents([3, 4], only_there=True)) == [(3, picture(3))]


@pytest.mark.parametrize("other", [b"other bytes altogether", bytes(len(picture(2)))])
def test_a_picture_that_has_changed_is_refused_by_name(tmp_path: Path, other: bytes) -> None:
    items = Items(write(tmp_path))
    (tmp_path / "pictures" / "2.png").write_bytes(other)
    with pytest.raises(
        StoreError, match=r"2\.png has changed since the items were made.*restore it, or make"
    ):
        list(items.contents(range(4)))
    found = dict(items.found(range(4)))
    assert [isinstance(found[row], StoreError) for row in range(4)] == [False, False, True, False]


def test_on_another_machine_it_is_said_where_pictures_were_looked_for(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    with pytest.raises(
        StoreError, match=r"0\.png' is not there \(looked at .*another machine.*--copy always"
    ):
        list(Items(tmp_path / "items").contents([0]))


def test_a_folder_or_pipe_in_the_place_of_a_picture_is_not_read(tmp_path: Path) -> None:
    import os

    items = Items(write(tmp_path))
    (tmp_path / "pictures" / "0.png").unlink()
    os.mkfifo(tmp_path / "pictures" / "0.png")
    with pytest.raises(StoreError, match="is not there"):
        items.content("0.png")


def test_a_project_is_moved_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    write(Path("runs"))
    (tmp_path / "project").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    items = Items("moved/runs/items")
    assert [content for _, content in items.contents(range(4))] == [picture(number) for number in range(4)]


def test_items_elsewhere_name_pictures_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would know what they are relative to."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert named(Path("a.png"), home_of(Path("runs/items"))) == "a.png"
    assert named(Path("a.png"), home_of(tmp_path / "items")) == str(tmp_path / "here" / "a.png")
    assert named(tmp_path / "b.png", home_of(Path("runs/items"))) == str(tmp_path / "b.png")


def test_another_picture_of_the_same_name_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("project", "pictures"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "project")
    write(Path("runs"))
    # Below the folder that one works in now lies something else by that path.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "pictures").mkdir(parents=True)
    (tmp_path / "runs" / "pictures" / "0.png").write_bytes(picture(9))
    items = Items("project/runs/items")
    assert items.content("0.png") == picture(0)
    (tmp_path / "project" / "runs" / "pictures" / "0.png").unlink()
    with pytest.raises(StoreError, match="has changed since"):
        items.content("0.png")


def test_forgetting_leaves_references_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert drop_items(path, ["0.png"]) == 1
    items = Items(path)
    assert items.by_reference
    assert [content for _, content in items.contents(range(3))] == [picture(number) for number in (1, 2, 3)]
    assert items.failures == [("broken.png", "cut off")]


def test_that_they_are_a_part_stays_with_items(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    for part in (None, "only two of ten"):
        with ItemWriter(tmp_path / "items", SCHEMA, part=part) as writer:
            for name in ("a", "b"):
                writer.add(content=None, item_id=name, failure="cut off", metadata={})
        assert Items(tmp_path / "items").part == part
        drop_items(tmp_path / "items", ["a"])
        assert Items(tmp_path / "items").part == part


def test_datasets_finds_the_files(tmp_path: Path) -> None:
    from datasets import load_dataset

    found = load_dataset(str(write(tmp_path)), split="train", cache_dir=str(tmp_path / "cache"))
    assert found[2]["image"].getpixel((0, 0)) == (2, 0, 0)
    assert found[1]["image"].getpixel((0, 0)) == (1, 0, 0)
    assert found[2][COLUMN]["size_bytes"] == len(picture(2))


def test_a_writer_must_know_that_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    reference = reference_to(tmp_path / "a.png", picture(0), tmp_path / "items")
    with (
        pytest.raises(StoreError, match="by_reference=True"),
        ItemWriter(tmp_path / "items", SCHEMA) as writer,
    ):
        writer.add(content=None, reference=reference, item_id="a", metadata={})
    with pytest.raises(StoreError, match=rf"may not be named \['{COLUMN}'\]"):
        ItemWriter(tmp_path / "items", pa.schema([(COLUMN, pa.string())]))
