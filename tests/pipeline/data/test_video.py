"""Frames of videos: which, in what order, what they show, and what becomes of damage."""

import builtins
from pathlib import Path

import numpy as np
import pytest
import video_world

from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.item import Item
from deponij.pipeline.pictures import decode
from deponij.store.errors import DataError, UsageError


def items_of(folder: Path, **options: object) -> list[Item]:
    return list(open_source("video", {"folder": folder, **options}).items(workers=2))


def shown(item: Item) -> int:
    assert item.content is not None
    return video_world.number_of(np.asarray(decode(item.content)))


def test_one_frame_a_span_the_first_of_each(tmp_path: Path) -> None:
    video_world.write(tmp_path / "cat" / "a.mp4", n_frames=20, fps=10)
    video_world.write(tmp_path / "dog" / "b.mp4", n_frames=5, fps=10)
    items = items_of(tmp_path, fps=2)
    assert [item.item_id for item in items] == [
        "cat/a.mp4/00:00:00.000",
        "cat/a.mp4/00:00:00.500",
        "cat/a.mp4/00:00:01.000",
        "cat/a.mp4/00:00:01.500",
        "dog/b.mp4/00:00:00.000",
    ]
    assert [shown(item) for item in items] == [0, 5, 10, 15, 0]
    assert [item.image_id for item in items] == ["cat/a.mp4"] * 4 + ["dog/b.mp4"]
    assert items[1].metadata == {"label": "cat", "time_s": 0.5, "frame": 5}


@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_every_so_manieth_frame(tmp_path: Path, form: str) -> None:
    video_world.write(tmp_path / "a.mkv", n_frames=11)
    items = items_of(tmp_path, every=4, frames=form)
    assert [shown(item) for item in items] == [0, 4, 8]
    assert [item.metadata["label"] for item in items] == [None] * 3


def test_faster_than_the_video_is_every_frame_once(tmp_path: Path) -> None:
    video_world.write(tmp_path / "a.mp4", n_frames=7)
    assert [shown(item) for item in items_of(tmp_path, fps=60)] == list(range(7))


def test_parts_are_folders(tmp_path: Path) -> None:
    for part in ("train", "test"):
        video_world.write(tmp_path / part / "cat" / "a.mp4", n_frames=3)
    items = items_of(tmp_path)
    assert [(item.given, item.metadata["label"]) for item in items] == [("test", "cat"), ("train", "cat")]


def test_frames_are_upright(tmp_path: Path) -> None:
    """A display matrix turns a frame; FFmpeg's own player shows it so. Without one the frame stays as it is."""
    from deponij.pipeline.data.adapters.video import _upright

    class Frame:
        rotation = 90

        def to_ndarray(self, format: str) -> np.ndarray:
            return np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)

    turned = _upright(Frame())
    np.testing.assert_array_equal(turned, np.rot90(Frame().to_ndarray("rgb24"), 1))
    Frame.rotation = 0
    np.testing.assert_array_equal(_upright(Frame()), Frame().to_ndarray("rgb24"))


def test_damage_in_the_middle_costs_the_frames_that_it_hit(tmp_path: Path) -> None:
    """As many items as the undamaged video has, each whole or a failure, and none shows another frame."""
    path = tmp_path / "a.mkv"
    video_world.write(path, n_frames=20, size_px=(320, 240))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    source = open_source("video", {"folder": tmp_path, "fps": 10})
    items = list(source.items())
    assert len(items) == source.n_items
    whole = [item for item in items if item.failure is None]
    assert 0 < len(whole) < 20
    assert [shown(item) for item in whole] == [item.metadata["frame"] for item in whole]


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0" * 5000])
def test_what_is_no_video_is_a_failure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    video_world.write(tmp_path / "b.mp4", n_frames=1)
    first, second = items_of(tmp_path)
    assert first.item_id == "a.mp4"
    assert "cannot be read" in str(first.failure)
    assert second.failure is None


def test_one_video_by_its_name(tmp_path: Path) -> None:
    video_world.write(tmp_path / "a.mp4", n_frames=1)
    assert [item.item_id for item in items_of(tmp_path / "a.mp4")] == ["a.mp4/00:00:00.000"]


def test_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="there is no video below"):
        items_of(tmp_path)


def test_without_pyav_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object, **more: object) -> object:
        if name == "av":
            raise ImportError(name)
        return real(name, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r'pip install "deponij\[video\]"'):
        items_of(tmp_path)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_a_video_that_is_cut_off_says_so(tmp_path: Path, share: float) -> None:
    """Where the file itself says that it should go on, the frames until then are followed by a failure."""
    path = tmp_path / "a.mkv"
    video_world.write(path, n_frames=60)
    whole = items_of(tmp_path, every=1)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    source = open_source("video", {"folder": tmp_path, "every": 1})
    items = list(source.items())
    assert len(items) == source.n_items
    sound = [item for item in items if item.failure is None]
    assert 0 < len(sound) < 60
    assert [item.key for item in sound] == [item.key for item in whole[: len(sound)]]
    assert items[-1].item_id == "a.mkv"
    assert "it should end after 6.0 s" in str(items[-1].failure)
    assert any("videos that break off: 1, the first: 'a.mkv'" in note for note in source.notes)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov", "avi"])
def test_a_sound_video_is_not_said_to_break_off(tmp_path: Path, ending: str) -> None:
    video_world.write(tmp_path / f"a.{ending}", n_frames=35)
    assert [shown(item) for item in items_of(tmp_path)] == [0, 10, 20, 8]


def test_a_part_has_frames_of_every_video(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        video_world.write(tmp_path / name, n_frames=20)
    items = items_of(tmp_path, fps=10, limit=4)
    assert [(item.image_id, item.metadata["frame"]) for item in items] == [
        ("a.mp4", 0),
        ("a.mp4", 1),
        ("b.mp4", 0),
        ("c.mp4", 0),
    ]


@pytest.mark.parametrize("ending", ["mkv", "ts"])
def test_a_video_that_begins_before_a_keyframe_keeps_its_times(tmp_path: Path, ending: str) -> None:
    """As recordings do: what cannot be decoded is lost at the begin, and no frame stands at another's time."""
    whole = tmp_path / f"whole.{ending}"
    video_world.write(whole, n_frames=20, codec="libx264", gop=6)
    video_world.without_first_packet(whole, tmp_path / "cut" / f"a.{ending}")
    items = items_of(tmp_path / "cut", every=1)
    assert [item.metadata["frame"] for item in items] == list(range(19))
    assert [item.metadata["time_s"] for item in items] == pytest.approx([k / 10 for k in range(19)])
    assert [item.failure is None for item in items] == [False] * 5 + [True] * 14
    assert [shown(item) for item in items[5:]] == list(range(6, 20))
