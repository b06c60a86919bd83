"""Class folders: labels, given splits, what is left aside, and what is refused."""

import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_made import noise
from PIL import Image

from deponij.pipeline.data.adapters.folder import FolderParams, FolderSource
from deponij.pipeline.data.adapters.whole import Reading
from deponij.pipeline.data.item import Item
from deponij.pipeline.likeness.phash import phash
from deponij.store.errors import DataError
from deponij.store.keys import key_of_bytes


def put(root: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(12, 10, seed).save(path)


def read(root: Path, workers: int = 0, **params: Any) -> list[Item]:
    return list(FolderSource(FolderParams(folder=root, **params)).items(workers=workers))


def test_labels_are_the_first_folders(tmp_path: Path) -> None:
    put(tmp_path, "dog/b.png", "cat/2.jpg", "cat/kitten/young/1.PNG", "loose.png")
    items = read(tmp_path)
    assert [(item.item_id, item.metadata) for item in items] == [
        ("cat/2.jpg", {"label": "cat"}),
        ("cat/kitten/young/1.PNG", {"label": "cat"}),
        ("dog/b.png", {"label": "dog"}),
        ("loose.png", {"label": None}),
    ]
    assert all(item.given is None and item.image_id == item.item_id for item in items)


def test_items_keep_the_original_bytes(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png")
    (item,) = read(tmp_path)
    data = (tmp_path / "cat/1.png").read_bytes()
    assert item.content == data
    assert item.key == key_of_bytes(data, "PNG")
    assert (item.width_px, item.height_px, item.failure) == (12, 10, None)
    assert item.phash == phash(noise(12, 10, 0))


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "TEST")])
def test_parts_above_the_classes_are_given(tmp_path: Path, names: tuple[str, ...]) -> None:
    put(
        tmp_path,
        *(f"{name}/cat/{k}.png" for k, name in enumerate(names)),
        f"{names[0]}/bare.png",
        "loose.png",
    )
    found = {item.item_id: (item.given, item.metadata["label"]) for item in read(tmp_path)}
    parts = ("train", "val", "test")
    assert found == {
        **{f"{name}/cat/{k}.png": (parts[k], "cat") for k, name in enumerate(names)},
        f"{names[0]}/bare.png": ("train", None),
        "loose.png": (None, None),
    }


def test_a_class_named_like_a_part_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "plane/1.png")
    with pytest.raises(DataError, match="--treat train=class"):
        read(tmp_path)
    assert [(item.given, item.metadata["label"]) for item in read(tmp_path, treat={"train": "class"})] == [
        (None, "plane"),
        (None, "train"),
    ]


