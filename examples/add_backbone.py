"""A backbone family of one's own, in a file of one's own: mean colours of a grid, through one linear layer.

    python examples/add_backbone.py make-colours models/colours
    python examples/add_backbone.py run --folder PICTURES --backbone models/colours

A family says which folders are its own, describes them without loading, and opens them. With that its models are
extracted, cached, indexed and learned from like any others. It knows nothing of words, so there is no zero-shot. A
family that everybody should have goes into `pipeline/backbones/families/` as it stands; see CONTRIBUTING.md.

Shape letters: n pictures, d width of an embedding, g cells on a side of the grid.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor, nn

from deponij.pipeline.backbones import Backbone, Description, FeatureMap, weights
from deponij.pipeline.backbones.contract import Location
from deponij.pipeline.backbones.records import from_open_clip
from deponij.pipeline.backbones.registry import register
from deponij.store.errors import BackboneError

RECORD, WEIGHTS = "colours.json", "model.safetensors"
INPUT_PX, PATCH_PX = 64, 8


class Colours(nn.Module):
    """Mean colour of each cell of a grid, and all of them projected."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(PATCH_PX)
        self.project = nn.Linear(3 * (INPUT_PX // PATCH_PX) ** 2, dim)

    def forward(self, batch: Tensor) -> Tensor:
        """float [n, 3, 64, 64] to [n, d]."""
        embedding: Tensor = self.project(self.cells(batch).flatten(1))
        return embedding


@register("colours")
class ColoursFamily(Backbone):
    """Folders with a `colours.json`, which says how wide the embedding is."""

    library = "torch"
    weights_names = (WEIGHTS,)
    other_files = ((RECORD,),)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        """Judged by content, never by a name."""
        return (folder / RECORD).is_file()

    @classmethod
    def describe(cls, location: Location, input_px: tuple[int, int] | None = None) -> Description:
        """What it is, without loading it; all of this goes into the identity of its features."""
        folder = _folder(location)
        if input_px not in (None, (INPUT_PX, INPUT_PX)):
            raise BackboneError(f"{location.name}: its input is {INPUT_PX} x {INPUT_PX} px, got {input_px}")
        dim = int(weights.read_json(folder / RECORD)["dim"])
        transform = from_open_clip({}, (INPUT_PX, INPUT_PX))
        return Description(
            name=location.name,
            family=cls.family,
            architecture=f"colours:{dim}",
            dim=dim,
            text_dim=None,
            input_px=transform.input_px,
            patch_px=PATCH_PX,
            n_blocks=1,
            token_dim=3,
            has_class_token=False,
            transform=transform,
            weights_sha256=weights.sha256_of(weights.find(folder, cls.weights_names)),
            tokenizer_sha256=None,
            source=location.source,
            revision=location.revision,
            library=cls.library,
        )

    @classmethod
    def open(cls, location: Location, description: Description) -> "ColoursFamily":
        """Built and filled exactly; `fill` refuses what is missing or left over."""
        model = Colours(description.dim)
        files = weights.find(_folder(location), cls.weights_names)
        weights.fill(model, weights.read_tensors(files), files)
        return cls(description, model)

    def _embed_images(self, batch: Tensor) -> Tensor:
        embedding: Tensor = self.model(batch)
        return embedding

    def _tokens(self, batch: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
        raise self._no("class token", "tokens")

    def _dense(self, batch: Tensor, blocks: int | None) -> list[FeatureMap]:
        return [FeatureMap("cells", PATCH_PX, self.model.cells(batch))]


def _folder(location: Location) -> Path:
    if location.folder is None:
        raise BackboneError(f"{location.name}: colours need a folder with {RECORD}, not a single file")
    return location.folder


def make(folder: Path, *, dim: int = 32, seed: int = 0) -> Path:
    """A model with random weights, in a folder that the family claims."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    save_file(Colours(dim).state_dict(), folder / WEIGHTS)
    (folder / RECORD).write_text(json.dumps({"dim": dim}))
    return folder


if __name__ == "__main__":
    from deponij.cli import app, main

    @app.command("make-colours")
    def make_colours(folder: Annotated[Path, typer.Argument(help="To write.")], seed: int = 0) -> None:
        """Write a model of the family."""
        make(folder, seed=seed)

    main()
