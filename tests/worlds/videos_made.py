"""Small videos, whose every frame is of one colour, written by PyAV."""

import struct
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 48, 32
FPS = 10


def shade(number: int) -> int:
    """The grey of a frame: neighbours are far enough apart to be told in spite of the codec."""
    return 20 + (number * 37) % 200


def video(path: Path, n_frames: int, *, turned: int = 0, gop: int = 12) -> Path:
    """A video at `FPS` frames a second whose frame k is of the grey `shade(k)`, its left half darker by 15.

    Args:
        turned: degrees clockwise by which players turn it: 0 or 90 (in MP4).
        gop: frames from one key frame to the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size = gop
        stream.codec_context.options = {"qscale": "2"}
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for number in range(n_frames):
            pixels = np.full((HEIGHT, WIDTH, 3), shade(number), np.uint8)
            pixels[:, : WIDTH // 2] -= 15
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    if turned == 90:
        _turn(path)
    return path


def _turn(path: Path) -> None:
    """Write the matrix of a quarter turn clockwise into the track's header (ISO 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    one = 1 << 16
    data[start : start + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, HEIGHT << 16, 0, 1 << 30)
    path.write_bytes(bytes(data))
