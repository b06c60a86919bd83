"""Frames of a video file, as upright pictures (PyAV, an optional package).

A video is first gone through without decoding, which tells the time of each frame; then it is decoded from its beginning.
Decoding ends at the first damage: what comes after it may show parts of earlier frames.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from deponij.store.errors import DataError, UsageError

# By which the length that a file states may be off.
_SLACK_S = 0.5
_INSTALL = "pip install 'deponij[video]'"


@dataclass(frozen=True, slots=True)
class Clip:
    """What is known of a video before it is decoded.

    Attributes:
        times_s: of each frame in the order in which they are shown, from the first one on.
        problem: why there may be more; None where all is well.
    """

    times_s: tuple[Fraction, ...]
    problem: str | None = None


def require_av() -> None:
    """Refuse to go on without PyAV.

    Raises:
        UsageError: it is not installed; the message says how to.
    """
    if find_spec("av") is None:
        raise UsageError(f"videos are read by PyAV, which is not installed: {_INSTALL}")


def clip_of(path: Path) -> Clip:
    """The times of a video's frames; what cannot be read is its problem.

    Args:
        path: of a video file.
    """
    import av

    stamps: list[int] = []
    base, problem = Fraction(1), None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if stream is None:
                return Clip((), "there is no video in the file")
            base = stream.time_base or base
            end_s = 0.0
            for packet in container.demux():
                stamp = packet.pts if packet.pts is not None else packet.dts
                if not packet.size or stamp is None:
                    continue
                end_s = max(end_s, float((stamp + (packet.duration or 0)) * (packet.time_base or 0)))
                if packet.stream_index == stream.index and not packet.is_discard:
                    stamps.append(stamp)
                    if packet.is_corrupt:
                        problem = "a packet of it is damaged"
            stated_s = ((container.start_time or 0) + (container.duration or 0)) / av.time_base
            if problem is None and stated_s > end_s + _SLACK_S:
                problem = (
                    f"it is cut off: it says that it ends after {stated_s:.1f} s, and {end_s:.1f} s are there"
                )
    except (av.FFmpegError, OSError, ValueError) as error:
        problem = _told(error)
    stamps.sort()
    times = tuple((stamp - stamps[0]) * base for stamp in stamps)
    return Clip(times, problem if times or problem else "there are no frames in it")


def chosen_frames(times_s: tuple[Fraction, ...], fps: float | None, every: int | None) -> list[int]:
    """Numbers of the frames that are taken.

    Args:
        fps: so many a second: of each span of 1/fps seconds, counted from the first frame, the first one in it.
        every: each n-th instead.
    """
    if every is not None:
        return list(range(0, len(times_s), every))
    rate = Fraction(fps or 1.0).limit_denominator(10_000)
    taken: list[int] = []
    following = 0
    for number, time_s in enumerate(times_s):
        if time_s * rate >= following:
            taken.append(number)
            following = int(time_s * rate) + 1
    return taken


def frames(path: Path, wanted: Collection[int], threads: int) -> Iterator[tuple[int, Image.Image]]:
    """(number, RGB picture) of the wanted frames, in order, turned as the file's rotation says.

    Args:
        threads: of the decoder.

    Raises:
        DataError: the video is damaged, or ends early; the frames before that have been given.
    """
    import av

    last, number = max(wanted, default=-1), 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise DataError("there is no video in the file")
            stream.codec_context.thread_count = max(1, threads)
            stream.codec_context.options = {"err_detect": "explode"}
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise DataError(f"frame {number} of the video is damaged")
                if number in wanted:
                    yield number, _upright(frame)
                number += 1
                if number > last:
                    return
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(f"the video is damaged after frame {number}: {_told(error)}") from error
    if number <= last:
        raise DataError(f"the video ends after {number:,} frames, before this one")


def _upright(frame: Any) -> Image.Image:
    image: Image.Image = frame.to_image()
    # Degrees counter-clockwise, of the display matrix; Pillow turns the same way.
    return image if not frame.rotation else image.rotate(frame.rotation, expand=True)


def _told(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
