"""What every decoder is. Which there are: `registry`; how learned ones are kept: `saved`.

Shape letters: n pictures, C classes, d width of class vectors; c channels, h and w sides of a map.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deponij.pipeline.cards import Condition, Learned
from deponij.store.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


# Half-precision vectors are of unit length up to here.
_NEARLY = 1e-2


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

    Words' vectors, where the module uses them, are among its buffers; so they are saved with it.

    Attributes:
        kind: its name in the registry.
        title: its name for people.
        learns: whether it has anything to learn.
        uses_words: whether class vectors of words can take the place of learned ones.
        needs_words: whether they must.
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

        Its weights are drawn from torch's generator, and lie channels-last, as CPUs convolve fastest.

        Args:
            levels: finest first; several may have one stride, as the blocks of a plain transformer.
            class_vectors: float32 [C, d] of unit length, which stay as they are; None: learned ones.

        Raises:
            UsageError: it cannot work on these levels, or needs words, or has no use for them.
        """
        import torch

        self.check_params()
        self._check_levels(levels)
        self._check_classes(n_classes, class_vectors)
        return self._build(list(levels), n_classes, class_vectors).to(memory_format=torch.channels_last)

    def _check_levels(self, levels: Sequence[Level]) -> None:
        if not levels:
            raise UsageError(f"{self.title}: there are no maps to learn from")
        strides = [one.stride_px for one in levels]
        if strides != sorted(strides):
            raise UsageError(f"{self.title} takes maps finest first; got strides of {strides} pixels")

    def _check_classes(self, n_classes: int, class_vectors: "Tensor | None") -> None:
        if n_classes < 1:
            raise UsageError(f"{self.title}: there must be a class, got {n_classes}")
        if class_vectors is None:
            if self.needs_words:
                raise UsageError(
                    f"{self.title} compares maps with class vectors of words, and there are none; take a backbone "
                    "with a text tower"
                )
            return
        if class_vectors.ndim != 2 or len(class_vectors) != n_classes:
            raise UsageError(
                f"{self.title}: class vectors of {n_classes} classes are [{n_classes}, d], got {list(class_vectors.shape)}"
            )
        # NaN is not near 1 either.
        if not bool(((class_vectors.norm(dim=1) - 1).abs() < _NEARLY).all()):
            raise UsageError(f"{self.title}: class vectors must be finite and of unit length")

    @abstractmethod
    def _build(self, levels: list[Level], n_classes: int, class_vectors: "Tensor | None") -> "nn.Module": ...


def positive(**values: float | None) -> list[Condition]:
    """That each is above 0, if there is any."""
    return [(one is None or one > 0, f"{name} must be positive, got {one}") for name, one in values.items()]


def numbers_of(model: "nn.Module") -> int:
    """How many weights learn."""
    return sum(int(one.numel()) for one in model.parameters() if one.requires_grad)
