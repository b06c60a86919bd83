"""What tests of tuning share: towers of tiny models, pictures, and weights that have been moved."""

from collections.abc import Iterable

import tiny_models
import torch
from torch import nn

from deponij.pipeline.backbones import load
from deponij.pipeline.backbones.contract import Backbone
from deponij.pipeline.tuning.learning import LearningParams, let_learn
from deponij.pipeline.tuning.lora import LoraParams, Role
from deponij.pipeline.tuning.tower import Tower

# Sizes that each family's tower takes beside its own.
OTHER_PX = {
    "open_clip_vit": (48, 32),
    "open_clip_convnext": (96, 64),
    "siglip": (48, 32),
    "siglip2": (48, 48),
    "dinov2": (42, 56),
    "dinov2_registers": (56, 56),
    "timm_vit": (96, 128),
    "timm_resnet": (96, 128),
}


def pixels_for(backbone: Backbone, n: int = 2, seed: int = 1) -> torch.Tensor:
    """Normalised pictures, float32 [n, 3, h, w]."""
    return torch.randn(n, 3, *backbone.description.input_px, generator=torch.Generator().manual_seed(seed))


def tower_of(
    shelf: tiny_models.Shelf,
    name: str,
    params: LearningParams | None = None,
    input_px: tuple[int, int] | None = None,
) -> Tower:
    """A tower of a tiny model; it learns nothing without `params`."""
    tower = Tower(load(str(shelf[name]), input_px=input_px))
    if params is not None:
        let_learn(tower, params)
    return tower


def by_lora(role: Role = "all", rank: int = 2, dora: bool = False) -> LearningParams:
    """Adapters of this role."""
    return LearningParams(lora=LoraParams(rank=rank, alpha=4, targets=role, dora=dora))


def learned(tower: Tower, seed: int = 3) -> Tower:
    """The tower, with all that learns moved by noise, in evaluation mode."""
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in tower.parameters():
            if one.requires_grad:
                one.add_(torch.randn(one.shape, generator=made) * 0.05)
    tower.eval()
    return tower


def step(tower: Tower, optimizer: torch.optim.Optimizer, pixels: torch.Tensor) -> None:
    """One step of a loss that every number of the embedding has a part in."""
    rows = tower(pixels)
    aim = torch.randn(rows.shape, generator=torch.Generator().manual_seed(5))
    optimizer.zero_grad()
    (nn.functional.normalize(rows, dim=-1) * aim).square().sum().backward()
    optimizer.step()


def learning(tower: Tower) -> list[nn.Parameter]:
    """What learns."""
    return [one for one in tower.parameters() if one.requires_grad]


def names_of(model: nn.Module, ones: Iterable[nn.Parameter]) -> set[str]:
    """Their names in a model."""
    wanted = {id(one) for one in ones}
    return {name for name, one in model.named_parameters() if id(one) in wanted}