def test_what_is_left_out_or_in_no_part_is_counted(tmp_path: Path) -> None:
    put(tmp_path, "cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "cat/4.png", "drawn/5.png")
    source = FolderSource(FolderParams(folder=tmp_path, treat={"drawn": "skip"}))
    assert {item.item_id: (item.given, item.metadata["label"]) for item in source.items(workers=0)} == {
        "cat/train/1.png": ("train", "cat"),
        "cat/test/2.png": ("test", "cat"),
        "dog/train/3.png": ("train", "dog"),
        "cat/4.png": (None, "cat"),
    }
    assert source.notes == (
        "pictures in no part of the given split: 1, the first: 'cat/4.png'",
        "pictures in folders that are left out as asked: 1",
    )


def test_folders_above_all_classes_are_told(tmp_path: Path) -> None:
    put(tmp_path, "set/train/images/cat/1.png", "set/train/images/dog/2.png", "set/test/images/dog/3.png")
    source = FolderSource(FolderParams(folder=tmp_path))
    found = [(item.given, item.metadata["label"]) for item in source.items(workers=0)]
    assert found == [("test", "dog"), ("train", "cat"), ("train", "dog")]
    assert source.notes == ("folders that all classes lie in, no classes themselves: set/images",)


def test_other_and_hidden_files_are_left_aside_and_counted(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "cat/.hidden.png", ".cache/2.png", "__MACOSX/cat/1.png")
    for name in ("cat/notes.txt", "cat/more.txt", "cat/paper.PDF", "README", "Thumbs.db"):
        (tmp_path / name).write_text("x")
    source = FolderSource(FolderParams(folder=tmp_path))
    assert source.n_items == 1
    assert source.notes == ("files that are not pictures: 4 (.txt: 2, no ending: 1, .pdf: 1)",)


def test_a_class_without_any_picture_is_named(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "dog/deep/1.png", "cat/meta/a.png")
    for name in ("bird/1.xyz", "bird/2.XYZ", "bird/more/3", "dog/deep/notes/a.txt", "loose.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    source = FolderSource(FolderParams(folder=tmp_path))
    *_, bird = source.items()
    # Of a class that would vanish there is a failure; of folders in a class only a note.
    assert (source.n_items, bird.item_id, bird.metadata) == (4, "bird", {"label": None})
    said = "no picture in this folder: .xyz: 2, no ending: 1; --treat bird=skip leaves it out"
    assert bird.failure == said
    assert FolderSource(FolderParams(folder=tmp_path, treat={"bird": "skip"})).n_items == 3
    assert source.notes == (
        "folders without any picture, which are no classes: 2: 'bird' (.xyz: 2, no ending: 1), "
        "'dog/deep/notes' (.txt: 1)",
        "files that are not pictures: 5 (.txt: 2, .xyz: 2, no ending: 1)",
    )


def test_classes_within_folds_are_told(tmp_path: Path) -> None:
    put(tmp_path, *(f"fold{fold}/{name}/1.png" for fold in (1, 2) for name in ("cat", "dog")))
    (note,) = FolderSource(FolderParams(folder=tmp_path)).notes
    assert note.startswith("every class folder holds the same folders (cat, dog)")
    put(tmp_path, "fold2/fish/1.png")
    assert FolderSource(FolderParams(folder=tmp_path)).notes == ()


def test_folders_of_a_single_class_are_no_folds(tmp_path: Path) -> None:
    put(tmp_path, "cat/indoors/1.png", "cat/outdoors/1.png")
    assert FolderSource(FolderParams(folder=tmp_path)).notes == ()


def test_without_any_picture_the_endings_are_told(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for k in range(3):
        (tmp_path / "cat" / f"{k}.xyz").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no pictures in .*; it holds 3 \(\.xyz: 3\)"):
        FolderSource(FolderParams(folder=tmp_path))


def test_pictures_are_known_by_their_bytes_where_the_ending_says_nothing(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png", "cat/2.JPG", "cat/3.gif", "cat/4.webp", "cat/5.tif")
    for number, name in [(1, "1"), (2, "2.jpg_large"), (3, "3.0"), (4, "4"), (5, "5.dat")]:
        (whole,) = tmp_path.glob(f"cat/{number}.*")
        whole.rename(tmp_path / "cat" / name)
    os.mkfifo(tmp_path / "cat/pipe")
    source = FolderSource(FolderParams(folder=tmp_path))
    items = list(source.items())
    assert [(item.item_id, item.failure) for item in items] == [
        (f"cat/{name}", None) for name in ("1", "2.jpg_large", "3.0", "4", "5.dat")
    ]
    assert source.notes[1:] == (
        "pictures by their content, not by their ending: 5 (no ending: 2, .0: 1, .dat: 1, .jpg_large: 1)",
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("1.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*ImageMagick"),
        ("1.HEIF", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC.*ImageMagick"),
        ("no-ending", b"\0\0\0\x18ftypheix\0\0\0\0", "HEIC.*ImageMagick"),
        ("1.cr3", b"\0\0\0\x18ftypcrx \0\0\0\1", "raw file.*develop"),
        ("1.raf", b"FUJIFILMCCD-RAW 0201", "raw file.*develop"),
        ("1.jxl", b"\xff\x0a\xfa\x7f", "JPEG XL.*convert it to JPEG or PNG"),
        ("1.psd", b"8BPS\0\1", "Photoshop.*convert it to JPEG or PNG"),
        ("1.raw", b"no picture at all", "not a picture: 17 bytes"),
    ],
)
def test_pictures_of_kinds_that_are_not_read_are_failures_that_name_them(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / name).write_bytes(content)
    (item,) = read(tmp_path)
    assert (item.item_id, item.metadata, item.content) == (f"cat/{name}", {"label": "cat"}, None)
    assert re.search(said, str(item.failure))


def test_kinds_that_are_not_read_are_not_called_pictures_by_their_content(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.png")
    (tmp_path / "cat" / "2.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    source = FolderSource(FolderParams(folder=tmp_path))
    assert (source.n_items, source.notes) == (2, ())


def test_unlabelled_pictures_are_noted(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png", "cat/1.png")
    notes = FolderSource(FolderParams(folder=tmp_path)).notes
    assert notes == ("pictures in no class folder, without a label: 2",)


def test_pictures_that_cannot_be_read_are_failures(tmp_path: Path) -> None:
    put(tmp_path, "cat/good.png")
    (tmp_path / "cat/empty.jpg").write_bytes(b"")
    (tmp_path / "cat/page.jpg").write_text("<html>")
    (tmp_path / "cat/short.png").write_bytes((tmp_path / "cat/good.png").read_bytes()[:100])
    os.mkfifo(tmp_path / "cat/pipe.png")
    failures = {item.item_id: item.failure for item in read(tmp_path, workers=2)}
    assert failures.pop("cat/good.png") is None
    said = {"empty.jpg": "empty", "page.jpg": "HTML", "short.png": "cannot be decoded", "pipe.png": "regular"}
    assert failures.keys() == {f"cat/{name}" for name in said}
    for name, words in said.items():
        assert words in str(failures[f"cat/{name}"])
    (bad, *_) = [item for item in read(tmp_path) if item.failure]
    assert (bad.content, bad.key, bad.width_px, bad.phash, bad.metadata) == (
        None,
        None,
        None,
        None,
        {"label": "cat"},
    )


def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root, "cat/real.png")
    put(tmp_path, "away/1.png")
    (root / "cat/inside.png").symlink_to("real.png")
    (root / "cat/out.png").symlink_to(tmp_path / "away/1.png")
    (root / "cat/dangling.png").symlink_to("nothing.png")
    (root / "dog").symlink_to(tmp_path / "away")
    found = {item.item_id: item for item in read(root)}
    assert found.keys() == {"cat/real.png", "cat/inside.png", "cat/out.png", "cat/dangling.png", "dog"}
    assert found["cat/inside.png"].failure is None
    assert "leaves the data set's folder" in str(found["cat/out.png"].failure)
    assert "is missing" in str(found["cat/dangling.png"].failure)
    assert "links to folders are not followed" in str(found["dog"].failure)


def test_links_into_a_named_folder_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root, "cat/real.png")
    put(tmp_path, "away/cat/1.png", "away/dog/2.png", "elsewhere/3.png")
    (root / "cat/out.png").symlink_to(tmp_path / "away/cat/1.png")
    (root / "cat/other.png").symlink_to(tmp_path / "elsewhere/3.png")
    (root / "dog").symlink_to(tmp_path / "away/dog")
    (root / "puppy").symlink_to(tmp_path / "away/dog")
    (tmp_path / "away/dog/round").symlink_to(tmp_path / "away/dog")
    found = {item.item_id: item.failure for item in read(root, links_into=(tmp_path / "away",))}
    assert {name for name, failure in found.items() if failure is None} == {
        "cat/real.png",
        "cat/out.png",
        "dog/2.png",
    }
    assert "--links-into" in str(found["cat/other.png"])
    assert "read already" in str(found["puppy"])
    assert "read already" in str(found["dog/round"])
    with pytest.raises(DataError, match="folder that links lead into: .* does not exist"):
        read(root, links_into=(tmp_path / "gone",))


def test_a_link_to_a_folder_above_reads_nothing_twice(tmp_path: Path) -> None:
    put(tmp_path / "root", "cat/1.png")
    (tmp_path / "root/cat/up").symlink_to(tmp_path)
    found = {item.item_id: item.failure for item in read(tmp_path / "root", links_into=(tmp_path,))}
    assert found.keys() == {"cat/1.png", "cat/up"}
    assert "read already" in str(found["cat/up"])


def test_a_root_behind_a_link_is_fine(tmp_path: Path) -> None:
    put(tmp_path / "real", "cat/1.png")
    (tmp_path / "link").symlink_to("real")
    (item,) = read(tmp_path / "link")
    assert (item.item_id, item.failure) == ("cat/1.png", None)


def test_names_that_are_not_utf8_can_stand_in_a_table(tmp_path: Path) -> None:
    put_oddly_named(tmp_path)
    (item,) = read(tmp_path)
    assert (item.item_id, item.failure) == ("caf\\xe9/1.png", None)
    item.item_id.encode()


def test_a_picture_that_no_table_can_name_is_copied(tmp_path: Path) -> None:
    put(tmp_path, "cafe/1.png")
    put_oddly_named(tmp_path)
    source = FolderSource(FolderParams(folder=tmp_path))
    held, named = sorted(source.items(reading=Reading(by_reference=True)), key=lambda item: item.item_id)
    assert (named.item_id, named.content) == ("cafe/1.png", None)
    assert named.reference is not None
    assert (held.item_id, held.reference) == ("caf\\xe9/1.png", None)
    assert held.content is not None


def put_oddly_named(root: Path) -> None:
    """A picture in a folder whose name is not UTF-8."""
    folder = os.fsencode(root) + b"/caf\xe9"
    try:
        os.mkdir(folder)  # noqa: PTH102
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    noise(5, 5).save(root / "a.png")
    (root / "a.png").rename(Path(os.fsdecode(folder)) / "1.png")


def test_orientation_and_large_jpegs_have_their_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8))
    (tmp_path / "cat").mkdir()
    small.resize((1400, 1000), Image.Resampling.BICUBIC).save(tmp_path / "cat/large.jpg", exif=exif)
    (item,) = read(tmp_path)
    assert (item.width_px, item.height_px) == (1000, 1400)
    assert item.content is not None
    with Image.open(io.BytesIO(item.content)) as stored:
        assert stored.size == (1400, 1000)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_and_progress_do_not_depend_on_workers(tmp_path: Path, workers: int) -> None:
    put(tmp_path, *(f"c{k % 5}/{k:03}.png" for k in range(60)))
    source = FolderSource(FolderParams(folder=tmp_path))
    seen: list[int] = []
    ids = [item.item_id for item in source.items(workers=workers, progress=seen.append)]
    assert ids == sorted(f"c{k % 5}/{k:03}.png" for k in range(60))
    assert sum(seen) == source.n_items == 60


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        FolderSource(FolderParams(folder=tmp_path / "none"))
    with pytest.raises(DataError, match="no pictures in"):
        FolderSource(FolderParams(folder=tmp_path))
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is not a folder"):
        FolderSource(FolderParams(folder=tmp_path / "file"))
