"""Networks that have learned nothing: a named architecture with weights drawn from a seed, put once into timm's format.

The folder is `<cache>/new/NAME-KEY` (`made_folder`); KEY stands for all that the weights depend on. Pictures are squashed to
the network's size, so that those of that size are seen as they are, and normalised as ImageNet's.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deponij.pipeline.backbones import limits, registry
from deponij.pipeline.backbones.catalog import Entry, NewNetwork
from deponij.pipeline.backbones.contract import Location
from deponij.pipeline.backbones.lean_imports import without_compiler
from deponij.pipeline.backbones.made_folder import require_made
from deponij.pipeline.backbones.records import IMAGENET_MEAN, IMAGENET_STD
from deponij.pipeline.backbones.remember import sha256_of_value
from deponij.pipeline.registry import unknown
from deponij.store.caches import cache_folder
from deponij.store.errors import UsageError

# Raise it when the same network is drawn or written otherwise.
_FORMAT = 1
FAMILY = "timm"
# What people call networks; the others go by timm's names.
ALIASES = {
    "resnet-18": "resnet18",
    "resnet-18-small": "deponij_resnet18_small",
    "atresnet-18": "deponij_atresnet18",
    "deit-ti": "deit_tiny_patch16_224",
    "deit-ti-distilled": "deit_tiny_distilled_patch16_224",
}
# What networks raise that cannot be of a size.
_UNFIT = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


def locate(entry: Entry, network: NewNetwork) -> Location:
    """The folder of a new network; it is drawn first where it is absent or damaged.

    Raises:
        UsageError: there is no such network, or it takes no pictures of this size.
        BackboneError: the size is past its limit, or the cache cannot be written.
    """
    library = {name: version(name) for name in ("timm", "torch")}
    key = sha256_of_value([_FORMAT, network.model_dump(mode="json"), library])
    folder = cache_folder() / "new" / f"{entry.name}-{key[:12]}"
    location = Location(entry.name, folder, None, None, network.spec, None)
    said = {"source": network.spec, "drawn_by": library}
    require_made(location, registry.family(FAMILY), lambda made: _draw(network, made), said)
    return location


def _draw(network: NewNetwork, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from deponij.pipeline.backbones.families.timm import create

    record = _record(network)
    limits.check_record(record, network.spec)
    height, width = record["pretrained_cfg"]["input_size"][1:]
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.default_generator.manual_seed(network.seed)
            model = create(network.spec, record).eval()
            model(torch.zeros(1, 3, height, width))
    except _UNFIT as error:
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{network.spec}: {record['architecture']} takes no pictures of {height}x{width} px ({told}); name another "
            f"size, as in new:{network.name}@SIZE, or none for its own"
        ) from error
    tensors = {name: one.contiguous() for name, one in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _record(network: NewNetwork) -> dict[str, Any]:
    """As timm's hub has them, without a classifier.

    Raises:
        UsageError: there is no such network.
    """
    with without_compiler():
        import timm

        from deponij.pipeline.backbones import own_networks  # noqa: F401  # enters them into timm's registry
    architecture = ALIASES.get(network.name, network.name)
    known = timm.list_models()
    if architecture not in known:
        raise unknown("new network", network.name, [*ALIASES, *known])
    published = timm.get_pretrained_cfg(architecture)
    own_size = published.input_size[1:] if published else (224, 224)
    cfg = {
        "input_size": [3, *([network.size_px] * 2 if network.size_px else own_size)],
        "fixed_input_size": bool(published and published.fixed_input_size),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "num_classes": 0,
    }
    return {"architecture": architecture, "num_classes": 0, "pretrained_cfg": cfg}
