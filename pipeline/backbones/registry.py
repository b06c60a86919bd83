"""The families there are. A family registers itself with the decorator on its class.

Which weights exist is in `catalog`; how to get at them in `access`. Importing this module imports no
model library: families import theirs when they open a model.
"""

from collections.abc import Mapping
from pathlib import Path

from deponij.pipeline.backbones.contract import Backbone
from deponij.pipeline.registry import Registry
from deponij.store.errors import BackboneError

_FAMILIES: Registry[type[Backbone]] = Registry(
    "backbone family", attribute="family", room="deponij.pipeline.backbones.families"
)
register = _FAMILIES.register
unregister = _FAMILIES.unregister


def families() -> Mapping[str, type[Backbone]]:
    """Families by name."""
    return _FAMILIES.entries()


def family(name: str) -> type[Backbone]:
    """The family of that name.

    Raises:
        UsageError: there is none; the message lists the known ones and the nearest.
    """
    return _FAMILIES[name]


def family_of(folder: Path) -> type[Backbone]:
    """The family whose files lie in `folder`.

    Raises:
        BackboneError: no family or more than one claims it.
    """
    claiming = [cls for cls in families().values() if cls.claims(folder)]
    if len(claiming) == 1:
        return claiming[0]
    if claiming:
        names = ", ".join(cls.family for cls in claiming)
        raise BackboneError(f"{folder}: more than one family claims it: {names}")
    some = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise BackboneError(
        f"{folder}: no backbone family knows these files (found: {some}). Known: an open_clip folder "
        "(open_clip_config.json), a transformers folder (config.json) of model_type siglip, siglip_vision_model, "
        "dinov2 or dinov2_with_registers, a timm folder (config.json with architecture and pretrained_cfg)"
    )
