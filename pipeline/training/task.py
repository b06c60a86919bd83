"""What is trained: the side of a training that its owner writes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterGroup:
    """Weights that learn alike.

    Attributes:
        lr_factor: of the training's learning rate.
        weight_decay: in the place of the training's own.
    """

    parameters: "Sequence[nn.Parameter]"
    lr_factor: float = 1.0
    weight_decay: float | None = None


class Task(Protocol):
    """A model, its batches and its loss.

    Attributes:
        identity: stands for all that shapes the training beside its parameters: data, model, loss. A JSON object says by its
            names in what a checkpoint of another training differs.
        accumulates: whether pieces of a batch, each computed by itself, come to the same as the whole.
    """

    @property
    def model(self) -> "nn.Module":
        """Whose state is kept."""

    @property
    def identity(self) -> str:
        """See the class."""

    @property
    def accumulates(self) -> bool:
        """See the class."""

    def groups(self) -> Sequence[ParameterGroup]:
        """What learns."""

    def n_batches(self) -> int:
        """Of an epoch."""

    def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """Those of an epoch from the one of this number on; the same for the same epoch. Tensors, or lists of them."""

    def loss(self, batch: Any) -> "Tensor":
        """Mean over the batch, which lies on the model's device."""

    def counts(self, batch: Any) -> float:
        """How much that mean counts where it stands beside those of other batches: its pictures, or pixels of a class."""

    def validate(self) -> dict[str, float]:
        """Figures of the model as it is, the first of which decides, more being better; {} where there is nothing
        to choose on."""
