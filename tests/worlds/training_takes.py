"""What a process is seen to take for two steps of a training: `python training_takes.py {pages,each} NAME N PX`.

Prints bytes beyond the loaded model. `pages`: with the heap as every process of Deponij has it; `each`: the caller has told
glibc to map each array by itself, so that what is resident is what lives.
"""

import sys
from collections.abc import Iterator
from typing import Any

import timm
import torch
from torch import Tensor, nn

from deponij.pipeline.training.costs import PeakMemory
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import ParameterGroup
from deponij.pipeline.training.weights import optimizer_of
from deponij.project.frame.allocator import keep_pages

PARAMS = TrainingParams(keep="last", optimizer="adamw")


class Classify:
    """A network of timm's with random weights, and random pictures."""

    identity = "classify"

    def __init__(self, name: str, px: int) -> None:
        torch.manual_seed(0)
        more = {"img_size": px} if "vit" in name else {}
        self.model: nn.Module = timm.create_model(name, num_classes=10, **more)
        self.px = px

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(list(self.model.parameters()))]

    def n_batches(self) -> int:
        return 1

    def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
        yield self.batch(2)

    def batch(self, n: int) -> list[Tensor]:
        return [torch.randn(n, 3, self.px, self.px), torch.zeros(n, dtype=torch.int64)]

    def loss(self, batch: Any) -> Tensor:
        pictures, labels = batch
        return nn.functional.cross_entropy(self.model(pictures), labels)

    def counts(self, batch: Any) -> float:
        return len(batch[0])

    def validate(self) -> dict[str, float]:
        return {}


def main(how: str, name: str, n: str, px: str) -> None:
    if how == "pages":
        keep_pages()
    torch.set_num_threads(1)
    task = Classify(name, int(px))

    def steps(size: int, times: int) -> None:
        optimizer = optimizer_of(task.groups(), PARAMS)
        for _ in range(times):
            task.loss(task.batch(size)).backward()
            optimizer.step()
            optimizer.zero_grad()

    # Libraries come into memory.
    steps(2, 1)
    with PeakMemory("cpu") as peak:
        steps(int(n), 2)
    print(peak.n_bytes)


if __name__ == "__main__":
    main(*sys.argv[1:])
