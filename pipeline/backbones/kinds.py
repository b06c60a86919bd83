"""Kinds of feature: what a backbone is asked for, under the name that a feature's identity carries.

- `embedding`: the model's own picture vector, array `embedding` [n, d].
- `tokens@K`: class token and mean patch token of the last K blocks, array `tokens` [n, K, 2, d].
- `dense@K`: feature maps, arrays named by the backbone (`stride4`, …), each [n, C, h, w]; K is the
  number of last blocks for plain ViTs. They are large, so they stay in the depot and views name them.
- `text`: vectors of texts; made by `extract-text`, not from pictures.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from deponij.store.errors import UsageError

if TYPE_CHECKING:
    import torch

    from deponij.pipeline.backbones.contract import Backbone


class KindName(StrEnum):
    """The kinds that pictures have."""

    EMBEDDING = "embedding"
    TOKENS = "tokens"
    DENSE = "dense"


TEXT = "text"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind with its number of blocks (1 where it has none)."""

    name: KindName
    blocks: int = 1

    @classmethod
    def parse(cls, text: str) -> "Kind":
        """Parse `embedding`, `tokens`, `tokens@4`, `dense`, `dense@2`.

        Raises:
            UsageError: unknown name or number.
        """
        match = re.fullmatch(r"(\w+)(?:@(\d+))?", text)
        names = [str(name) for name in KindName]
        if match is None or match[1] not in names or (match[2] and not 1 <= int(match[2]) <= 64):
            raise UsageError(
                f"unknown kind of feature {text!r}; allowed: {', '.join(names)}, with @K for K last blocks"
            )
        name = KindName(match[1])
        if name is KindName.EMBEDDING and match[2]:
            raise UsageError("an embedding has no blocks; use tokens@K")
        return cls(name, int(match[2] or 1))

    def __str__(self) -> str:
        return str(self.name) if self.name is KindName.EMBEDDING else f"{self.name}@{self.blocks}"

    @property
    def in_view(self) -> bool:
        """Whether a view holds the vectors themselves."""
        return self.name is not KindName.DENSE

    @property
    def default_dtype(self) -> str:
        """How rows are stored unless asked otherwise."""
        return "float16" if self.name is KindName.DENSE else "float32"

    def compute(self, model: "Backbone", batch: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """Run the model on float32 [n, 3, h, w]; name -> [n, …]."""
        if self.name is KindName.EMBEDDING:
            return {"embedding": model.embed_images(batch)}
        if self.name is KindName.TOKENS:
            return {"tokens": model.tokens(batch, blocks=self.blocks)}
        return {level.name: level.values for level in model.dense(batch, blocks=self.blocks)}
