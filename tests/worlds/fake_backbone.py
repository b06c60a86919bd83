"""A family of tiny models that imports nothing but torch, for tests of everything around the model.

Its rows depend, a little and on purpose, on which pictures share a batch: what meets other batches
after a kill, or other pictures, does not give the same bytes.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from deponij.pipeline.backbones import Backbone, Description, FeatureMap, registry
from deponij.pipeline.backbones.contract import Location
from deponij.pipeline.backbones.records import from_open_clip
from deponij.pipeline.backbones.remember import sha256_of_file

FAMILY = "made_up"
RECORD = "made_up.json"
INPUT_PX = 16
DIM = 6


def make(folder: Path, *, seed: int = 0, scale: float = 1.0, has_text: bool = True) -> Path:
    """A model's folder; scale: of its embeddings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps({"seed": seed, "scale": scale, "has_text": has_text}))
    return folder


@contextmanager
def registered() -> Iterator[None]:
    """The family is known within the block."""
    registry.register(FAMILY)(Fake)
    try:
        yield
    finally:
        registry.unregister(FAMILY)


class Fake(Backbone):
    """Patches of 8 px through one convolution, their mean through one linear layer."""

    library = "numpy"
    weights_names = (RECORD,)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        return (folder / RECORD).is_file()

    @classmethod
    def describe(cls, location: Location, input_px: tuple[int, int] | None = None) -> Description:
        transform = from_open_clip({}, (INPUT_PX, INPUT_PX))
        transform = transform.for_input(*input_px) if input_px else transform
        assert location.folder is not None
        record = json.loads((location.folder / RECORD).read_text())
        return Description(
            name=location.name,
            family=cls.family,
            architecture="made_up:1",
            dim=DIM,
            text_dim=DIM if record["has_text"] else None,
            input_px=transform.input_px,
            patch_px=8,
            n_blocks=3,
            token_dim=8,
            has_class_token=True,
            transform=transform,
            weights_sha256=sha256_of_file(location.folder / RECORD),
            tokenizer_sha256="1" * 64 if record["has_text"] else None,
            source=location.source,
            revision=location.revision,
            library=cls.library,
        )

    @classmethod
    def open(cls, location: Location, description: Description) -> "Fake":
        assert location.folder is not None
        record = json.loads((location.folder / RECORD).read_text())
        generator = torch.Generator().manual_seed(record["seed"])
        model = nn.ModuleDict({"patches": nn.Conv2d(3, 8, 8, stride=8), "head": nn.Linear(8, DIM)})
        for tensor in model.parameters():
            tensor.data = torch.randn(tensor.shape, generator=generator)
        model["head"].weight.data *= record["scale"]
        return cls(description, model)

    def _embed_images(self, batch: Tensor) -> Tensor:
        rows = self.model["head"](self.model["patches"](batch).tanh().mean(dim=(2, 3)))
        return rows + rows.mean(dim=0) / 1000

    def _embed_texts(self, texts: list[str]) -> Tensor:
        counts = [[float(text.count(letter)) for letter in "aeiou "] for text in texts]
        return torch.tensor(counts) + torch.arange(1, DIM + 1) / 10

    def _tokens(self, batch: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
        patches = self.model["patches"](batch).flatten(2).transpose(1, 2)
        return [(patches[:, 0] * i, patches * i) for i in range(1, blocks + 1)]

    def _dense(self, batch: Tensor, blocks: int | None) -> list[FeatureMap]:
        return [
            FeatureMap(f"block{i}", 8, self.model["patches"](batch) * (i + 1)) for i in range(blocks or 1)
        ]
