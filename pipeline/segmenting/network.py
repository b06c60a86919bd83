"""Networks that segment windows: a frozen backbone's maps, and the decoder that makes class scores of them.

Shape letters: n windows, C classes, d width of class vectors, h and w sides of a window in px.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deponij.pipeline.backbones.kinds import Kind, KindName
from deponij.pipeline.decoders.decoder import Level
from deponij.pipeline.segmenting.windows import Size
from deponij.store.errors import BackboneError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from deponij.pipeline.backbones.contract import Backbone, Description

# The last map alone, projected into the space of words.
OF_WORDS = Kind(KindName.PYRAMID, 1)


@dataclass
class Network:
    """From pixels to logits.

    Attributes:
        backbone: its input size is the window's.
        kind: of its maps.
        levels: maps that the decoder takes, finest first.
        decoder: maps [n, c, h', w'] and a size to logits.
    """

    backbone: "Backbone"
    kind: Kind
    levels: tuple[Level, ...]
    decoder: "nn.Module"

    @property
    def stride_px(self) -> int:
        """Of the coarsest map."""
        return max(one.stride_px for one in self.levels)

    def logits(self, pixels: "NDArray[np.uint8]", size: Size) -> "Tensor":
        """Windows uint8 [n, h, w, 3] to logits float32 [n, C, *size] on the CPU."""
        import torch

        with torch.inference_mode():
            batch = self.backbone.normalise(torch.from_numpy(pixels))
            maps = self.kind.compute(self.backbone, batch)
            logits: Tensor = self.decoder([maps[one.name] for one in self.levels], size)
            return logits.float().cpu()


def levels_of(backbone: "Backbone", kind: Kind) -> tuple[Level, ...]:
    """Of the maps of one kind, finest first; the backbone looks at an empty picture for that."""
    import torch

    height, width = backbone.description.input_px
    with torch.inference_mode():
        maps = kind.compute(backbone, torch.zeros(1, 3, height, width))
    return tuple(Level(name, int(one.shape[1]), round(height / one.shape[2])) for name, one in maps.items())


def require_words(told: "Description") -> None:
    """Refuse a backbone that knows no words, before it is loaded.

    Raises:
        BackboneError: it has no text tower.
    """
    if not told.has_text:
        raise BackboneError(
            f"{told.name} ({told.family}) knows no words, so it cannot segment by --classes or --query; take one with a "
            "text tower (`deponij backbones` lists them), or a trained decoder (--model FOLDER)"
        )


def require_projection(backbone: "Backbone") -> None:
    """Refuse a backbone whose maps cannot be compared with words.

    Raises:
        BackboneError: its head is none of single positions.
    """
    told = backbone.description
    if not backbone.can_project:
        raise BackboneError(
            f"{told.name} ({told.family}) compares words with whole pictures only: its head cannot be applied to single "
            "positions; take an OpenCLIP backbone (`deponij backbones`)"
        )


def network_of_words(backbone: "Backbone", vectors: "Tensor") -> Network:
    """Cosine of the last map with words, over CLIP's temperature.

    Args:
        vectors: float32 [C, d] of unit length.

    Raises:
        BackboneError: it knows no words, or its maps cannot be compared with them.
    """
    require_words(backbone.description)
    require_projection(backbone)
    from deponij.pipeline.decoders.registry import decoder_class

    levels = levels_of(backbone, OF_WORDS)
    module = decoder_class("bilinear")().build(levels, len(vectors), vectors)
    return Network(backbone, OF_WORDS, levels, module.eval().to(backbone.device))


def vectors_of_words(texts: Sequence[Sequence[str]], embed: "Callable[[Sequence[str]], Tensor]") -> "Tensor":
    """One direction for each class of its texts, float32 [C, d]: normalise, average, normalise (CLIP's zero-shot).

    Raises:
        UsageError: a class without texts.
    """
    import torch
    from torch.nn.functional import normalize

    if not texts or not all(texts):
        raise UsageError("every class needs a text")
    rows = normalize(embed([one for of_class in texts for one in of_class]).float(), dim=1)
    means = [part.mean(dim=0) for part in torch.split(rows, [len(of_class) for of_class in texts])]
    return normalize(torch.stack(means), dim=1)
