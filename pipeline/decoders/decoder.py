"""What every decoder is. Which there are: `registry`; how learned ones are kept: `saved`.

Shape letters: n pictures, C classes, d width of class vectors; c channels, h and w sides of a map.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deponij.pipeline.cards import Learned
from deponij.store.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Level:
    """One map of a pyramid.

    Attributes:
        stride_px: input pixels per cell.
    """

    name: str
    channels: int
    stride_px: int


class Decoder(Learned, ABC):
    """The settings of a decoder, a dataclass; `build` makes the module that learns.

    Attributes:
        kind: its name in the registry. title: its name for people.
        learns: whether it has anything to learn.
        uses_words: whether class vectors of words can take the place of learned ones. needs_words: whether they must.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    learns: ClassVar[bool] = True
    uses_words: ClassVar[bool] = True
    needs_words: ClassVar[bool] = False
    apply: ClassVar[str] = "the module that `build` makes of params, levels and classes, with these weights"

    def build(
        self, levels: Sequence[Level], n_classes: int, class_vectors: "Tensor | None" = None
    ) -> "nn.Module":
        """The module: forward(maps [n, c, h, w] each, finest first, size_px) -> logits [n, C, *size_px].

        Its weights are drawn from torch's generator.

        Args:
            class_vectors: float32 [C, d] of unit length, which stay as they are; None: learned ones.

        Raises:
            UsageError: it cannot work on these levels, or needs words, or has no use for them.
        """
        self.check_params()
        if not levels:
            raise UsageError(f"{self.title}: there are no maps to learn from")
        if class_vectors is None and self.needs_words:
            raise UsageError(
                f"{self.title} compares maps with class vectors of words, and there are none; take a backbone with a "
                "text tower"
            )
        return self._build(list(levels), n_classes, class_vectors)

    @abstractmethod
    def _build(self, levels: list[Level], n_classes: int, class_vectors: "Tensor | None") -> "nn.Module": ...


def numbers_of(model: "nn.Module") -> int:
    """How many weights learn."""
    return sum(int(one.numel()) for one in model.parameters() if one.requires_grad)

