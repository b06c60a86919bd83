"""How long, how fast and with what optimizer is trained."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["fp32", "bf16", "fp16"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class TrainingParams(BaseModel):
    """Settings of a training; all of them but `pieces` and `compile` shape what comes out.

    Attributes:
        epochs, batch_size: the batch is the task's own to make.
        lr, min_lr: at the begin, and at the end of `cosine` and `poly`.
        schedule: how it falls, step by step: `cosine`, `poly` (to the power of 0.9), or `constant`.
        cycles: how often `cosine` falls, in equal times: with more than 1 it restarts from lr.
        warmup_epochs: in which it rises from nothing; no more than there are.
        optimizer: `adam` (weight decay is part of the gradient), `adamw` (it is not), `sgd` (momentum `betas[0]`).
        precision: of computing on a GPU: `fp32`, `bf16`, `fp16`. A CPU computes in fp32.
        accumulate: batches a step of the optimizer.
        pieces: in which a batch is computed, one after the other, where memory is short. It differs by rounding, and where
            batch norms learn, which see a piece alone.
        clip_norm: largest norm of the gradient, or None.
        keep: weights of the `best` epoch on validation, or the `last`.
        patience: epochs without a better one after which it ends early, or None.
        average: decay of the moving average of the weights, as 0.999, which is then what is validated and kept; or None.
        seed: of dropout and whatever else draws.
        deterministic: only operations of torch's that give the same bits each time, on a GPU too, where they may be
            slower; one that cannot ends the training.
        compile: torch.compile makes the model's steps faster after a while of compiling, and differs by rounding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=20, ge=1, le=100_000)
    batch_size: int = Field(default=4, ge=1)
    lr: float = Field(default=1e-3, gt=0, le=100, allow_inf_nan=False)
    min_lr: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    cycles: int = Field(default=1, ge=1)
    warmup_epochs: float = Field(default=0.0, ge=0)
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    precision: Precision = "fp32"
    accumulate: int = Field(default=1, ge=1)
    pieces: int = Field(default=1, ge=1)
    clip_norm: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    keep: Literal["best", "last"] = "best"
    patience: int | None = Field(default=None, ge=1)
    average: float | None = Field(default=None, gt=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    deterministic: bool = False
    compile: bool = False

    @property
    def shaping(self) -> dict[str, Any]:
        """JSON values of what shapes the weights that come out."""
        return self.model_dump(mode="json", exclude={"pieces", "compile"})

    @model_validator(mode="after")
    def _rises_and_falls(self) -> Self:
        if self.cycles > 1 and self.schedule != "cosine":
            raise ValueError(f"cycles: {self.cycles} is for schedule: cosine, not {self.schedule}")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr: {self.min_lr:g} is where lr: {self.lr:g} falls to, and is above it")
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs: {self.warmup_epochs:g} are more than epochs: {self.epochs}, so that lr is never reached"
            )
        return self

    def lr_at(self, step: int, n_steps: int) -> float:
        """Learning rate of a step of the optimizer, 0 ≤ step < n_steps.

        Cosine as torch's `CosineAnnealingLR` over n_steps, stepped once a step, or, with cycles, as its
        `CosineAnnealingWarmRestarts` with T_0 = n_steps / cycles; warm-up multiplies it.
        """
        done = step / n_steps
        match self.schedule:
            case "cosine":
                done = step * self.cycles % n_steps / n_steps
                rate = self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * done)) / 2
            case "poly":
                rate = self.min_lr + (self.lr - self.min_lr) * (1 - done) ** 0.9
            case "constant":
                rate = self.lr
        n_rising = self.warmup_epochs * n_steps / self.epochs
        return rate * min(1.0, (step + 1) / n_rising) if n_rising >= 1 else rate
