"""Short videos, each frame of a grey that says its number."""

from pathlib import Path

import numpy as np


def grey_of(number: int) -> int:
    """Of all pixels of a frame; ten steps apart, so that lossy coding keeps them apart."""
    return 20 + 10 * (number % 22)


def number_of(pixels: np.ndarray) -> int:
    """The frame that a picture shows, of the first 22."""
    return round((float(pixels.mean()) - 20) / 10)


def write(
    path: Path,
    *,
    n_frames: int = 20,
    fps: int = 10,
    size_px: tuple[int, int] = (64, 48),
    codec: str = "mpeg4",
    gop: int | None = None,
) -> None:
    """A video of so many frames, every `gop`th a keyframe."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size_px
        stream.pix_fmt = "yuv420p"
        if gop is not None:
            stream.gop_size, stream.max_b_frames = gop, 0
        for number in range(n_frames):
            pixels = np.full((size_px[1], size_px[0], 3), grey_of(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def without_first_packet(path: Path, to: Path) -> None:
    """The same packets but the first, which is a keyframe, as a video that was cut elsewhere."""
    import av

    to.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path)) as source, av.open(str(to), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in list(source.demux(video=0))[1:]:
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
