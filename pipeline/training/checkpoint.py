"""What a training needs to go on exactly where it was: tensors as safetensors, the rest as JSON, sealed as one bundle."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from deponij.store.bundle import read_bundle, write_bundle
from deponij.store.errors import StoreError

if TYPE_CHECKING:
    from torch import Tensor

_TENSORS, _STATE = "training.safetensors", "training.json"
_REMEDY = "delete it, and the training begins anew"


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch brought.

    Attributes:
        loss: mean over its batches. lr: at its end. figures: of validation.
    """

    loss: float
    lr: float
    figures: dict[str, float]


@dataclass
class State:
    """Where a training is.

    Attributes:
        identity: of the training, its parameters included.
        epoch, batch: next to be done. loss_sum: of the epoch's batches so far.
        history: of the epochs that are done.
        best: figure and epoch of the best one so far.
        scale: of the losses in fp16, and steps since it last changed.
    """

    identity: str
    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    best: tuple[float, int] | None = None
    scale: dict[str, float] | None = None


def write_checkpoint(folder: Path, state: State, tensors: "dict[str, Tensor]") -> None:
    """Replace a checkpoint in one step.

    Raises:
        StoreError: it cannot be written; the earlier one is as it was.
    """
    from safetensors.torch import save

    document = TypeAdapter(State).dump_json(state, indent=1) + b"\n"
    plain = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    write_bundle(folder, {_TENSORS: save(plain), _STATE: document}, what="a checkpoint")


def read_checkpoint(folder: Path) -> "tuple[State, dict[str, Tensor]]":
    """The checkpoint in a folder.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    files = read_bundle(folder, [_TENSORS, _STATE], what="checkpoints", remedy=_REMEDY)
    try:
        document: Any = json.loads(files[_STATE])
        return TypeAdapter(State).validate_python(document), load(files[_TENSORS])
    except (ValueError, SafetensorError) as error:
        raise StoreError(f"{folder} is of another version or damaged: {error}; {_REMEDY}") from error
