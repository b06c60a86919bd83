"""Networks that are tuned or that learn from a teacher, by name: two of our own, and all of timm's.

Backbones of the catalog that get a classifier are not made here; they come from their families.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from deponij.pipeline.backbones.lean_imports import without_compiler
from deponij.pipeline.registry import unknown
from deponij.pipeline.tuning.atresnet import AtResNet18
from deponij.pipeline.tuning.drawing import drawing
from deponij.store.errors import UsageError

# What people call networks of timm's.
ALIASES = {"deit-ti": "deit_tiny_patch16_224", "deit-ti-distilled": "deit_tiny_distilled_patch16_224"}
_RESNET, _ATRESNET = "resnet-18", "atresnet-18"


class NetworkParams(BaseModel):
    """Which network.

    Attributes:
        name: `resnet-18` (torchvision's), `atresnet-18`, `deit-ti`, `deit-ti-distilled`, or a name of timm's.
        size_px: side of its pictures, for those that are made for one size; as it is published by default.
        stem: of `resnet-18`: `imagenet` (7x7, every second pixel, pooled), or `small` for pictures of some 32 px (3x3, every
            pixel, no pooling).
        drop_path: probability that a block of timm's is passed by, or None for the network's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size_px: int | None = Field(default=None, ge=1)
    stem: Literal["imagenet", "small"] = "imagenet"
    drop_path: float | None = Field(default=None, ge=0, lt=1)


def build_network(
    params: NetworkParams, n_classes: int, weights: Mapping[str, Tensor] | None = None, *, seed: int = 0
) -> nn.Module:
    """A network: normalised pixels float32 [n, 3, h, w] to logits [n, C].

    One with a distillation head gives, in training mode, the logits of both heads, (class, distillation), and in evaluation
    mode their mean. Nothing is fetched.

    Args:
        n_classes: C.
        weights: of the same network by its library's names. What is missing, or of another shape, must belong to its
            classifier (or, for AtResNet, be what ResNet-18 lacks); that is drawn anew.
        seed: of what is drawn; torch's generator is as before afterwards.

    Raises:
        UsageError: there is no such network, a setting is not for it, or the weights are not its own.
    """
    with drawing(seed, "network"):
        if params.stem != "imagenet" and params.name != _RESNET:
            raise UsageError(f"stem: {params.stem} is for {_RESNET}, not for {params.name}")
        if params.name in (_RESNET, _ATRESNET):
            network = _own(params, n_classes)
        else:
            network = _of_timm(params, n_classes)
    if weights is not None:
        _fill(network, weights, params.name)
    return network


def n_parameters(network: nn.Module) -> int:
    """Weights that learn or could; running means of batch norms are none."""
    return sum(one.numel() for one in network.parameters())


def _own(params: NetworkParams, n_classes: int) -> nn.Module:
    if params.drop_path is not None:
        raise UsageError(f"drop_path is for networks of timm's, not for {params.name}")
    if params.name == _ATRESNET:
        return AtResNet18(n_classes, params.size_px or 224)
    with without_compiler():
        from torchvision.models import resnet18
    network: nn.Module = resnet18(num_classes=n_classes)
    if params.stem == "small":
        conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv1.weight, mode="fan_out", nonlinearity="relu")
        network.conv1, network.maxpool = conv1, nn.Identity()
    return network


def _of_timm(params: NetworkParams, n_classes: int) -> nn.Module:
    with without_compiler():
        import timm
    name = ALIASES.get(params.name, params.name)
    if not timm.is_model(name):
        raise unknown("network", params.name, [_RESNET, _ATRESNET, *ALIASES, *timm.list_models()])
    asked = {"img_size": params.size_px, "drop_path_rate": params.drop_path}
    settings: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=n_classes, **settings)
    except TypeError as error:
        raise UsageError(
            f"{params.name} cannot be given size_px or drop_path, or one of them: {error}"
        ) from error
    # Without this timm gives the mean of both heads in training too, and the distillation head learns the classes.
    distilled: Callable[[bool], None] | None = getattr(network, "set_distilled_training", None)
    if distilled is not None:
        distilled(True)
    return network


def _fill(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    own = network.state_dict()
    fitting = {key: one for key, one in weights.items() if key in own and own[key].shape == one.shape}
    drawn = _classifiers(network)
    begun = ("encoders.", "norm.", "class_token") if name == _ATRESNET else ()
    lacking = [key for key in own if not (key in fitting or key.startswith((*drawn, *begun)))]
    if lacking:
        raise UsageError(
            f"these weights are not those of {name}: {len(lacking)} of its {len(own)} tensors are missing or of another "
            f"shape, as {', '.join(lacking[:3])}"
        )
    network.load_state_dict(fitting, strict=False)


def _classifiers(network: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of its classifiers' weights, of which distilled networks have two."""
    found: Any = network.get_classifier() if hasattr(network, "get_classifier") else network.fc  # type: ignore[operator]
    ours = found if isinstance(found, tuple) else (found,)
    return tuple(f"{name}." for name, one in network.named_modules() if any(one is other for other in ours))
