"""Two 1x1 convolutions on the last map, as small as a decoder that learns can be made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from deponij.pipeline.cards import Condition
from deponij.pipeline.decoders.decoder import Decoder, Level, positive
from deponij.pipeline.decoders.layers import OnMaps, Size, classes_of
from deponij.pipeline.decoders.registry import register


@register("adapter")
@dataclass
class Adapter(Decoder):
    """1x1, ReLU, 1x1 into the words' space; cosine over `temperature` after upsampling.

    Attributes:
        width: between the two; None: the last map's channels.
    """

    title: ClassVar[str] = "adapter"

    width: int | None = None
    temperature: float = 0.01

    def _conditions(self) -> Sequence[Condition]:
        return positive(width=self.width, temperature=self.temperature)

    def _build(self, levels: list[Level], n_classes: int, class_vectors: Tensor | None) -> nn.Module:
        n_in = levels[-1].channels
        width = self.width or n_in
        n_out = width if class_vectors is None else int(class_vectors.shape[1])
        adapter = nn.Sequential(nn.Conv2d(n_in, width, 1), nn.ReLU(), nn.Conv2d(width, n_out, 1))
        return _Adapted(
            levels, adapter, classes_of(n_out, n_classes, class_vectors, self.temperature, before=True)
        )


class _Adapted(OnMaps):
    def __init__(self, levels: list[Level], adapter: nn.Module, classes: nn.Module) -> None:
        super().__init__(levels)
        self.adapter, self.classes = adapter, classes

    def logits(self, maps: list[Tensor], size_px: Size) -> Tensor:
        logits: Tensor = self.classes(self.adapter(maps[-1]), size_px)
        return logits
