"""Which of a model's tensors a training changes, optimizers by name, and weights averaged over steps."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import ParameterGroup

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def changing(model: "nn.Module") -> "dict[str, Tensor]":
    """Of the model's state what a training may change: weights that learn, and all buffers (moments of batch norms)."""
    frozen = _frozen(model)
    return {name: one for name, one in model.state_dict().items() if name not in frozen}


def frozen_sha256(model: "nn.Module") -> str:
    """What stands for the weights that do not learn; empty where all do."""
    import torch

    digest, frozen = hashlib.sha256(), _frozen(model)
    for name, one in frozen.items():
        digest.update(f"{name} {one.dtype} {list(one.shape)}\n".encode())
        digest.update(one.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest() if frozen else ""


def _frozen(model: "nn.Module") -> "dict[str, nn.Parameter]":
    named = model.named_parameters(remove_duplicate=False)
    return {name: one for name, one in named if not one.requires_grad}


def optimizer_of(groups: Sequence[ParameterGroup], params: TrainingParams) -> "torch.optim.Optimizer":
    """Torch's own of this name, each group with its rate and weight decay."""
    import torch

    told = [
        {
            "params": list(one.parameters),
            "lr": params.lr * one.lr_factor,
            "weight_decay": params.weight_decay if one.weight_decay is None else one.weight_decay,
        }
        for one in groups
    ]
    match params.optimizer:
        case "adam":
            return torch.optim.Adam(told, betas=params.betas)
        case "adamw":
            return torch.optim.AdamW(told, betas=params.betas)
        case "sgd":
            return torch.optim.SGD(told, lr=params.lr, momentum=params.betas[0])


def state_of(optimizer: "torch.optim.Optimizer") -> "dict[str, Tensor]":
    """What an optimizer remembers of its parameters, as `NUMBER.NAME`."""
    return {
        f"{number}.{name}": one
        for number, values in optimizer.state_dict()["state"].items()
        for name, one in values.items()
        if one is not None
    }


def restore(optimizer: "torch.optim.Optimizer", tensors: "dict[str, Tensor]") -> None:
    """Give an optimizer what `state_of` said, in the order in memory that its parameters have."""
    import torch

    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    values: dict[int, dict[str, Any]] = {}
    for key, one in tensors.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        alike = one.shape == parameter.shape and one.ndim
        values.setdefault(int(number), {})[name] = torch.empty_like(parameter).copy_(one) if alike else one
    optimizer.load_state_dict(optimizer.state_dict() | {"state": values})


class Average:
    """The exponential moving average of what learns: after each step, decay * average + (1 - decay) * weights.

    Attributes:
        weights: by the names that the model has for them.
    """

    def __init__(self, model: "nn.Module", decay: float) -> None:
        learning = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self._decay = decay
        self._own = [one.detach() for one in learning.values()]
        self.weights = {name: one.detach().clone() for name, one in learning.items()}

    def update(self) -> None:
        """After a step."""
        import torch

        torch._foreach_lerp_(list(self.weights.values()), self._own, 1 - self._decay)

    def load(self, weights: "dict[str, Tensor]") -> None:
        """Those of a checkpoint."""
        for name, one in self.weights.items():
            one.copy_(weights[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the average; its own weights come back afterwards."""
        before = [one.clone() for one in self._own]
        self.put()
        try:
            yield
        finally:
            for own, one in zip(self._own, before, strict=True):
                own.copy_(one)

    def put(self) -> None:
        """The model has the average from now on."""
        for own, one in zip(self._own, self.weights.values(), strict=True):
            own.copy_(one)
