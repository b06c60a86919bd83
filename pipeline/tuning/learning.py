"""Which weights of a tower learn, one entry a way, and how fast each of them does."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from deponij.pipeline.training.task import ParameterGroup
from deponij.pipeline.tuning.depths import depths_of
from deponij.pipeline.tuning.lora import LoraParams, add_lora
from deponij.pipeline.tuning.tower import Tower
from deponij.store.errors import UsageError

Way = Literal["full", "last-blocks", "norms", "biases", "lora", "none"]
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)


class LearningParams(BaseModel):
    """What of a backbone learns.

    Attributes:
        way: `full`: all that has a part in the embedding; `last-blocks`: the last `n_blocks` and what comes after them;
            `norms`: scales and shifts of its norms; `biases`: every bias (BitFit, Ben Zaken et al. 2022); `lora`:
            adapters around frozen weights; `none`: nothing, so that a head alone learns.
        n_blocks: of `last-blocks`.
        lora: of `lora`.
        moments: of batch norms that learn: `keep` those of the base, or `learn` them from batches, for which there must be
            many of some size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: Way = "lora"
    n_blocks: int = Field(default=1, ge=1)
    lora: LoraParams = LoraParams()
    moments: Literal["keep", "learn"] = "keep"


def let_learn(tower: Tower, params: LearningParams, seed: int = 0) -> int:
    """Let a tower that was just made learn in this way; how many numbers learn.

    Args:
        seed: of what adapters begin with.

    Raises:
        UsageError: nothing of this tower can learn so.
    """
    if params.way == "lora":
        add_lora(tower, params.lora, seed)
    else:
        chosen = list(_WAYS[params.way](tower, params))
        if not chosen and params.way != "none":
            known = tower.backbone.description
            raise UsageError(
                f"{known.name} (family {known.family}) has no {params.way} that have a part in its embedding"
            )
        tower.learn(chosen, keeps_moments=params.moments == "keep")
    return sum(one.numel() for one in tower.parameters() if one.requires_grad)


def groups(
    tower: Tower, head: nn.Module | None = None, *, lr_decay: float = 1.0, head_lr_factor: float = 1.0
) -> list[ParameterGroup]:
    """What learns of a tower and of a head behind it, in groups that learn alike.

    A weight at depth k of 0 (before the blocks), 1 to L (its block) and L + 1 (after them) has the learning rate times
    lr_decay ** (L + 1 - k) (Clark et al. 2020; Bao et al. 2022). Norms, biases and all else of one dimension have no
    weight decay.

    Args:
        lr_decay: more than 0, at most 1, which is one rate for all.
        head_lr_factor: of the head's learning rate.

    Raises:
        UsageError: lr_decay is not such a number, or less than 1 where the tower's blocks are not known.
    """
    if not 0 < lr_decay <= 1:
        raise UsageError(f"lr_decay {lr_decay}; allowed: more than 0 and at most 1")
    learning = {name: one for name, one in tower.vision.named_parameters() if one.requires_grad}
    depths = depths_of(tower.vision) if lr_decay < 1 and learning else None
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, one in learning.items():
        factor = 1.0 if depths is None else lr_decay ** (depths.n_blocks + 1 - depths.of[name])
        members.setdefault((factor, one.ndim > 1), []).append(one)
    made = [
        _group(ones, factor, decays)
        for (factor, decays), ones in sorted(members.items(), key=lambda one: one[0])
    ]
    of_head = [one for one in head.parameters() if one.requires_grad] if head is not None else []
    for decays in (False, True):
        if alike := [one for one in of_head if (one.ndim > 1) is decays]:
            made.append(_group(alike, head_lr_factor, decays))
    return made


def _group(parameters: list[nn.Parameter], factor: float, decays: bool) -> ParameterGroup:
    return ParameterGroup(tuple(parameters), factor, None if decays else 0.0)


def _last_blocks(tower: Tower, params: LearningParams) -> Iterable[nn.Parameter]:
    depths = depths_of(tower.vision)
    if params.n_blocks > depths.n_blocks:
        raise UsageError(
            f"the last {params.n_blocks} blocks; {tower.backbone.description.name} has {depths.n_blocks}"
        )
    first = depths.n_blocks + 1 - params.n_blocks
    return [one for name, one in tower.parts().items() if depths.of[name] >= first]


def _norms(tower: Tower, params: LearningParams) -> Iterable[nn.Parameter]:
    inside = {
        id(one)
        for module in tower.vision.modules()
        if isinstance(module, _NORMS)
        for one in module.parameters()
    }
    return [one for one in tower.parts().values() if id(one) in inside]


def _biases(tower: Tower, params: LearningParams) -> Iterable[nn.Parameter]:
    return [one for name, one in tower.parts().items() if name.rpartition(".")[2] in ("bias", "in_proj_bias")]


_WAYS: Mapping[str, Callable[[Tower, LearningParams], Iterable[nn.Parameter]]] = {
    "full": lambda tower, params: tower.parts().values(),
    "last-blocks": _last_blocks,
    "norms": _norms,
    "biases": _biases,
    "none": lambda tower, params: (),
}
