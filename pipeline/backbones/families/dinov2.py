"""DINOv2 in transformers' format, with and without registers.

Embedding: the class token after the final LayerNorm, which is the library's `pooler_output`. The
transform is the folder's image processor. A classifier on top is taken off. No text tower.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones import weights
from deponij.pipeline.backbones.contract import Backbone, Description, FeatureMap, Location, TowerFacts
from deponij.pipeline.backbones.families import huggingface as hf
from deponij.pipeline.backbones.records import from_hf_processor
from deponij.pipeline.backbones.registry import register
from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor


# Fields that shape the computation, with the defaults of transformers' Dinov2Config.
_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": 224,
    "patch_size": 14,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
}
_PLAIN, _REGISTERS = "dinov2", "dinov2_with_registers"
# transformers' Dinov2WithRegistersConfig has another default patch than Dinov2Config.
_DEFAULTS_BY_TYPE: dict[str, dict[str, Any]] = {
    _PLAIN: _DEFAULTS | {"num_register_tokens": 0},
    _REGISTERS: _DEFAULTS | {"num_register_tokens": 4, "patch_size": 16},
}


@register("dinov2")
class Dinov2(Backbone):
    """DINOv2 ViT; n_prefix tokens (class, then registers) stand before the patches."""

    library = "transformers"
    weights_names = weights.HF_WEIGHTS
    other_files = ((hf.CONFIG,), hf.PROCESSORS)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        return hf.model_type(folder) in _DEFAULTS_BY_TYPE

    @classmethod
    def describe(cls, location: Location, input_px: tuple[int, int] | None = None) -> Description:
        folder = location.folder_of("DINOv2")
        fields = _fields(folder)
        blocks, width = fields["num_hidden_layers"], fields["hidden_size"]
        return cls._description(
            location,
            from_hf_processor(hf.processor(folder)),
            input_px,
            TowerFacts(hf.side(fields["patch_size"]), blocks, width, has_class_token=True),
            shaping=fields,
            dim=width,
        )

    @classmethod
    def open(cls, location: Location, description: Description) -> Dinov2:
        # Brings torch._dynamo along, 12 s of processor time in all: see lean_imports.
        from transformers import Dinov2Model, Dinov2WithRegistersModel

        folder = location.folder_of("DINOv2")
        classes = {_PLAIN: Dinov2Model, _REGISTERS: Dinov2WithRegistersModel}
        return cls(
            description, hf.load_exactly(classes[str(hf.model_type(folder))], folder, ("classifier.",))
        )

    def _embed_images(self, batch: Tensor) -> Tensor:
        result: Tensor = self.model(pixel_values=batch).last_hidden_state[:, 0]
        return result

    def _normed(self, batch: Tensor, blocks: int) -> list[Tensor]:
        """Tokens [n, prefix + patches, t] of the last blocks, final norm applied, oldest first."""
        states = self.model(pixel_values=batch, output_hidden_states=True).hidden_states
        return [self.model.layernorm(state) for state in states[-blocks:]]

    @property
    def _n_prefix(self) -> int:
        return 1 + int(getattr(self.model.config, "num_register_tokens", 0))

    def _tokens(self, batch: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
        return [(state[:, 0], state[:, self._n_prefix :]) for state in self._normed(batch, blocks)]

    def _dense(self, batch: Tensor, blocks: int | None) -> list[FeatureMap]:
        patches = [state[:, self._n_prefix :] for state in self._normed(batch, blocks or 1)]
        return hf.patch_maps(patches, batch, self.description)


def _fields(folder: Path) -> dict[str, Any]:
    config = hf.config(folder)
    kind = str(config.get("model_type"))
    if kind not in _DEFAULTS_BY_TYPE:
        raise BackboneError(
            f"{folder / hf.CONFIG}: model_type {kind!r}; allowed: {', '.join(_DEFAULTS_BY_TYPE)}"
        )
    return {"model_type": kind} | hf.pick(config, _DEFAULTS_BY_TYPE[kind], folder / hf.CONFIG)
