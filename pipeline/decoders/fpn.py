"""A light feature pyramid network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from deponij.pipeline.cards import Condition
from deponij.pipeline.decoders.decoder import Decoder, Level, positive
from deponij.pipeline.decoders.layers import OnMaps, Size, Unit, classes_of, resized
from deponij.pipeline.decoders.registry import register


@register("fpn")
@dataclass
class FeaturePyramid(Decoder):
    """Top-down sums of lateral 1x1 layers, each mixed by a 3x3 convolution (Lin et al. 2017), classes on the finest.

    Attributes:
        width: of all of it.
        dropout: share of channels left out before the classes.
        temperature: of words, compared as LSeg compares them.
    """

    title: ClassVar[str] = "feature pyramid"

    width: int = 64
    dropout: float = 0.0
    temperature: float = 0.07

    def _conditions(self) -> Sequence[Condition]:
        return [
            *positive(width=self.width, temperature=self.temperature),
            (0 <= self.dropout < 1, f"dropout is a share below 1, got {self.dropout}"),
        ]

    def _build(self, levels: list[Level], n_classes: int, class_vectors: Tensor | None) -> nn.Module:
        return _Pyramid(self, levels, n_classes, class_vectors)


class _Pyramid(OnMaps):
    def __init__(
        self, settings: FeaturePyramid, levels: list[Level], n_classes: int, vectors: Tensor | None
    ) -> None:
        super().__init__(levels)
        width = settings.width
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(one.channels), nn.Conv2d(one.channels, width, 1)) for one in levels
        )
        self.mixes = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in levels
        )
        self.dropout = nn.Dropout2d(settings.dropout)
        n_out = width if vectors is None else int(vectors.shape[1])
        self.bring = nn.Identity() if n_out == width else Unit(width, n_out)
        self.classes = classes_of(n_out, n_classes, vectors, settings.temperature, before=False)

    def logits(self, maps: list[Tensor], size_px: Size) -> Tensor:
        sides = [lateral(one) for lateral, one in zip(self.laterals, maps, strict=True)]
        values = self.mixes[-1](sides[-1])
        for mix, side in reversed(list(zip(self.mixes[:-1], sides[:-1], strict=True))):
            values = mix(side + resized(values, side.shape[-2:]))
        logits: Tensor = self.classes(self.bring(self.dropout(values)), size_px)
        return logits
