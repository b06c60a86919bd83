"""Kinds of feature: what a backbone is asked for, under the name that a feature's identity carries.

- `embedding`: the model's own picture vector, array `embedding` [n, d].
- `tokens@K`: class token and mean patch token of the last K blocks, array `tokens` [n, K, 2, d].
- `dense@K`: feature maps as the backbone names them (`block11`, `stage4`), each [n, C, h, w]; K is the
  number of last blocks or stages.
- `pyramid@K`: the same for decoders, finest first, arrays named by their strides: `stride4`, `stride8`, … of
  convolutional towers; `stride14_block10`, `stride14_block11` of plain ViTs. The last one is projected at each position
  into the space that pictures and words share, where the family knows words and its head is one of single positions.
- `dense@K+flip`, `pyramid@K+flip`: maps of the picture mirrored left to right, in mirrored coordinates.
- `text`: vectors of texts; made by `extract-text`, not from pictures.

Maps are large, so they stay in the depot and views name them.
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from deponij.store.errors import UsageError

if TYPE_CHECKING:
    import torch

    from deponij.pipeline.backbones.contract import Backbone, FeatureMap


class KindName(StrEnum):
    """The kinds that pictures have."""

    EMBEDDING = "embedding"
    TOKENS = "tokens"
    DENSE = "dense"
    PYRAMID = "pyramid"


TEXT = "text"
# Stages of a convolutional tower at strides 4, 8, 16 and 32.
_PYRAMID_LEVELS = 4
_FLIP = "+flip"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind with its number of blocks (1 where it has none).

    Attributes:
        flip: of the mirrored picture; of maps only.
    """

    name: KindName
    blocks: int = 1
    flip: bool = False

    @classmethod
    def parse(cls, text: str) -> "Kind":
        """Parse `embedding`, `tokens`, `tokens@4`, `dense@2`, `pyramid`, `pyramid@5+flip`.

        Raises:
            UsageError: unknown name or number, or a flip of what has no place.
        """
        match = re.fullmatch(r"(\w+)(?:@(\d+))?(\+flip)?", text)
        names = [str(name) for name in KindName]
        if match is None or match[1] not in names or (match[2] and not 1 <= int(match[2]) <= 64):
            raise UsageError(
                f"unknown kind of feature {text!r}; allowed: {', '.join(names)}, with @K for K last blocks, and "
                f"{_FLIP} behind maps for those of the mirrored picture"
            )
        name = KindName(match[1])
        if name is KindName.EMBEDDING and match[2]:
            raise UsageError("an embedding has no blocks; use tokens@K")
        kind = cls(name, int(match[2] or (_PYRAMID_LEVELS if name is KindName.PYRAMID else 1)))
        return kind.flipped() if match[3] else kind

    def __str__(self) -> str:
        if self.name is KindName.EMBEDDING:
            return str(self.name)
        return f"{self.name}@{self.blocks}{_FLIP if self.flip else ''}"

    def flipped(self) -> "Kind":
        """The same of mirrored pictures.

        Raises:
            UsageError: it is no kind of map.
        """
        if self.in_view:
            raise UsageError(f"{self} is no map; {_FLIP} goes with dense@K and pyramid@K")
        return replace(self, flip=True)

    @property
    def in_view(self) -> bool:
        """Whether a view holds the vectors themselves."""
        return self.name not in (KindName.DENSE, KindName.PYRAMID)

    @property
    def default_dtype(self) -> str:
        """How rows are stored unless asked otherwise."""
        return "float32" if self.in_view else "float16"

    def compute(self, model: "Backbone", batch: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """Run the model on float32 [n, 3, h, w]; name -> [n, …]."""
        if self.name is KindName.EMBEDDING:
            return {"embedding": model.embed_images(batch)}
        if self.name is KindName.TOKENS:
            return {"tokens": model.tokens(batch, blocks=self.blocks)}
        maps = model.dense(batch.flip(-1) if self.flip else batch, blocks=self.blocks)
        if self.name is KindName.DENSE:
            return {one.name: one.values for one in maps}
        return _pyramid(model, maps)


def _pyramid(model: "Backbone", maps: "list[FeatureMap]") -> "dict[str, torch.Tensor]":
    """Maps named by stride, the last one projected where it can be."""
    n_with = Counter(one.stride_px for one in maps)
    is_grid = model.description.patch_px is not None
    levels = {
        f"stride{one.stride_px}"
        + (f"_{one.name}" if is_grid or n_with[one.stride_px] > 1 else ""): one.values
        for one in maps
    }
    if model.description.has_text and model.can_project:
        last = list(levels)[-1]
        levels[last] = model.project(levels[last])
    return levels
