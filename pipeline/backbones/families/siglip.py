"""SigLIP, and SigLIP 2 at a fixed resolution, in transformers' format.

Image embedding: the attention-pooled `pooler_output`. Text embedding: the last position of a text
padded to the full length, through the head; only `input_ids` go in, since an attention mask or another
padding changes the vectors grossly. Both as transformers' `get_image_features` and
`get_text_features` give them, not normalised. There is no class token.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones import weights
from deponij.pipeline.backbones.contract import Backbone, Description, FeatureMap, Location, check_grid
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
_MODEL_TYPE = "siglip"


@register("siglip")
class Siglip(Backbone):
    """Both towers of a SigLIP model."""

    library = "transformers"
    weights_names = weights.HF_WEIGHTS
    other_files = ((hf.CONFIG,), (hf.PROCESSOR,), _TOKENIZER_FILES)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        return hf.model_type(folder) == _MODEL_TYPE

    @classmethod
    def describe(cls, location: Location, input_px: tuple[int, int] | None = None) -> Description:
        folder = _folder(location)
        vision, text = _fields(folder)
        transform = from_hf_processor(weights.read_json(folder / hf.PROCESSOR))
        transform = transform.for_input(*input_px) if input_px else transform
        patch_px = hf.side(vision["patch_size"])
        check_grid(location.name, transform.input_px, patch_px)
        names = (*_TOKENIZER_FILES, *_TOKENIZER_RECORDS)
        tokenizer = [folder / name for name in names if (folder / name).is_file()]
        return Description(
            name=location.name,
            family=cls.family,
            architecture=hf.descriptor(cls.family, {"vision": vision, "text": text}),
            dim=vision["hidden_size"],
            text_dim=text["projection_size"],
            input_px=transform.input_px,
            patch_px=patch_px,
            n_blocks=vision["num_hidden_layers"],
            token_dim=vision["hidden_size"],
            has_class_token=False,
            transform=transform,
            weights_sha256=weights.sha256_of(weights.find(folder, cls.weights_names)),
            tokenizer_sha256=weights.sha256_of(tokenizer),
            source=location.source,
            revision=location.revision,
            library=cls.library,
        )

    @classmethod
    def open(cls, location: Location, description: Description) -> Siglip:
        from transformers import AutoTokenizer, SiglipModel

        folder = _folder(location)
        with hf.quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(description, hf.load_exactly(SiglipModel, folder), tokenizer)

    def _embed_images(self, batch: Tensor) -> Tensor:
        resized = self._resized(batch)
        features = self.model.get_image_features(pixel_values=batch, interpolate_pos_encoding=resized)
        result: Tensor = features.pooler_output
        return result

    def _embed_texts(self, texts: list[str]) -> Tensor:
        length = self.model.config.text_config.max_position_embeddings
        coded = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        result: Tensor = self.model.get_text_features(
            input_ids=coded["input_ids"].to(self.device)
        ).pooler_output
        return result

    def _tokens(self, batch: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
        raise self._no("class token", "tokens")

    def _dense(self, batch: Tensor, blocks: int | None) -> list[FeatureMap]:
        tower = self.model.vision_model
        states = tower(
            pixel_values=batch, output_hidden_states=True, interpolate_pos_encoding=self._resized(batch)
        ).hidden_states
        patch_px, n_blocks, count = (
            self.description.patch_px or 0,
            self.description.n_blocks or 0,
            blocks or 1,
        )
        grids = [hf.grid(tower.post_layernorm(state), batch.shape[2:], patch_px) for state in states[-count:]]
        return [FeatureMap(f"block{n_blocks - count + i}", patch_px, one) for i, one in enumerate(grids)]

    def _resized(self, batch: Tensor) -> bool:
        """Whether the positions must be resampled, which this library does only when asked."""
        own = hf.side(self.model.config.vision_config.image_size)
        return tuple(batch.shape[2:]) != (own, own)


def _fields(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the vision and the text tower."""
    config = weights.read_json(folder / hf.CONFIG)
    vision = hf.pick(config.get("vision_config") or {}, _VISION_DEFAULTS)
    text = hf.pick(config.get("text_config") or {}, _TEXT_DEFAULTS)
    if not vision["vision_use_head"]:
        raise BackboneError(
            f"{folder}: a SigLIP without its pooling head (vision_use_head) has no image embedding"
        )
    return vision, text | {"projection_size": text["projection_size"] or text["hidden_size"]}


def _folder(location: Location) -> Path:
    if location.folder is None:
        raise BackboneError(f"{location.name}: SigLIP needs a folder with config.json, not a single file")
    return location.folder
