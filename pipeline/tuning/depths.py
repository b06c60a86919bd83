"""How deep in its tower a weight lies: 0 what comes before the blocks, 1 to L the blocks, L + 1 what comes after them.

Blocks are found by how the model libraries name them: `encoder.layer.3`, `encoder.layers.3`, `transformer.resblocks.3`,
`blocks.3` of transformers; `layer2.1`, `stages.2.blocks.1`, `blocks.2.1` of convolutional towers, whose blocks count
through all stages. What leads from one stage to the next goes with the block after it.
"""

import re
from dataclasses import dataclass

from torch import nn

from deponij.store.errors import UsageError

_AROUND = {"trunk", "encoder", "transformer", "vision_model"}
_CONTAINERS = {"layer", "layers", "blocks", "resblocks", "stages"}
_STAGE = re.compile(r"layer(\d+)$")
# Registered before the blocks, and used after them.
_USED_LAST = {"proj"}


@dataclass(frozen=True, slots=True)
class Depths:
    """Of a tower's weights.

    Attributes:
        n_blocks: L.
        of: depth, 0 to L + 1, by the weight's name.
    """

    n_blocks: int
    of: dict[str, int]


def depths_of(vision: nn.Module) -> Depths:
    """Of a tower as a model library made it, adapters included.

    Raises:
        UsageError: no blocks are found.
    """
    keys = {name: block_key(name) for name, _ in vision.named_parameters()}
    numbers = {key: depth for depth, key in enumerate(sorted({key for key in keys.values() if key}), 1)}
    if not numbers:
        raise UsageError(
            f"the blocks of a {type(vision).__name__} are not known, so that neither its last blocks can learn nor its "
            "learning rate fall with depth: let all of it learn, at one rate"
        )
    last, is_behind, depth_of = len(numbers), False, {}
    for name, key in keys.items():
        if key is not None:
            is_behind = True
            depth_of[name] = numbers[key]
        else:
            depth_of[name] = last + 1 if is_behind or name in _USED_LAST else 0
    return Depths(last, depth_of)


def block_key(name: str) -> tuple[int, int] | None:
    """(stage, block) of a weight or module by its name in the tower, 0 for what is not counted; None outside blocks."""
    path = name.split(".")
    while path and path[0] in _AROUND:
        path = path[1:]
    if not path:
        return None
    stage = _STAGE.match(path[0])
    if stage is None and path[0] not in _CONTAINERS:
        return None
    numbers = [int(stage[1])] if stage else []
    for part in path[1:]:
        if part.isdecimal() and len(numbers) < 2:
            numbers.append(int(part))
        elif part != "blocks":
            break
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0) if numbers else None


def inside_block(name: str) -> list[str]:
    """The path of a weight or module inside its block, as ["mlp", "fc1"]; [] outside blocks."""
    if block_key(name) is None:
        return []
    path = name.split(".")
    last = max(i for i, part in enumerate(path[:5]) if part.isdecimal() and _leads(path[:i]))
    return path[last + 1 :]


def _leads(path: list[str]) -> bool:
    """Whether only containers and numbers stand here."""
    return all(
        one in _AROUND | _CONTAINERS or one.isdecimal() or _STAGE.match(one) is not None for one in path
    )
