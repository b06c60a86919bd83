"""Kombol's decoder (2023): SwiftNet's single-scale one, whose answer is compared with words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from deponij.pipeline.cards import Condition
from deponij.pipeline.decoders.decoder import Decoder, Level, positive
from deponij.pipeline.decoders.layers import Blend, OnMaps, Size, SpatialPyramidPooling, Unit, classes_of
from deponij.pipeline.decoders.registry import register


@register("swiftnet")
@dataclass
class SwiftNet(Decoder):
    """Pyramid pooling on the last map, a blend with each finer one, features upsampled and compared with words.

    On ConvNeXt-B's levels (128, 256, 512, 640 channels) 15.25 million weights; 13.04 with a level width of 160.

    Attributes:
        width: of the blends; None: that of the words (or 128 without).
        pooled: of the pooled map.
        level_width: of each grid; None: as `width`.
        grids: rows of each grid.
        temperature: of the cosine with words.
    """

    title: ClassVar[str] = "SwiftNet-like"

    width: int | None = None
    pooled: int = 512
    level_width: int | None = None
    grids: tuple[int, ...] = (6, 3, 2, 1)
    temperature: float = 0.01

    def _conditions(self) -> Sequence[Condition]:
        return [
            *positive(
                width=self.width,
                pooled=self.pooled,
                level_width=self.level_width,
                temperature=self.temperature,
            ),
            (
                bool(self.grids) and all(one > 0 for one in self.grids),
                f"grids are counts of rows, got {self.grids}",
            ),
        ]

    def _build(self, levels: list[Level], n_classes: int, class_vectors: Tensor | None) -> nn.Module:
        return _SwiftNet(self, levels, n_classes, class_vectors)


class _SwiftNet(OnMaps):
    def __init__(
        self, settings: SwiftNet, levels: list[Level], n_classes: int, vectors: Tensor | None
    ) -> None:
        super().__init__(levels)
        n_out = None if vectors is None else int(vectors.shape[1])
        width = settings.width or n_out or 128
        self.pyramid = SpatialPyramidPooling(
            levels[-1].channels, settings.pooled, settings.level_width or width, width, settings.grids
        )
        self.blends = nn.ModuleList(Blend(one.channels, width) for one in reversed(levels[:-1]))
        self.bring = nn.Identity() if n_out in (None, width) else Unit(width, n_out)
        self.classes = classes_of(n_out or width, n_classes, vectors, settings.temperature, before=True)

    def logits(self, maps: list[Tensor], size_px: Size) -> Tensor:
        values = self.pyramid(maps[-1])
        for blend, skip in zip(self.blends, reversed(maps[:-1]), strict=True):
            values = blend(values, skip)
        logits: Tensor = self.classes(self.bring(values), size_px)
        return logits
