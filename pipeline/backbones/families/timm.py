"""timm models from a folder in timm's hub format (`config.json` with `architecture` and `pretrained_cfg`).

Embedding: the forward pass with the classifier taken off (`num_classes=0`), that is, pooled features
before the logits. The transform is that of the record's `pretrained_cfg`. No text tower.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones import limits, weights
from deponij.pipeline.backbones.contract import Backbone, Description, FeatureMap, Location
from deponij.pipeline.backbones.families import huggingface as hf
from deponij.pipeline.backbones.families import timm_towers
from deponij.pipeline.backbones.lean_imports import without_compiler
from deponij.pipeline.backbones.records import from_timm
from deponij.pipeline.backbones.registry import register
from deponij.pipeline.registry import unknown
from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor


_OPEN_CLIP_CONFIG = "open_clip_config.json"


@register("timm")
class Timm(Backbone):
    """One timm model without its classifier."""

    library = "timm"
    weights_names = ("model.safetensors", "pytorch_model.bin")
    other_files = ((hf.CONFIG,),)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        path = folder / hf.CONFIG
        # Contrastive models of timm's hub organisation carry both records; open_clip reads all of them.
        if not path.is_file() or (folder / _OPEN_CLIP_CONFIG).is_file():
            return False
        try:
            config = weights.read_json(path)
        except BackboneError:
            return False
        return "architecture" in config and "pretrained_cfg" in config

    @classmethod
    def describe(cls, location: Location, input_px: tuple[int, int] | None = None) -> Description:
        config = _record(location)
        model = _blank(location.name, config)
        weights.refuse_larger(weights.n_numbers_of(model), cls.weights_files(location))
        model.reset_classifier(0)
        arguments = dict(config.get("model_args") or {})
        arguments.pop("num_classes", None)  # of the classifier, which is taken off
        fields = {"architecture": config["architecture"], "model_args": arguments}
        return cls._description(
            location,
            from_timm(config.get("pretrained_cfg") or {}),
            input_px,
            timm_towers.facts(model),
            shaping=fields | {"global_pool": config.get("global_pool")},
            dim=int(getattr(model, "head_hidden_size", None) or model.num_features),
        )

    @classmethod
    def open(cls, location: Location, description: Description) -> Timm:
        config, files = _record(location), cls.weights_files(location)
        model = create(location.name, config)
        weights.fill(model, _renamed(model, config["architecture"], weights.read_tensors(files)), files)
        model.reset_classifier(0)
        published = tuple((config.get("pretrained_cfg") or {}).get("input_size") or (3, 224, 224))[1:]
        if description.input_px != published and hasattr(model, "set_input_size"):
            model.set_input_size(img_size=description.input_px)
        return cls(description, model)

    def _embed_images(self, batch: Tensor) -> Tensor:
        result: Tensor = self.model(batch)
        return result

    def _tokens(self, batch: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
        return timm_towers.tokens(self.model, batch, blocks)

    def _dense(self, batch: Tensor, blocks: int | None) -> list[FeatureMap]:
        return timm_towers.dense(self.model, batch, blocks)


def _record(location: Location) -> dict[str, Any]:
    """The folder's record.

    Raises:
        BackboneError: it is damaged, or asks for what is past its limits.
    """
    path = location.folder_of("timm") / hf.CONFIG
    record = weights.read_json(path)
    limits.check_record(record, str(path))
    for name in ("pretrained_cfg", "model_args"):
        weights.section(record, name, str(path))
    return record


def _blank(name: str, config: dict[str, Any]) -> Any:
    """The model without memory for its weights."""
    import torch

    with torch.device("meta"):
        return create(name, config)


def create(name: str, config: dict[str, Any]) -> Any:
    """The model that a record of timm's describes, with its classifier and random weights.

    Args:
        name: of the backbone, for messages.

    Raises:
        UsageError: there is no such architecture.
    """
    with without_compiler():
        import timm

        from deponij.pipeline.backbones import own_networks  # noqa: F401  # enters them into timm's registry
    architecture = str(config.get("architecture"))
    if not timm.is_model(architecture):
        raise unknown(f"timm architecture of {name}", architecture, timm.list_models(architecture[:4] + "*"))
    published = config.get("pretrained_cfg") or {}
    classes = config.get("num_classes", published.get("num_classes", 0))
    pool = {"global_pool": config["global_pool"]} if config.get("global_pool") else {}
    # timm's own `save_for_hf` writes all of these into `model_args`, which then count.
    arguments = {"num_classes": int(classes)} | pool | (config.get("model_args") or {})
    # The record goes in because it says at which input size the positions were trained.
    return timm.create_model(architecture, pretrained=False, pretrained_cfg=published, **arguments)


def _renamed(model: Any, architecture: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the model's names; older checkpoints go through the architecture's own filter."""
    import timm

    if tensors.keys() == model.state_dict().keys():
        return tensors
    rename = getattr(
        sys.modules[timm.model_entrypoint(architecture).__module__], "checkpoint_filter_fn", None
    )
    return dict(rename(tensors, model)) if rename is not None else tensors
