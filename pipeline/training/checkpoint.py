"""What a training needs to go on exactly where it was: tensors as safetensors, the rest as JSON, sealed as one bundle."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, TypeAdapter

from deponij.pipeline.training.identity import Settings, identity_of
from deponij.store.bundle import read_bundle, write_bundle
from deponij.store.errors import StoreError

if TYPE_CHECKING:
    from torch import Tensor

_TENSORS, _STATE = "training.safetensors", "training.json"
_REMEDY = "delete it, and the training begins anew"
# Figures that are no numbers come back as they were; fields of another version are refused.
_MANNERS = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch brought.

    Attributes:
        loss: mean over its batches.
        lr: at its end.
        figures: of validation.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _MANNERS

    loss: float
    lr: float
    figures: dict[str, float]


@dataclass
class State:
    """Where a training is.

    Attributes:
        identity: of the training, its parameters included.
        settings: by name, what `identity` stands for.
        epoch, batch: next to be done.
        loss_sum: of the epoch's batches so far.
        history: of the epochs that are done.
        best: figure and epoch of the best one so far.
        scale: of the losses in fp16, and steps since it last changed.
        pieces: in which each batch is computed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _MANNERS

    identity: str
    epoch: int
    batch: int
    loss_sum: float
    history: list[EpochRecord]
    best: tuple[float, int] | None
    scale: dict[str, float | int] | None
    settings: Settings
    pieces: int

    @classmethod
    def begin(cls, identity: str, settings: Settings, pieces: int) -> "State":
        """Of a training that has done nothing."""
        return cls(identity, 0, 0, 0.0, [], None, None, settings, pieces)


def write_checkpoint(folder: Path, state: State, tensors: "dict[str, Tensor]") -> None:
    """Replace a checkpoint in one step.

    Raises:
        StoreError: it cannot be written; the earlier one is as it was.
    """
    from safetensors.torch import save

    document = TypeAdapter(State).dump_json(state, indent=1) + b"\n"
    seen: set[int] = set()
    plain = {}
    for name, one in tensors.items():
        alone = one.detach().cpu().contiguous()
        # Tied weights have two names and one storage, which the format does not allow.
        storage = alone.untyped_storage().data_ptr()
        plain[name] = alone.clone() if storage in seen else alone
        seen.add(storage)
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
        state = TypeAdapter(State).validate_json(files[_STATE], strict=True)
        if state.identity != identity_of(state.settings):
            raise ValueError("settings and identity are of different trainings")
        return state, load(files[_TENSORS])
    except (ValueError, SafetensorError) as error:
        raise StoreError(f"{folder} is of another version or damaged: {error}; {_REMEDY}") from error
