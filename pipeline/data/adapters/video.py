"""Videos, a folder of them or one file: an item is a frame, so many a second.

    root/cat/1.mp4          items `cat/1.mp4/00:00:00.000`, `cat/1.mp4/00:00:01.000`, …, label `cat`

The photograph of an item (`image_id`) is its video, so that splits keep a video together. Decoding lives in
`deponij.pipeline.data.video_frames`.
"""

import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath

import pyarrow as pa
from PIL import Image
from pydantic import Field

from deponij.pipeline.data.adapters.annotated import files_below
from deponij.pipeline.data.adapters.registry import Progress, SourceParams, register_source
from deponij.pipeline.data.adapters.whole import each_picture, whole_picture
from deponij.pipeline.data.endings import counted, ending_of
from deponij.pipeline.data.inside import Links, path_inside
from deponij.pipeline.data.item import Item, MetadataValue, ToAct
from deponij.pipeline.data.parts import Place, Treatment, places, refuse_unknown
from deponij.pipeline.data.try_out import first_in_turn, told_part
from deponij.pipeline.data.video_frames import Clip, chosen_frames, clip_of, frames, require_av
from deponij.store.errors import DataError, UsageError

ENDINGS = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv"),
        *(".flv", ".3gp", ".ogv"),
    )
)
_COLUMNS = pa.schema(
    [("label", pa.string()), ("video", pa.string()), ("time_s", pa.float64()), ("frame", pa.int64())]
)
# Frames are wide and one picture of a video is like the next: fewer are held than of small pictures.
_CHUNK = 2


class VideoParams(SourceParams):
    """Where the videos lie, and which frames are taken.

    Attributes:
        videos: a file, or a folder whose subfolders are classes or parts as with pictures in folders.
        fps: frames taken a second, by their times; every: each n-th frame instead.
        quality: of the JPEG files that frames become (1 to 95); none: PNG, without loss and several times as large.
        treat, links_into: as of the adapter `folder`.
    """

    videos: Path
    fps: float | None = Field(default=None, gt=0, le=1000)
    every: int | None = Field(default=None, ge=1)
    quality: int | None = Field(default=95, ge=1, le=95)
    treat: dict[str, Treatment] = Field(default_factory=dict)
    links_into: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class _Video:
    """A file, and the numbers of the frames that are taken; none where it cannot be read at all."""

    name: str
    label: str | None
    given: str | None
    clip: Clip
    taken: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Frame:
    """What an item is made of: a picture, or why there is none."""

    item_id: str
    video: _Video
    number: int | None
    picture: Image.Image | None
    failure: str | None


