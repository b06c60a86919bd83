"""Low-rank adapters on a tower: which modules a role names in each family, and their wrapping."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from deponij.pipeline.backbones import adapters, low_rank
from deponij.pipeline.tuning.depths import inside_block
from deponij.pipeline.tuning.tower import Tower
from deponij.store.errors import UsageError

Role = Literal["attention", "qv", "mlp", "all", "pointwise"]
# In this order; a tower has one of them.
_USUAL: tuple[Role, ...] = ("attention", "pointwise", "mlp")
_ATTENTION = {"attention", "attn", "self_attn"}
_QUERY_AND_VALUE = {"q_proj", "v_proj", "query", "value"}


class LoraParams(BaseModel):
    """Low-rank adapters: y = W x + scale * B A x, of which A and B learn.

    Attributes:
        rank: rows of A and columns of B.
        alpha: the scale is alpha / rank, and alpha / sqrt(rank) with `rslora`.
        dropout: of what goes into A.
        dora: learns the lengths of W's rows apart from their directions.
        targets: what is wrapped, by its role in the tower's blocks. `usual`: attention where there is some, else
            1x1 convolutions. `attention`: all its projections; `qv`: queries and
            values, where they are layers of their own; `mlp`: its linear layers; `pointwise`: 1x1 convolutions that are
            not grouped, with ConvNeXt's, which are written as linear layers; `all` of these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=8, ge=1, le=4096)
    alpha: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rslora: bool = False
    dora: bool = False
    targets: Role | Literal["usual"] = "usual"

    @property
    def low_rank(self) -> adapters.LowRank:
        """The same in the library's terms."""
        return adapters.LowRank(self.rank, self.alpha, self.rslora, self.dora, self.dropout)


def roles_of(tower: Tower) -> dict[Role, tuple[str, ...]]:
    """Names in `tower.vision` of the modules that each role wraps; roles that name none are left out."""
    part = tower.parts()
    is_convolutional = tower.backbone.description.n_blocks is None
    inside: list[str] = []
    names_of: dict[Role, list[str]] = {"attention": [], "qv": [], "mlp": [], "pointwise": [], "all": []}
    for name, module in tower.vision.named_modules():
        if any(name.startswith(f"{one}.") for one in inside):
            continue
        is_whole = isinstance(module, nn.MultiheadAttention)
        if is_whole:  # its projection is used without being called, so that it cannot be wrapped by itself
            inside.append(name)
        if f"{name}.{'in_proj_weight' if is_whole else 'weight'}" not in part:
            continue
        path, is_linear = inside_block(name), isinstance(module, nn.Linear)
        is_pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
        roles: list[Role] = []
        if path and path[0] in _ATTENTION and (is_linear or is_whole):
            roles = ["attention", "qv"] if path[-1] in _QUERY_AND_VALUE else ["attention"]
        if "mlp" in path[:1] and (is_linear or is_pointwise):
            roles.append("mlp")
        if is_pointwise or (is_linear and is_convolutional and "mlp" in path[:1]):
            roles.append("pointwise")
        for role in [*roles, *(["all"] if roles else [])]:
            names_of[role].append(name)  # type: ignore[index]
    return {role: tuple(names) for role, names in names_of.items() if names}


def add_lora(tower: Tower, params: LoraParams, seed: int = 0) -> int:
    """Wrap what the role names, in place; adapters learn from now on and nothing else. The embeddings are as before.

    Args:
        seed: of what A begins with; B begins with zeros.

    Returns:
        How many modules are wrapped.

    Raises:
        UsageError: the role names nothing in this family, or what it names cannot be learned so.
    """
    if tower.peft is not None:
        raise UsageError(f"{tower.backbone.description.name} has adapters already; load it again")
    roles, known = roles_of(tower), tower.backbone.description
    asked = _USUAL if params.targets == "usual" else (params.targets,)
    role = next((one for one in asked if one in roles), None)
    if role is None:
        raise UsageError(
            f"{known.name} (family {known.family}) has no modules of the role {params.targets!r}; "
            f"roles that it has: {', '.join(sorted(roles)) or 'none'}"
        )
    modules = dict(tower.vision.named_modules())
    chosen = roles[role]
    if any(isinstance(modules[name], nn.MultiheadAttention) for name in chosen):
        unable = "dora" if params.dora else "dropout" if params.dropout else None
        if unable is not None:
            raise UsageError(
                f"{known.name} (family {known.family}) has its attention in one piece, around which {unable} is not "
                f"possible; leave {unable} away, or take targets: mlp"
            )
    model: nn.Module = tower.backbone.model
    (prefix,) = (name for name, one in model.named_modules() if one is tower.vision)
    names = [f"{prefix}.{name}" if prefix else name for name in chosen]
    tower.adapted(low_rank.wrap(model, names, params.low_rank, seed))
    learning = list(low_rank.tensors_of(model).values())
    tower.learn(learning, [one for one in tower.vision.modules() if hasattr(one, "lora_dropout")])
    return len(names)
