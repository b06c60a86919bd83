"""A task of captions with a model of one number, whose pictures are of one colour each."""

from typing import Any

import numpy as np
import torch
from torch import nn

from deponij.pipeline.backbones.transform import Resize, Rounding, Transform
from deponij.project.tuning.caption_task import CaptionTask
from deponij.project.tuning.pictures import Pictures

PX = 4
TRANSFORM = Transform(
    Resize.SQUASH, (PX, PX), "bicubic", None, Rounding.FLOOR, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)


class Means(nn.Module):
    """Embeds a picture as the means of its channels; its texts are frozen."""

    text_learns = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.weight * pixels.mean(dim=(2, 3))


def task_of(targets: list[int], val: list[int], texts: torch.Tensor, batch_size: int = 8) -> CaptionTask:
    """Picture i of all is of the colour `val[i]`, and so is its embedding."""
    n = max(len(targets), len(val))
    pixels = np.zeros((n, PX, PX, 3), np.uint8)
    for row, colour in enumerate(val):
        pixels[row, :, :, colour % 3] = 255
    given: dict[str, Any] = {
        "model": Means(),
        "pictures": Pictures(pixels, {row: row for row in range(n)}, {}),
        "rows": np.arange(len(targets)),
        "targets": np.array(targets),
        "val_rows": np.arange(len(val)),
        "val_targets": np.array(val, np.int64),
        "batch_size": batch_size,
        "transform": TRANSFORM,
        "augmenter": None,
        "seed": 3,
        "identity": "",
        "parts": (),
        "texts": texts,
    }
    return CaptionTask(**given)
