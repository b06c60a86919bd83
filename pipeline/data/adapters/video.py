"""Video files, of which frames are items: so many a second, or every so manieth.

A folder's first folder below the data set (past those that name a part of a split) is the label, as of pictures in class
folders. All frames of a video share its path as their photograph, so that splits by photograph never divide one. Frames are
upright, and JPEG or PNG: what is looked at is what is kept. PyAV decodes (`pip install "deponij[video]"`).
"""

import io
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from PIL import Image
from pydantic import Field

from deponij.pipeline.data.adapters.file_names import spelled
from deponij.pipeline.data.adapters.registry import Progress, SourceParams, register_source
from deponij.pipeline.data.adapters.whole import each_picture, whole_picture
from deponij.pipeline.data.inside import Links, existing_folder, path_inside, regular_file
from deponij.pipeline.data.item import Item, MetadataValue, ToAct
from deponij.pipeline.data.parallel import Workers
from deponij.pipeline.data.parts import Place, Treatment, places, refuse_unknown
from deponij.pipeline.data.try_out import first_in_turn, told_part
from deponij.store.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENDINGS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".wmv",
    ".flv",
    ".ogv",
    ".3gp",
)
JPEG_QUALITY = 95
COLUMNS = pa.schema([("label", pa.string()), ("time_s", pa.float64()), ("frame", pa.int64())])
MAX_FPS = 1000.0
# Containers count in microseconds, and may be off by so much in what they say of their own length.
_CONTAINER_TICKS = 1_000_000
_SLACK_S = 0.5


