"""Linear decoders: what the maps hold without anything but weights on their channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from deponij.pipeline.cards import Condition
from deponij.pipeline.decoders.decoder import Decoder, Level
from deponij.pipeline.decoders.layers import OnMaps, Size, resized
from deponij.pipeline.decoders.registry import register


@register("linear")
@dataclass
class Linear(Decoder):
    """A batch norm and a linear layer for each level, logits upsampled and added; no words.

    Attributes:
        joined: one batch norm and one layer on all levels side by side at the finest one's size, as DINOv2's
            `linear_head.py` joins blocks.
    """

    title: ClassVar[str] = "linear"
    uses_words: ClassVar[bool] = False

    joined: bool = False

    def _conditions(self) -> Sequence[Condition]:
        return []

    def _build(self, levels: list[Level], n_classes: int, class_vectors: Tensor | None) -> nn.Module:
        return (_Joined if self.joined else _Each)(levels, n_classes)


class _Each(OnMaps):
    def __init__(self, levels: list[Level], n_classes: int) -> None:
        super().__init__(levels)
        self.heads = nn.ModuleList(_head(one.channels, n_classes) for one in levels)

    def logits(self, maps: list[Tensor], size_px: Size) -> Tensor:
        parts = [head(one) for head, one in zip(self.heads, maps, strict=True)]
        logits = parts.pop()
        while parts:
            finer = parts.pop()
            logits = finer + resized(logits, finer.shape[-2:])
        return resized(logits, size_px)


class _Joined(OnMaps):
    def __init__(self, levels: list[Level], n_classes: int) -> None:
        super().__init__(levels)
        self.head = _head(sum(one.channels for one in levels), n_classes)

    def logits(self, maps: list[Tensor], size_px: Size) -> Tensor:
        joined = torch.cat([resized(one, maps[0].shape[-2:]) for one in maps], dim=1)
        return resized(self.head(joined), size_px)


def _head(n_channels: int, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(n_channels), nn.Conv2d(n_channels, n_classes, 1))