@register_source("video")
class VideoSource:
    """Videos, gone through without decoding."""

    Params = VideoParams
    metadata_schema = _COLUMNS

    def __init__(self, params: VideoParams) -> None:
        """List the videos and the times of their frames.

        Raises:
            DataError: there is no such file or folder, or no video in it.
            UsageError: PyAV is not installed, or `fps` and `every` at once.
        """
        if not params.videos.exists():
            raise DataError(f"videos: {params.videos} does not exist")
        require_av()
        if params.fps is not None and params.every is not None:
            raise UsageError("frames are taken by time (fps) or by number (every); name one of both")
        is_file = params.videos.is_file()
        folder = params.videos.parent if is_file else params.videos
        self.root, self.links = folder.resolve(), Links.of(folder, params.links_into)
        self._quality = params.quality
        self._others: Counter[str] = Counter()
        names = [params.videos.name] if is_file else self._listed()
        if not names:
            found = f"; it holds {counted(self._others)}" if self._others else ""
            raise DataError(
                f"no videos in {params.videos}; expected files that end in {' '.join(sorted(ENDINGS))}{found}"
            )
        folders = [() if is_file else PurePosixPath(name).parts[:-1] for name in names]
        refuse_unknown(params.treat, folders)
        place_of = places(set(folders), params.treat)
        self._videos = [
            self._opened(name, place_of[one], params)
            for name, one in zip(names, folders, strict=True)
            if not place_of[one].is_skipped
        ]
        if not self._videos:
            raise UsageError("all videos are to be left out (treat: skip); leave one to read")
        self._part: tuple[ToAct, ...] = ()
        if params.limit is not None:
            self._take(params.limit)

    @property
    def n_items(self) -> int:
        """One item per frame that is taken, and one per video that cannot be read (to its end)."""
        return sum(len(one.taken) + (one.clip.problem is not None) for one in self._videos)

    @property
    def notes(self) -> tuple[str, ...]:
        """How frames become pictures; videos that cannot be read; other files."""
        how = "PNG" if self._quality is None else f"JPEG of quality {self._quality}"
        notes: list[str] = [*self._part, f"frames of {len(self._videos):,} videos, as {how}"]
        damaged = [one.name for one in self._videos if one.clip.problem is not None]
        if damaged:
            notes.append(
                ToAct(f"videos that cannot be read to their end: {len(damaged):,}, the first: {damaged[0]!r}")
            )
        if self._others:
            notes.append(f"files that are not videos: {self._others.total():,} ({counted(self._others)})")
        return tuple(notes)

    def items(self, *, workers: int = 1, progress: Progress | None = None) -> Iterator[Item]:
        """Frames, video by video, in the order in which they are shown; what is not there is a failure."""
        return each_picture(self._item, self._frames(max(1, workers)), workers, progress, chunk=_CHUNK)

    def _listed(self) -> list[str]:
        found = []
        for path in files_below(self.root):
            if path.suffix.lower() in ENDINGS:
                found.append(path.relative_to(self.root).as_posix())
            else:
                self._others[ending_of(path.name)] += 1
        return sorted(found, key=lambda name: PurePosixPath(name).parts)

    def _opened(self, name: str, place: Place, params: VideoParams) -> _Video:
        label = _utf8(place.others[0]) if place.others else None
        try:
            clip = clip_of(path_inside(self.root, name, self.links))
        except DataError as error:
            clip = Clip((), str(error))
        taken = tuple(chosen_frames(clip.times_s, params.fps, params.every))
        return _Video(name, label, place.given, clip, taken)

    def _take(self, limit: int) -> None:
        """Keep so many frames, one of each video in turn."""
        before = self.n_items
        groups = [place for place, one in enumerate(self._videos) for _ in range(len(one.taken) or 1)]
        counts = Counter(groups[at] for at in first_in_turn(groups, limit))
        kept = []
        for place, n in sorted(counts.items()):
            one = self._videos[place]
            is_cut = n < len(one.taken) or sum(counts.values()) + 1 > limit
            clip = replace(one.clip, problem=None) if one.taken and is_cut else one.clip
            kept.append(replace(one, clip=clip, taken=one.taken[:n]))
        self._videos = kept
        self._part = told_part(self.n_items, before, "one of each video in turn, from its beginning")

    def _frames(self, threads: int) -> Iterator[_Frame]:
        for video in self._videos:
            ids = dict(zip(video.taken, _ids(video), strict=True))
            made, reason = 0, "the video could not be decoded to here"
            if video.taken:
                try:
                    path = path_inside(self.root, video.name, self.links)
                    for number, picture in frames(path, frozenset(video.taken), threads):
                        made += 1
                        yield _Frame(ids[number], video, number, picture, None)
                except DataError as error:
                    reason = str(error)
            for number in video.taken[made:]:
                yield _Frame(ids[number], video, number, None, reason)
            if video.clip.problem is not None:
                said = (
                    f"after {len(video.clip.times_s):,} frames the video cannot be read: {video.clip.problem}"
                )
                yield _Frame(f"{_utf8(video.name)}/(the rest)", video, None, None, said)

    def _item(self, frame: _Frame) -> Item:
        video, number = frame.video, frame.number
        name = _utf8(video.name)
        time_s = None if number is None else round(float(video.clip.times_s[number]), 6)
        metadata: dict[str, MetadataValue] = {
            "label": video.label,
            "video": name,
            "time_s": time_s,
            "frame": number,
        }
        content = None if frame.picture is None else _encoded(frame.picture, self._quality)
        failure = None if frame.failure is None else _utf8(frame.failure)
        made = whole_picture(frame.item_id, content, failure, video.given, metadata)
        return replace(made, image_id=name)


def _ids(video: _Video) -> Sequence[str]:
    """`FILE/00:00:12.000`; where two frames fall into one millisecond, the later one has its number too."""
    ids: dict[str, None] = {}
    for number in video.taken:
        shown = f"{_utf8(video.name)}/{_clock(video.clip.times_s[number])}"
        ids[f"{shown}~{number}" if shown in ids else shown] = None
    return list(ids)


def _clock(time_s: Fraction) -> str:
    total_ms = round(time_s * 1000)
    seconds, ms = divmod(total_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{ms:03d}"


def _encoded(picture: Image.Image, quality: int | None) -> bytes:
    buffer = io.BytesIO()
    if quality is None:
        picture.save(buffer, "PNG", compress_level=1)
    else:
        # Colours at full resolution: chroma of most videos is halved already, and would be once more.
        picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _utf8(text: str) -> str:
    """Names that are not UTF-8 on disk, with their odd bytes spelled out, so that tables can hold them."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
