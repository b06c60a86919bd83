"""Small data sets of pictures with label maps, one a layout, for tests of scenes."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 12, 8
N_CLASSES = 3


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT, orientation: int | None = None) -> bytes:
    """A JPEG of noise; with an EXIF orientation, stored as it is turned by it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def numbers(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """[h, w] uint8 of 0, 1, 2 and, where nothing is said, 255."""
    drawn = np.random.default_rng(seed).integers(0, N_CLASSES + 1, (height, width))
    return np.where(drawn == N_CLASSES, 255, drawn).astype(np.uint8)


def png(values: np.ndarray, palette: list[int] | None = None) -> bytes:
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def segnet(root: Path) -> dict[str, object]:
    """CamVid's names; five pictures, one of which is damaged."""
    for k, (part, name) in enumerate(
        [
            ("train", "0001TP_000030"),
            ("train", "0016E5_000060"),
            ("train", "0016E5_000090"),
            ("val", "0006R0_f01"),
            ("test", "Seq05VD_f02"),
        ]
    ):
        put(root / part / f"{name}.jpg", picture(k) if k != 1 else b"damaged")
        put(root / f"{part}annot" / f"{name}.png", png(np.where(numbers(k) == 255, 11, numbers(k))))
    return {"folder": root}


def coco(root: Path) -> dict[str, object]:
    """Five photographs, one of which is damaged; two overlapping squares and run lengths on each."""
    images = [{"id": k, "file_name": f"{k}.jpg", "width": WIDTH, "height": HEIGHT} for k in range(5)]
    big, small = [0, 0, 6, 0, 6, 6, 0, 6], [4, 4, 7, 4, 7, 7, 4, 7]
    # 4 rows of the last column: 8 * 11 zeros, 4 ones, 4 zeros.
    runs = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * 11, 4, 4]}
    annotations = [
        {
            "id": 10 * k + number,
            "image_id": k,
            "category_id": number + 1,
            "bbox": [0, 0, 6, 6],
            "iscrowd": 0,
            "segmentation": outline,
        }
        for k in range(5)
        for number, outline in enumerate(([small], [big], runs))
    ]
    categories = [
        {"id": 1, "name": "Pop tab", "supercategory": "metal"},
        {"id": 2, "name": "Drink can", "supercategory": "metal"},
        {"id": 3, "name": "Cigarette"},
    ]
    document = {"images": images, "annotations": annotations, "categories": categories}
    put(root / "annotations.json", json.dumps(document).encode())
    for k in range(5):
        put(root / f"{k}.jpg", picture(k) if k != 2 else b"damaged")
    return {"annotations": root / "annotations.json", "images": root}
