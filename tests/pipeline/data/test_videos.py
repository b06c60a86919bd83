"""Videos: which frames are taken, that they are upright and the right ones, and what becomes of damaged files."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from videos_made import HEIGHT, WIDTH, shade, video

from deponij.pipeline.data import video_frames
from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.video_frames import chosen_frames
from deponij.store.errors import DataError, UsageError


def items_of(path: Path, **options: Any) -> list[Any]:
    source = open_source("video", {"videos": path, **options})
    items = list(source.items(workers=2))
    assert len(items) == source.n_items == len({one.item_id for one in items})
    return items


def greys(items: list[Any]) -> list[float]:
    """Of the right halves of the pictures."""
    pixels = [np.asarray(Image.open(io.BytesIO(one.content)).convert("L"), np.float64) for one in items]
    return [float(one[:, 3 * WIDTH // 4].mean()) for one in pixels]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "mov"])
def test_one_frame_a_second(tmp_path: Path, ending: str) -> None:
    items = items_of(video(tmp_path / f"a.{ending}", 35))
    assert [one.item_id for one in items] == [f"a.{ending}/00:00:0{k}.000" for k in range(4)]
    assert [one.metadata["frame"] for one in items] == [0, 10, 20, 30]
    assert [one.metadata["time_s"] for one in items] == [0, 1, 2, 3]
    assert {one.image_id for one in items} == {f"a.{ending}"}
    assert greys(items) == pytest.approx([shade(k) for k in (0, 10, 20, 30)], abs=4)
    assert [one.content for one in items] == [one.content for one in items_of(tmp_path / f"a.{ending}")]


def test_each_nth_frame_without_loss(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", 12)
    items = items_of(path, every=5, quality=None)
    assert [one.metadata["frame"] for one in items] == [0, 5, 10]
    assert all(one.content.startswith(b"\x89PNG") for one in items)
    assert len(items_of(path, fps=2.5)) == 3
    assert len(items_of(path, fps=1000)) == 12
    with pytest.raises(UsageError, match="name one of both"):
        items_of(path, every=5, fps=2)


def test_frames_by_time_follow_uneven_times() -> None:
    times = tuple(Fraction(one, 10) for one in (0, 4, 9, 11, 12, 35, 36, 40))
    assert chosen_frames(times, 1.0, None) == [0, 3, 5, 7]
    assert chosen_frames(times, 2.0, None) == [0, 2, 3, 5, 7]
    assert chosen_frames(times, None, 3) == [0, 3, 6]
    assert chosen_frames((), 1.0, None) == []


def test_a_video_is_turned_as_its_file_says(tmp_path: Path) -> None:
    plain, turned = video(tmp_path / "a" / "x.mp4", 3), video(tmp_path / "b" / "x.mp4", 3, turned=90)
    (one,), (other,) = items_of(plain), items_of(turned)
    assert (one.width_px, one.height_px) == (WIDTH, HEIGHT)
    assert (other.width_px, other.height_px) == (HEIGHT, WIDTH)
    # The darker left half is at the top after a quarter turn clockwise.
    pixels = np.asarray(Image.open(io.BytesIO(other.content)).convert("L"), np.float64)
    assert pixels[: WIDTH // 2 - 4].mean() < pixels[WIDTH // 2 + 4 :].mean() - 8
    expected = Image.open(io.BytesIO(one.content)).rotate(-90, expand=True)
    assert (
        np.abs(np.asarray(expected, np.int64) - np.asarray(Image.open(io.BytesIO(other.content)))).max() < 16
    )


def test_class_folders_and_parts(tmp_path: Path) -> None:
    for name in ("train/cat/1.mp4", "train/dog/2.mp4", "test/cat/3.mp4"):
        video(tmp_path / name, 12)
    (tmp_path / "notes.txt").write_text("no video")
    source = open_source("video", {"videos": tmp_path})
    found = {(one.image_id, one.given, one.metadata["label"]) for one in source.items()}
    assert found == {
        ("train/cat/1.mp4", "train", "cat"),
        ("train/dog/2.mp4", "train", "dog"),
        ("test/cat/3.mp4", "test", "cat"),
    }
    assert any("JPEG of quality 95" in one for one in source.notes)
    assert any("files that are not videos: 1 (.txt: 1)" in one for one in source.notes)
    part = items_of(tmp_path, limit=2)
    assert [one.item_id for one in part] == ["test/cat/3.mp4/00:00:00.000", "train/cat/1.mp4/00:00:00.000"]


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_of_a_video_that_is_cut_off_there_are_the_frames_until_then(tmp_path: Path, share: float) -> None:
    whole = items_of(video(tmp_path / "a.mkv", 60), every=1)
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: int(len(data) * share)])
    items = items_of(tmp_path / "a.mkv", every=1)
    sound = [one for one in items if one.failure is None]
    assert 0 < len(sound) < 60
    assert [one.key for one in sound] == [one.key for one in whole[: len(sound)]]
    assert "it is cut off: it says that it ends after 6.0 s" in items[-1].failure


def test_damage_in_the_middle_ends_a_video_with_failures(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mkv", 60, gop=60)
    whole, data = items_of(path, every=1), bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    path.write_bytes(bytes(data))
    items = items_of(path, every=1)
    sound = [one for one in items if one.failure is None]
    assert 0 < len(sound) < 60
    assert len(sound) < len(items)
    assert [one.key for one in sound] == [one.key for one in whole[: len(sound)]]
    assert all(one.failure for one in items[len(sound) :])


def test_a_file_that_is_no_video_is_a_failure(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", 3)
    (tmp_path / "b.mp4").write_bytes(b"no video at all")
    first, second = items_of(tmp_path)
    assert first.failure is None
    assert (second.item_id, second.image_id) == ("b.mp4/(the rest)", "b.mp4")
    assert "after 0 frames the video cannot be read" in second.failure


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DataError, match=r"no videos in .*\.mp4.*it holds \.txt: 1"):
        items_of(tmp_path)
    monkeypatch.setattr(video_frames, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'deponij\[video\]'"):
        items_of(tmp_path)
