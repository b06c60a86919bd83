"""Label maps as a COCO annotation file: one annotation a class and picture, as run lengths. No stage."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deponij.services.segment.files import MADE_BY, is_made_here
from deponij.store.atomic import write_bytes
from deponij.store.errors import UsageError
from deponij.store.label_maps import SceneClass


class CocoFile:
    """Collects annotations; categories have the label maps' numbers plus 1, as COCO counts from 1.

    Args:
        path: to write.

    Raises:
        UsageError: a file is there that this command did not write.
    """

    def __init__(self, path: Path, classes: Sequence[SceneClass]) -> None:
        if path.exists() and not is_made_here(path):
            raise UsageError(
                f"--coco is a file to write, and {path} is there and was not made by `{MADE_BY}`; name another one"
            )
        self.path = path
        self._categories: list[dict[str, Any]] = [
            {"id": number, "name": one.name, "supercategory": ""} for number, one in enumerate(classes, 1)
        ]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, path: str, labels: NDArray[np.uint8]) -> None:
        """Annotations of one picture's label map [h, w]."""
        from pycocotools import mask

        height, width = labels.shape
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": path, "width": width, "height": height})
        for category in self._categories:
            is_class = labels == category["id"] - 1
            if not is_class.any():
                continue
            runs = mask.encode(np.asfortranarray(is_class.astype(np.uint8)))
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": category["id"],
                    "segmentation": {"size": [height, width], "counts": runs["counts"].decode()},
                    "area": int(is_class.sum()),
                    "bbox": [float(value) for value in mask.toBbox(runs)],
                    "iscrowd": 0,
                }
            )

    def write(self) -> None:
        """Write it.

        Raises:
            StoreError: it cannot be written.
        """
        value = {
            "info": {"description": MADE_BY},
            "images": self._images,
            "annotations": self._annotations,
            "categories": self._categories,
        }
        write_bytes(self.path, json.dumps(value, ensure_ascii=False).encode())
