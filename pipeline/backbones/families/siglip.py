"""SigLIP, and SigLIP 2 at a fixed resolution, in transformers' format.

Image embedding: the attention-pooled `pooler_output`. Text embedding: the last position of a text
padded to the full length, through the head; only `input_ids` go in, since an attention mask or another
padding changes the vectors grossly. Both as transformers' `get_image_features` and
`get_text_features` give them, not normalised. There is no class token. A vision tower that was saved
alone is a backbone without text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones import weights
from deponij.pipeline.backbones.contract import (
    Backbone,
    Description,
    FeatureMap,
    Location,
    TowerFacts,
)
from deponij.pipeline.backbones.families import huggingface as hf
from deponij.pipeline.backbones.records import from_hf_processor
from deponij.pipeline.backbones.registry import register
from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor


# Fields that shape the computation, with the defaults of transformers' own configuration classes.
_VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "vision_use_head": True,
}
_TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "projection_size": None,
}
_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model")
_TOKENIZER_RECORDS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# SigLIP 2 at a fixed resolution is published under the model type of SigLIP.
_BOTH, _VISION = "siglip", "siglip_vision_model"


@register("siglip")
class Siglip(Backbone):
    """Both towers of a SigLIP model, or its vision tower alone."""

    library = "transformers"
    weights_names = weights.HF_WEIGHTS
    other_files = ((hf.CONFIG,), hf.PROCESSORS, _TOKENIZER_FILES)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        return hf.model_type(folder) in (_BOTH, _VISION)

    @classmethod
    def missing(cls, folder: Path | None) -> list[str]:
        lacking = super().missing(folder)
        if folder is not None and hf.model_type(folder) == _VISION:
            lacking = [one for one in lacking if one != " or ".join(_TOKENIZER_FILES)]
        return lacking

    @classmethod
    def describe(cls, location: Location, input_px: tuple[int, int] | None = None) -> Description:
        folder = location.folder_of("SigLIP")
        vision, text = _fields(folder)
        blocks, width = vision["num_hidden_layers"], vision["hidden_size"]
        names = (*_TOKENIZER_FILES, *_TOKENIZER_RECORDS)
        tokenizer = [folder / name for name in names if (folder / name).is_file()] if text else []
        return cls._description(
            location,
            from_hf_processor(hf.processor(folder)),
            input_px,
            TowerFacts(hf.side(vision["patch_size"]), blocks, width),
            shaping={"vision": vision, "text": text},
            dim=width,
            text_dim=text["projection_size"] if text else None,
            tokenizer_sha256=weights.sha256_of(tokenizer) if text else None,
        )

    @classmethod
    def open(cls, location: Location, description: Description) -> Siglip:
        # Brings torch._dynamo along, 12 s of processor time in all: see lean_imports.
        from transformers import AutoTokenizer, SiglipModel, SiglipVisionModel

        folder = location.folder_of("SigLIP")
        if not description.has_text:
            return cls(description, hf.load_exactly(SiglipVisionModel, folder))
        with hf.reading(folder):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(description, hf.load_exactly(SiglipModel, folder), tokenizer)

    @property
    def vision(self) -> Any:
        return self.model.vision_model if self.description.has_text else self.model

    def _embed_images(self, batch: Tensor) -> Tensor:
        resized = self._resized(batch)
        result: Tensor = self.vision(pixel_values=batch, interpolate_pos_encoding=resized).pooler_output
        return result

    def _token_ids(self, texts: list[str]) -> Tensor:
        length = self.model.config.text_config.max_position_embeddings
        coded = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        token_ids: Tensor = coded["input_ids"]
        return token_ids

    def _embed_token_ids(self, token_ids: Tensor) -> Tensor:
        result: Tensor = self.model.get_text_features(input_ids=token_ids).pooler_output
        return result

    def _tokens(self, batch: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
        raise self._no("class token", "tokens")

    def _dense(self, batch: Tensor, blocks: int | None) -> list[FeatureMap]:
        tower = self.vision
        states = tower(
            pixel_values=batch, output_hidden_states=True, interpolate_pos_encoding=self._resized(batch)
        ).hidden_states
        normed = [tower.post_layernorm(state) for state in states[-(blocks or 1) :]]
        return hf.patch_maps(normed, batch, self.description)

    def _resized(self, batch: Tensor) -> bool:
        """Whether the positions must be resampled, which this library does only when asked."""
        own = hf.side(self.vision.config.image_size)
        return tuple(batch.shape[2:]) != (own, own)


def _fields(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Fields of the vision and the text tower; None for a vision tower alone."""
    config, where = hf.config(folder), folder / hf.CONFIG
    is_alone = config.get("model_type") == _VISION
    vision = config if is_alone else weights.section(config, "vision_config", str(where))
    vision = hf.pick(vision, _VISION_DEFAULTS, where)
    text = hf.pick(weights.section(config, "text_config", str(where)), _TEXT_DEFAULTS, where)
    if not vision["vision_use_head"]:
        raise BackboneError(
            f"{folder}: a SigLIP without its pooling head (vision_use_head) has no image embedding"
        )
    if is_alone:
        return vision, None
    return vision, text | {"projection_size": text["projection_size"] or text["hidden_size"]}
