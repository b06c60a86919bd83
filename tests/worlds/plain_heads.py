"""One head after another, as anyone would write it in PyTorch: modules, autograd, optimisers, schedulers.

What the batched computation must equal. It shares nothing with it but the order of batches.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from deponij.pipeline.heads.gradient.recipe import GridPoint, Recipe, batches


@dataclass
class Plain:
    """A trained module and its history; `val_loss` belongs to the kept weights."""

    module: nn.Module
    val_losses: list[float]
    val_loss: float
    best_epoch: int
    n_epochs: int

    def weights(self) -> list[np.ndarray]:
        """Of each layer [out, in + 1], the last column is the bias."""
        layers = [layer for layer in self.module.modules() if isinstance(layer, nn.Linear)]
        return [torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().numpy() for layer in layers]


def make(kind: str, dim: int, n_classes: int, seed: int, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(seed)
    if kind == "linear":
        return nn.Linear(dim, n_classes).to(dtype)
    return nn.Sequential(nn.Linear(dim, 512), nn.GELU(), nn.Linear(512, n_classes)).to(dtype)


def fit_plain(
    point: GridPoint,
    x: np.ndarray,
    codes: np.ndarray,
    x_val: np.ndarray,
    codes_val: np.ndarray,
    recipe: Recipe,
) -> Plain:
    """Train one head; class numbers of training are 0 to C - 1, of validation -1 for others."""
    n_classes = int(codes.max()) + 1
    counts = np.bincount(codes)
    data, truth = torch.from_numpy(x), torch.from_numpy(codes)
    known = np.flatnonzero(codes_val >= 0)
    data_val, truth_val = torch.from_numpy(x_val[known]), torch.from_numpy(codes_val[known])
    module = make(point.kind, x.shape[1], n_classes, point.seed, data.dtype)
    weight = offset = None
    if point.balance == "class-weights":
        weight = torch.from_numpy(len(codes) / (n_classes * counts)).to(data.dtype)
    if point.balance == "balanced-softmax":
        offset = point.tau * torch.from_numpy(np.log(counts / len(codes))).to(data.dtype)

    def loss_of(rows: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        logits = module(rows)
        return nn.functional.cross_entropy(logits if offset is None else logits + offset, answers, weight)

    if recipe.optimiser == "adamw":
        optimiser = torch.optim.AdamW(module.parameters(), lr=point.lr, weight_decay=point.weight_decay)
    else:
        optimiser = torch.optim.SGD(
            module.parameters(), lr=point.lr, momentum=recipe.momentum, weight_decay=point.weight_decay
        )
    n_steps = recipe.steps_per_epoch or math.ceil(len(codes) / recipe.batch)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, T_max=recipe.epochs * (n_steps if recipe.per_step else 1), eta_min=recipe.final_lr
    )
    order = batches(point.seed, len(codes), recipe)
    best, best_state, losses, waited = math.inf, None, [], 0
    best_epoch = 0
    for epoch in range(1, recipe.epochs + 1):
        for _ in range(n_steps):
            rows = torch.from_numpy(next(order))
            optimiser.zero_grad()
            loss_of(data[rows], truth[rows]).backward()
            optimiser.step()
            if recipe.per_step:
                scheduler.step()
        if not recipe.per_step:
            scheduler.step()
        with torch.no_grad():
            losses.append(float(loss_of(data_val, truth_val)) if len(known) else math.nan)
        waited += 1
        if losses[-1] < best or recipe.keep == "last" or not len(known):
            waited = 0 if losses[-1] < best or not len(known) else waited
            best, best_epoch = min(best, losses[-1]), epoch
            best_state = copy.deepcopy(module.state_dict())
        if recipe.patience is not None and waited >= recipe.patience:
            break
    assert best_state is not None
    module.load_state_dict(best_state)
    return Plain(module, losses, losses[best_epoch - 1], best_epoch, len(losses))