class VideoParams(SourceParams):
    """Which videos, and which of their frames.

    Attributes:
        folder: below which they lie; or one video.
        fps: frames a second: of each span of 1 / fps seconds the first frame.
        every: each so manieth frame instead.
        frames: `jpeg` of quality 95 without subsampled colours, or `png`, exactly, some five times as large.
        treat: what folders are whose names leave it open: `train`, `val`, `test`, `class` (no part), or `skip`.
        links_into: folders that symbolic links may lead into; DVC's cache is one by itself.
        limit: so many frames, one of each video in turn, from their beginnings.
    """

    folder: Path
    fps: float = Field(default=1.0, gt=0.0, le=MAX_FPS, allow_inf_nan=False)
    every: int | None = Field(default=None, ge=1)
    frames: Literal["jpeg", "png"] = "jpeg"
    treat: dict[str, Treatment] = Field(default_factory=dict)
    links_into: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class _Video:
    """A video, and which of its frames are items.

    Attributes:
        path: of its file.
        name: path below the data set, as ids have it.
        times_s: time of each chosen frame by its number in the order of time.
        start: presentation time of frame 0, in ticks of the stream; it need not be the first that can be decoded.
        failure: why there are none.
        cut: why there would be more.
    """

    path: Path
    name: str
    place: Place
    times_s: Mapping[int, float]
    start: int = 0
    failure: str | None = None
    cut: str | None = None

    @property
    def n_items(self) -> int:
        """One a frame; one for a video that cannot be read, or breaks off."""
        return len(self.times_s) + (self.cut is not None) or 1


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame as it was decoded, RGB [h, w, 3], or why it could not be."""

    video: str
    given: str | None
    label: str | None
    number: int | None
    time_s: float | None
    pixels: "NDArray[np.uint8] | None"
    failure: str | None
    form: str


@register_source("video")
class VideoSource:
    """Videos, whose frames have been counted."""

    Params = VideoParams
    metadata_schema = COLUMNS

    def __init__(self, params: VideoParams) -> None:
        """Read the times of all frames; none is decoded.

        Raises:
            DataError: no such folder, or no video in it. UsageError: PyAV is not installed, or a treatment of nothing.
        """
        _require_pyav()
        self.params = params
        one = params.folder.is_file()
        root = (
            params.folder.parent.resolve() if one else existing_folder(params.folder, "folder of the videos")
        )
        found = [root / params.folder.name] if one else sorted(_walked(root))
        # A link that is itself named is meant.
        links = Links((params.folder.resolve(),)) if one else Links.of(params.folder, params.links_into)
        if not found:
            raise DataError(f"there is no video below {params.folder} ({', '.join(ENDINGS)})")
        named = {path: path.relative_to(root) for path in found}
        refuse_unknown(params.treat, (relative.parts[:-1] for relative in named.values()))
        place_of = places((relative.parts[:-1] for relative in named.values()), params.treat)
        self.videos = [
            _looked_at(root, relative.as_posix(), links, place, params)
            for path, relative in named.items()
            if not (place := place_of[relative.parts[:-1]]).is_skipped
        ]
        if not self.videos:
            raise UsageError("all videos are to be left out (treat: skip); leave one to read")
        self._part: tuple[ToAct, ...] = ()
        if params.limit is not None:
            self._take(params.limit)

    @property
    def n_items(self) -> int:
        """One a chosen frame, and one a video that cannot be read."""
        return sum(video.n_items for video in self.videos)

    @property
    def notes(self) -> tuple[str, ...]:
        """How many frames were chosen, by what."""
        how = f"every {self.params.every}th" if self.params.every else f"{self.params.fps:g} a second"
        n_frames = sum(len(video.times_s) for video in self.videos)
        notes = (*self._part, f"frames of {len(self.videos):,} videos, {how}: {n_frames:,}")
        cut = [video.name for video in self.videos if video.cut is not None]
        if not cut:
            return notes
        return (*notes, ToAct(f"videos that break off: {len(cut):,}, the first: {cut[0]!r}"))

    def items(self, *, workers: Workers = 1, progress: Progress | None = None) -> Iterator[Item]:
        """Frames in order of time, video by video; what cannot be decoded carries its failure."""
        return each_picture(_item, self._frames(), workers, progress, _size)

    def _frames(self) -> Iterator[_Frame]:
        for video in self.videos:
            label = spelled(video.place.others[0]) if video.place.others else None
            if video.failure is not None:
                yield _Frame(video.name, video.place.given, label, None, None, None, video.failure, "")
                continue
            for number, pixels, failure in _decoded(video):
                time_s = video.times_s[number]
                yield _Frame(
                    video.name, video.place.given, label, number, time_s, pixels, failure, self.params.frames
                )
            if video.cut is not None:
                yield _Frame(video.name, video.place.given, label, None, None, None, video.cut, "")

    def _take(self, limit: int) -> None:
        """Keep so many frames, one of each video in turn."""
        n_all = self.n_items
        of_videos = [(None, place) for place, video in enumerate(self.videos) for _ in range(video.n_items)]
        counts = Counter(of_videos[at][1] for at in first_in_turn(of_videos, limit))
        kept = []
        for place, n in sorted(counts.items()):
            video = self.videos[place]
            times_s = dict(islice(video.times_s.items(), n))
            kept.append(replace(video, times_s=times_s, cut=video.cut if n > len(times_s) else None))
        self.videos = kept
        self._part = told_part(self.n_items, n_all, "one of each video in turn, from its beginning")


def _item(frame: _Frame) -> Item:
    metadata: dict[str, MetadataValue] = {"label": frame.label, "time_s": frame.time_s, "frame": frame.number}
    item_id = frame.video if frame.time_s is None else f"{frame.video}/{_clock(frame.time_s)}"
    content = None if frame.pixels is None else _encoded(frame.pixels, frame.form)
    item = whole_picture(item_id, content, frame.failure, frame.given, metadata)
    return Item(
        item.item_id,
        frame.video,
        item.content,
        item.key,
        item.width_px,
        item.height_px,
        item.phash,
        item.failure,
        item.given,
        item.metadata,
    )


def _size(frame: _Frame) -> int:
    return 0 if frame.pixels is None else frame.pixels.nbytes


def _encoded(pixels: "NDArray[np.uint8]", form: str) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if form == "png":
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def _clock(time_s: float) -> str:
    """`00:01:12.040`, in milliseconds; longer where two frames would be of one name is not needed below 1,000 a second."""
    ms = round(time_s * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def _looked_at(root: Path, inside: str, links: Links, place: Place, params: VideoParams) -> _Video:
    path, name = root / inside, spelled(inside)
    try:
        path_inside(root, inside, links)
        regular_file(path)
        times_s, start, cut = _times_s(path)
    except DataError as error:
        return _Video(path, name, place, {}, failure=spelled(str(error)))
    if not times_s:
        return _Video(path, name, place, {}, failure="the video has no frames")
    return _Video(path, name, place, _chosen(times_s, params), start, cut=cut)


def _chosen(times_s: Sequence[float], params: VideoParams) -> dict[int, float]:
    """Number -> time of the frames that become items: of frames of one millisecond the first."""
    chosen: dict[int, float] = {}
    seen: set[int] = set()
    span = -1
    for number, time_s in enumerate(times_s):
        if params.every:
            is_due = number % params.every == 0
        else:
            # A frame a thousandth of a span early is that span's.
            now = math.floor((time_s - times_s[0]) * params.fps + 1e-3)
            is_due, span = now > span, max(span, now)
        if is_due and (ms := round(time_s * 1000)) not in seen:
            seen.add(ms)
            chosen[number] = time_s
    return chosen


def _times_s(path: Path) -> tuple[list[float], int, str | None]:
    """Presentation times of the frames, ascending, from 0 on, without decoding; what 0 is in ticks of the stream; and
    why there would be more.

    Raises:
        DataError: it is no video, or has no picture stream.
    """
    times, cut, end_s = [], None, 0.0
    with _opened(path) as (container, stream):
        try:
            for packet in container.demux():
                if packet.pts is None:
                    continue
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index == stream.index and not packet.is_discard:
                    times.append(packet.pts)
        except _errors() as error:
            if not times:
                raise DataError(f"the video cannot be read: {error}") from error
            cut = f"the video cannot be read after {end_s:.1f} s: {error}"
        stated_s = ((container.start_time or 0) + (container.duration or 0)) / _CONTAINER_TICKS
        if cut is None and stated_s > end_s + _SLACK_S:
            cut = f"the video is cut off: it should end after {stated_s:.1f} s, and {end_s:.1f} s are there"
        base = float(stream.time_base)
    start = min(times, default=0)
    return [(one - start) * base for one in sorted(set(times))], start, cut


def _decoded(video: _Video) -> Iterator[tuple[int, "NDArray[np.uint8] | None", str | None]]:
    """Number, pixels and failure of every chosen frame, in order of time.

    Frames are matched by time: a damaged stretch decodes to fewer frames than it has.
    """
    left = {round(time_s * 1e6): number for number, time_s in video.times_s.items()}
    why = "the frame could not be decoded; the video is damaged there"
    try:
        with _opened(video.path) as (container, stream):
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                at = round(float((frame.pts - video.start) * stream.time_base) * 1e6)
                if at in left:
                    while left and next(iter(left)) != at:
                        yield left.pop(next(iter(left))), None, why
                    yield left.pop(at), _upright(frame), None
                if not left:
                    return
    except _errors(DataError, MemoryError) as error:
        why = f"the video cannot be decoded from here on: {error}"
    for number in left.values():
        yield number, None, why


def _upright(frame: Any) -> "NDArray[np.uint8]":
    """RGB [h, w, 3], turned as the video's display matrix says (degrees against the clock)."""
    import numpy as np

    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    import av

    try:
        container = av.open(str(path))
    except _errors() as error:
        raise DataError(f"the video cannot be read: {error}") from error
    with container:
        if not container.streams.video:
            raise DataError("the file has no picture stream")
        yield container, container.streams.video[0]


def _errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    from av.error import FFmpegError

    return (FFmpegError, OSError, ValueError, EOFError, *more)


def _require_pyav() -> None:
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UsageError(
            'videos are read with PyAV, which is not installed; pip install "deponij[video]"'
        ) from error


def _walked(root: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in sorted(subfolders) if not name.startswith(".")]
        for name in files:
            if PurePosixPath(name).suffix.lower() in ENDINGS and not name.startswith("."):
                yield Path(folder, name)
