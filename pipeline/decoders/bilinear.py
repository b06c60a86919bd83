"""Nothing learned: the last map compared with words, and upsampled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from deponij.pipeline.cards import Condition
from deponij.pipeline.decoders.decoder import Decoder, Level, positive
from deponij.pipeline.decoders.layers import ClassCosine, OnMaps, Size
from deponij.pipeline.decoders.registry import register
from deponij.store.errors import UsageError


@register("bilinear")
@dataclass
class Bilinear(Decoder):
    """Cosine of the last map's upsampled features with the words' vectors, over `temperature`.

    Only a map that the backbone projects into the space of its words can be compared with them.
    """

    title: ClassVar[str] = "bilinear upsampling"
    learns: ClassVar[bool] = False
    needs_words: ClassVar[bool] = True

    temperature: float = 0.01

    def _conditions(self) -> Sequence[Condition]:
        return positive(temperature=self.temperature)

    def _build(self, levels: list[Level], n_classes: int, class_vectors: Tensor | None) -> nn.Module:
        assert class_vectors is not None  # `build` has seen to it
        if levels[-1].channels != class_vectors.shape[1]:
            raise UsageError(
                f"{self.title}: the last map has {levels[-1].channels} channels and words {class_vectors.shape[1]}; store "
                "`pyramid@K`, whose last map is projected into the words' space"
            )
        return _Nearest(levels, ClassCosine(class_vectors, self.temperature, before=True))


class _Nearest(OnMaps):
    def __init__(self, levels: list[Level], classes: ClassCosine) -> None:
        super().__init__(levels)
        self.classes = classes

    def logits(self, maps: list[Tensor], size_px: Size) -> Tensor:
        logits: Tensor = self.classes(maps[-1], size_px)
        return logits
