"""A small training to interrupt, and the process that is killed in it.

python training_toy.py FOLDER        trains, keeps checkpoints in FOLDER/checkpoint after each step of the optimizer,
                                     says every step, and ends with FOLDER/weights.safetensors and history.json
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deponij.pipeline.training.loop import Step, train
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import ParameterGroup


class Toy:
    """Regression of three numbers by a small network with dropout."""

    accumulates = True

    def __init__(self, *, dropout: float = 0.0, n_batches: int = 6, size: int = 8, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model: nn.Module = nn.Sequential(
            nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(dropout), nn.Linear(7, 3)
        )
        self.identity = f"toy {dropout} {n_batches} {size}"
        self.size, self._n = size, n_batches
        self.figures: list[float] = []
        self.fail_at: tuple[int, int] | None = None
        self.scale = 1.0

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(list(self.model.parameters()))]

    def n_batches(self) -> int:
        return self._n

    def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
        for number in range(first, self._n):
            if self.fail_at == (epoch, number):
                raise RuntimeError("pulled the plug")
            yield self.batch(torch.Generator().manual_seed(1000 * epoch + number))

    def batch(self, made: torch.Generator) -> list[Tensor]:
        x = torch.randn(self.size, 5, generator=made)
        return [x, torch.stack([x[:, 0], x[:, 1] * x[:, 2], x.sum(1)], dim=1)]

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.model(x), y) * self.scale

    def counts(self, batch: Any) -> float:
        return len(batch[0])

    def validate(self) -> dict[str, float]:
        x, y = next(self.batches(10**6))
        with torch.no_grad():
            return {"minus_loss": -float(nn.functional.mse_loss(self.model(x), y))}


PARAMS = TrainingParams(epochs=4, batch_size=8, lr=0.02, min_lr=1e-4, weight_decay=0.01, keep="last")


def weights(toy: Toy) -> list[Tensor]:
    return [one.detach().clone() for one in toy.model.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Pictures(Toy):
    """The same of small pictures: convolutions with their channels last in memory."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        torch.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(6, 3, 3)
        ).to(memory_format=torch.channels_last)
        self.identity = "pictures"

    def batch(self, made: torch.Generator) -> list[Tensor]:
        x = torch.randn(4, 3, 9, 8, generator=made)
        return [x, x[..., 2:-2, 2:-2].roll(1, 1)]


ALL_AT_ONCE = TrainingParams(
    epochs=5,
    batch_size=4,
    lr=0.01,
    accumulate=2,
    clip_norm=1.0,
    warmup_epochs=1.0,
    average=0.9,
    keep="best",
)
STEP_S = 0.02


def main(folder: Path) -> None:
    """See the module."""

    def told(step: Step) -> None:
        print(step.done, flush=True)
        time.sleep(STEP_S)

    task = Pictures()
    training = train(
        task,
        ALL_AT_ONCE,
        n_threads=1,
        checkpoint=folder / "checkpoint",
        checkpoint_s=0,
        on_step=told,
        on_note=lambda note: print(f"note: {note}", flush=True),
    )
    save_file(
        {name: one.contiguous() for name, one in task.model.state_dict().items()},
        folder / "weights.safetensors",
    )
    told_of = {"kept": training.kept, "history": [asdict(one) for one in training.history]}
    (folder / "history.json").write_text(json.dumps(told_of))


if __name__ == "__main__":
    # Where the tests run in a shell's background, Ctrl-C is ignored by all that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(Path(sys.argv[1]))
