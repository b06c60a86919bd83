"""A linear map of all levels into the words' space, as LSeg compares pixels with words (Li et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from deponij.pipeline.cards import Condition
from deponij.pipeline.decoders.decoder import Decoder, Level, positive
from deponij.pipeline.decoders.layers import ClassCosine, OnMaps, Size, resized
from deponij.pipeline.decoders.registry import register


@register("lseg")
@dataclass
class LSeg(Decoder):
    """Pixels and words are normalised and compared, cosine over `temperature`; logits are upsampled, not features.

    Attributes:
        width: of the space where class vectors are learned; words have one of their own.
        temperature: 0.07 as in `lseg_net.py`, where it is fixed.
    """

    title: ClassVar[str] = "LSeg-like"

    width: int = 128
    temperature: float = 0.07

    def _conditions(self) -> Sequence[Condition]:
        return positive(width=self.width, temperature=self.temperature)

    def _build(self, levels: list[Level], n_classes: int, class_vectors: Tensor | None) -> nn.Module:
        learned = class_vectors is None
        vectors = (
            normalize(torch.randn(n_classes, self.width), dim=1) if class_vectors is None else class_vectors
        )
        return _Compared(levels, ClassCosine(vectors, self.temperature, before=False, learned=learned))


class _Compared(OnMaps):
    def __init__(self, levels: list[Level], classes: ClassCosine) -> None:
        super().__init__(levels)
        width = int(classes.vectors.shape[1])
        self.heads = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(one.channels), nn.Conv2d(one.channels, width, 1)) for one in levels
        )
        self.classes = classes

    def logits(self, maps: list[Tensor], size_px: Size) -> Tensor:
        parts = [head(one) for head, one in zip(self.heads, maps, strict=True)]
        values = parts.pop()
        while parts:
            finer = parts.pop()
            values = finer + resized(values, finer.shape[-2:])
        logits: Tensor = self.classes(values, size_px)
        return logits
