"""Small scenes of noise, for tests of what is made of their pictures and classes."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from deponij.store.keys import key_of_bytes
from deponij.store.label_maps import SceneClass
from deponij.store.scenes import SceneRow, write_scenes

CLASSES = (
    SceneClass("road", (128, 64, 128), "what cars drive on"),
    SceneClass("SignSymbol", (192, 128, 128), words="sign symbol"),
)
HEIGHT_PX, WIDTH_PX = 24, 32


def pixels_of(number: int) -> np.ndarray:
    """uint8 [h, w, 3]."""
    return np.random.default_rng(number).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)


def picture_of(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_of(number)).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, numbers: Sequence[int], *, damaged: Sequence[int] = ()) -> Path:
    """Scenes `NUMBER.png`; of the damaged ones the picture cannot be decoded."""
    rows = []
    for number in (*numbers, *damaged):
        content = picture_of(number)
        content = content[: len(content) // 2] if number in damaged else content
        core = {"item_id": f"{number}.png", "key": key_of_bytes(content), "given": "train"}
        core |= {"width_px": WIDTH_PX, "height_px": HEIGHT_PX}
        labels = np.full((HEIGHT_PX, WIDTH_PX), number % len(CLASSES), np.uint8)
        rows.append(SceneRow(core, content, labels))
    write_scenes(folder, CLASSES, iter(rows))
    return folder
