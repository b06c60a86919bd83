"""What all trainings of the minis share: a recipe, a run, the optimizer's steps, batches and lines of progress."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Report = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a mini learns."""

    steps: int
    batch: int
    lr: float
    weight_decay: float = 0.05
    warmup: float = 0.08

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then a cosine to nearly nothing."""
        start = self.warmup * self.steps
        if step < start:
            return self.lr * (step + 1) / start
        return self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - start) / (self.steps - start))))


@dataclass(frozen=True)
class Run:
    """What every training needs besides its recipe.

    Attributes:
        seed: of weights, batches and views.
        bf16: forward passes in bfloat16.
        report: gets a line of progress now and then.
        device: where to train.
    """

    seed: int
    bf16: bool
    report: Report
    device: str = "cpu"
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.generator.manual_seed(self.seed)

    def autocast(self) -> torch.autocast:
        """The precision of forward passes; losses are always float32."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)


class Optimiser:
    """Muon for the blocks' matrices, AdamW for all else (Jordan et al. 2024): small ViTs learn faster by it.

    Muon's steps are scaled to AdamW's (Liu et al. 2025), so that one learning rate serves both.
    """

    def __init__(self, modules: list[nn.Module], recipe: Recipe):
        named = [item for module in modules for item in module.named_parameters()]
        blocks = [p for name, p in named if p.ndim == 2 and "embed" not in name and "proto" not in name]
        chosen = {id(p) for p in blocks}
        rest = [p for _, p in named if id(p) not in chosen]
        self.weights = [*blocks, *rest]
        muon = torch.optim.Muon(
            blocks,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        )
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._parts = (muon, torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98)))

    def descend(self, loss: Tensor, lr: float) -> None:
        """One step down the loss's gradient."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)
            for group in part.param_groups:
                group["lr"] = lr
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        for part in self._parts:
            part.step()  # type: ignore[no-untyped-call]


def batches(recipe: Recipe, n: int, run: Run) -> Iterator[tuple[int, Tensor]]:
    """(step, rows of its batch), epoch after epoch."""
    rows = torch.empty(0, dtype=torch.long)
    for step in range(recipe.steps):
        while len(rows) < recipe.batch:
            rows = torch.cat([rows, torch.randperm(n, generator=run.generator)])
        yield step, rows[: recipe.batch]
        rows = rows[recipe.batch :]


def tell(run: Run, name: str, step: int, recipe: Recipe, loss: float, began_s: float) -> None:
    if step % 20 == 19 or step + 1 == recipe.steps:
        spent_s = time.monotonic() - began_s
        left_s = spent_s / (step + 1) * (recipe.steps - step - 1)
        rate = (step + 1) * recipe.batch / spent_s
        run.report(
            f"{name}: step {step + 1}/{recipe.steps}, loss {loss:.3f}, {rate:.0f} pictures/s, {left_s:.0f} s left"
        )
