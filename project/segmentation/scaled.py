"""Answers at several sizes: what `deponij segment --scales` does with new pictures, for judging a network that sees them.

Shape letters: n windows, h and w sides in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.backbones.transform import Transform
from deponij.pipeline.segmenting.segmenter import Segmenter, Ways, label_map
from deponij.pipeline.segmenting.windows import Frame, Size
from deponij.project.segmentation.pictures import PictureScenes
from deponij.project.segmentation.task import LabelMap

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class _Seeing:
    """A network of normalised pixels, as a segmenter asks it."""

    model: "nn.Module"
    transform: Transform

    def logits(self, pixels: NDArray[np.uint8], size: Size) -> "Tensor":
        """Windows uint8 [n, h, w, 3] to logits float32 [n, C, *size] on the CPU."""
        import torch

        device = next(self.model.parameters()).device
        batch = torch.from_numpy(np.stack([self.transform.normalise(one) for one in pixels]))
        with torch.inference_mode():
            logits: Tensor = self.model(batch.to(device, memory_format=torch.channels_last), size)
            return logits.float().cpu()


def answers_at(
    model: "nn.Module", source: PictureScenes, ids: Sequence[str], ways: Ways
) -> Iterator[tuple[str, LabelMap, LabelMap]]:
    """(id, label map, answer) of whole pictures, as `deponij.project.segmentation.task.answers` gives them."""
    was_training = model.training
    model.eval()
    segmenter = Segmenter(
        _Seeing(model, source.transform),
        source.transform,
        Frame(source.frame.input_px, source.frame.stride_px),
        n_classes=len(source.scenes.classes),
        ways=ways,
    )
    for one in ids:
        truth = source.scenes.label_map(one)
        height, width = truth.shape
        yield one, truth, label_map(segmenter.grid(source.picture(one)), (height, width))
    model.train(was_training)
