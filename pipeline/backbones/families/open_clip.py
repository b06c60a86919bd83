"""OpenCLIP: any model of open_clip, from a model folder, a hub repository or a weights file.

Embeddings: `encode_image` and `encode_text`, not normalised. The transform is the folder's
`preprocess_cfg`, resized to the vision tower's `image_size` as open_clip does. Model configurations
are read as JSON, from the folder or from the library's own files, without importing the library.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones import limits, weights
from deponij.pipeline.backbones.catalog import Entry
from deponij.pipeline.backbones.contract import (
    Backbone,
    Description,
    FeatureMap,
    Location,
    TowerFacts,
    block_maps,
)
from deponij.pipeline.backbones.families import huggingface as hf
from deponij.pipeline.backbones.families import timm_towers
from deponij.pipeline.backbones.lean_imports import lean_open_clip, without_compiler
from deponij.pipeline.backbones.records import from_open_clip
from deponij.pipeline.backbones.registry import register
from deponij.pipeline.backbones.remember import remembered, sha256_of_value
from deponij.pipeline.registry import unknown
from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor


_POSITIONS = "visual.positional_embedding"
CONFIG = "open_clip_config.json"
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_DEFAULT_CONTEXT_LENGTH = 77
# Keys that say where to get initial weights, not what is computed.
_NOISE = ("hf_model_pretrained", "timm_model_pretrained")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
_TOKENIZER_RECORDS = ("tokenizer_config.json", "special_tokens_map.json")


@register("open_clip")
class OpenClip(Backbone):
    """Both towers of an open_clip model."""

    library = "open_clip_torch"
    weights_names = (
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.safetensors",
        "open_clip_pytorch_model.bin",
        "open_clip_pytorch_model.pth",
    )
    other_files = ((CONFIG,),)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        return (folder / CONFIG).is_file()

    @classmethod
    def describe(cls, location: Location, input_px: tuple[int, int] | None = None) -> Description:
        config, preprocess = records_of(location)
        vision = config["vision_cfg"]
        dim = int(config["embed_dim"])
        if location.folder is not None:  # else the configuration is the library's own
            weights.refuse_larger(_least_numbers(config), cls.weights_files(location))
        return cls._description(
            location,
            from_open_clip(preprocess, _pair(vision.get("image_size", 224))),
            input_px,
            _facts(vision),
            shaping=_shaping(config),
            dim=dim,
            text_dim=dim,
            tokenizer_sha256=_tokenizer_sha256(location, config["text_cfg"]),
        )

    @classmethod
    def open(cls, location: Location, description: Description) -> OpenClip:
        open_clip = lean_open_clip()
        config, _ = records_of(location)
        vision = config["vision_cfg"]
        resized = description.input_px != _pair(vision.get("image_size", 224))
        files = cls.weights_files(location)
        upstream = f"local-dir:{location.folder}" if location.folder else str(location.architecture)
        model = _create(location, upstream, description.input_px if resized else None)
        tensors = _converted(model, weights.read_tensors(files))
        weights.fill(model, tensors, files, adapt=partial(_resampled, model=model) if resized else None)
        if resized and "timm_model_name" in vision:
            model.visual.set_input_size(description.input_px)
        return cls(description, model, open_clip.get_tokenizer(upstream))

    @property
    def vision(self) -> Any:
        return self.model.visual

    def _embed_images(self, batch: Tensor) -> Tensor:
        result: Tensor = self.model.encode_image(batch, normalize=False)
        return result

    def _token_ids(self, texts: list[str]) -> Tensor:
        token_ids: Tensor = self.tokenizer(texts)
        return token_ids

    def _embed_token_ids(self, token_ids: Tensor) -> Tensor:
        result: Tensor = self.model.encode_text(token_ids, normalize=False)
        return result

    def _tokens(self, batch: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
        visual = self.model.visual
        if hasattr(visual, "trunk"):
            return timm_towers.tokens(visual.trunk, batch, blocks)
        states = visual.forward_intermediates(
            batch,
            indices=blocks,
            normalize_intermediates=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        prefixes, patches = states["image_intermediates_prefix"], states["image_intermediates"]
        return [(prefix[:, 0], patch) for prefix, patch in zip(prefixes, patches, strict=True)]

    def _dense(self, batch: Tensor, blocks: int | None) -> list[FeatureMap]:
        visual = self.model.visual
        if hasattr(visual, "trunk"):
            return timm_towers.dense(visual.trunk, batch, blocks)
        patch_px, n_blocks = self.description.patch_px, self.description.n_blocks
        if patch_px is None or n_blocks is None:  # ModifiedResNet: the stem, then four stages
            maps = visual.forward_intermediates(batch, intermediates_only=True)["image_intermediates"][1:]
            stages = [FeatureMap(f"stage{i + 1}", 4 << i, one) for i, one in enumerate(maps)]
            return timm_towers.last(stages, blocks)
        if not self.description.has_class_token:
            raise self._no("final norm of single tokens (it pools by attention)", "dense")
        maps = visual.forward_intermediates(
            batch, indices=blocks or 1, normalize_intermediates=True, intermediates_only=True
        )["image_intermediates"]
        return block_maps(maps, n_blocks, patch_px)

    def _head(self) -> Callable[[Tensor], Tensor] | None:
        import torch

        visual = self.model.visual
        if not hasattr(visual, "trunk"):
            matrix = getattr(visual, "proj", None)  # [t, d]
            if matrix is None or not self.description.has_class_token:
                return None
            return lambda values: torch.einsum("nthw,td->ndhw", values, matrix)
        norm = getattr(getattr(visual.trunk, "head", None), "norm", None)
        linear = getattr(visual.head, "proj", None)
        if norm is None or linear is None or self.description.n_blocks is not None:
            return None
        # Pooling comes before this norm in encode_image, so the mean of the result is not the embedding.
        return lambda values: torch.nn.functional.conv2d(
            norm(values), linear.weight[:, :, None, None], linear.bias
        )


def resolve_tag(entry: Entry) -> Entry:
    """An entry that names weights by open_clip's tag, as one that names their hub repository.

    Remembered for the library's version: only the first call imports it.

    Raises:
        UsageError: an unknown architecture or tag.
        BackboneError: the tag's weights are not in a repository with a record of their own.
    """
    from importlib.metadata import version

    architecture, tag = str(entry.architecture), str(entry.tag)
    key = [architecture, tag, version(OpenClip.library)]
    place = str(remembered("open_clip_tags", key, lambda: _place_of_tag(architecture, tag)))
    repo, _, file = place.rpartition("/")
    if not repo or file:
        raise BackboneError(
            f"open_clip:{architecture}/{tag}: its weights are not in a hub repository of their own "
            f"({place or 'a URL'}). "
            f"Download them and use open_clip:{architecture}/FILE"
        )
    return entry.model_copy(update={"repo": repo, "tag": None, "architecture": None})


def _place_of_tag(architecture: str, tag: str) -> str:
    """`ORG/REPO/` or `ORG/REPO/FILE` of published weights, as open_clip writes it; "" for plain URLs."""
    lean_open_clip()
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    _built_in(architecture)
    known = list_pretrained_tags_by_model(architecture)
    if tag not in known:
        raise unknown(f"open_clip tag of {architecture}", tag, known)
    return str(get_pretrained_cfg(architecture, tag).get("hf_hub") or "")


def _create(location: Location, upstream: str, image_size: tuple[int, int] | None) -> Any:
    """The model with random weights; open_clip's own factory, so that nothing is built differently."""
    import open_clip

    root = logging.getLogger()  # open_clip logs through the root logger
    root.addFilter(_expected)
    try:
        return open_clip.create_model(
            upstream, load_weights=False, pretrained_text=False, precision="fp32", force_image_size=image_size
        )
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AssertionError, ArithmeticError) as error:
        raise BackboneError(f"{location.name}: open_clip cannot build this model: {error}") from error
    finally:
        root.removeFilter(_expected)


def _expected(record: logging.LogRecord) -> bool:
    """Drops the warning that the model is random: it is filled right afterwards."""
    return not record.getMessage().startswith("No pretrained weights loaded")


def _converted(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of older and foreign checkpoints as open_clip's `load_checkpoint` translates them."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    tensors = convert_state_dict(model, tensors)
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = convert_to_custom_text_state_dict(tensors)
    for name in ("logit_scale", "logit_bias"):  # a scalar or one number: the same thing
        own = getattr(model, name, None)
        if own is not None and name in tensors and tensors[name].numel() == 1:
            tensors[name] = tensors[name].reshape(own.shape)
    return dict(tensors)


def _resampled(tensors: dict[str, Tensor], model: Any) -> None:
    """Positions brought to another grid, in float32: CPUs have no bicubic filter of half precision."""
    from open_clip.model import resize_pos_embed

    if _POSITIONS in tensors:
        tensors[_POSITIONS] = tensors[_POSITIONS].float()
    resize_pos_embed(tensors, model=model)


def records_of(location: Location) -> tuple[dict[str, Any], dict[str, Any]]:
    """Model configuration and preprocessing record of a location."""
    if location.folder is None:
        return _built_in(str(location.architecture)), {}
    path = str(location.folder / CONFIG)
    record = weights.read_json(location.folder / CONFIG)
    limits.check_record(record, path)
    config = weights.section(record, "model_cfg", path)
    if not all(config.get(name) is not None for name in ("embed_dim", "vision_cfg", "text_cfg")):
        raise BackboneError(f"{path}: model_cfg with embed_dim, vision_cfg and text_cfg is needed")
    for name in ("vision_cfg", "text_cfg"):
        weights.section(config, name, path)
    return config, weights.section(record, "preprocess_cfg", path)


def _built_in(architecture: str) -> dict[str, Any]:
    """A model configuration of the library, by name.

    Raises:
        UsageError: there is none.
    """
    folder = _library_folder() / "model_configs"
    path = folder / f"{architecture}.json"
    if not path.is_file():
        raise unknown(
            "open_clip architecture", architecture, sorted(one.stem for one in folder.glob("*.json"))
        )
    return weights.read_json(path)


def _library_folder() -> Path:
    """Where open_clip is installed, without importing it."""
    library = find_spec("open_clip")
    if library is None or not library.submodule_search_locations:
        raise BackboneError("open_clip is not installed; install open_clip_torch")
    return Path(library.submodule_search_locations[0])


def _facts(vision: Mapping[str, Any]) -> TowerFacts:
    """What the vision configuration says of tokens."""
    if "timm_model_name" in vision:
        return _timm_facts(str(vision["timm_model_name"]))
    layers, patch = vision.get("layers", 12), vision.get("patch_size", 16)
    if isinstance(layers, list | tuple):
        return TowerFacts()
    plain = not vision.get("attentional_pool")
    return TowerFacts(hf.side(patch), int(layers), int(vision.get("width", 768)) if plain else None, plain)


def _least_numbers(config: Mapping[str, Any]) -> int:
    """How many numbers a model of this configuration has, at least: in its layers and tables, biases left out."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    n_numbers = 0
    if "timm_model_name" in vision:
        n_numbers += weights.n_numbers_of(_timm_blank(str(vision["timm_model_name"])))
    else:
        n_numbers += _in_layers(vision, 768)
    if not text.get("hf_model_name"):
        n_rows = text.get("vocab_size", 49408) + text.get("context_length", _DEFAULT_CONTEXT_LENGTH)
        n_numbers += _in_layers(text, 512) + n_rows * text.get("width", 512)
    return int(n_numbers)


def _in_layers(tower: Mapping[str, Any], width: int) -> int:
    """Of a transformer: attention, MLP and positions. Of a ResNet (a list of layers): less than its convolutions."""
    layers, width = tower.get("layers", 12), int(tower.get("width", width))
    if isinstance(layers, list | tuple):
        return int(sum(layers)) * width**2
    n_patches = 0
    if "image_size" in tower:
        height, across = _pair(tower["image_size"])
        n_patches = height * across // hf.side(tower.get("patch_size", 16)) ** 2
    return int(layers * (4 + 2 * tower.get("mlp_ratio", 4.0)) * width**2) + n_patches * width


def _timm_facts(name: str) -> TowerFacts:
    """Facts of a timm tower, which only the model knows."""
    return timm_towers.facts(_timm_blank(name))


def _timm_blank(name: str) -> Any:
    """A timm tower without memory for its weights."""
    with without_compiler():
        import timm
    import torch

    with torch.device("meta"):
        return timm.create_model(name, pretrained=False)


def _shaping(config: Any) -> Any:
    """The configuration without what leaves the computation alone: null, false, sources of weights."""
    if not isinstance(config, dict):
        return config
    kept = {name: _shaping(value) for name, value in config.items() if name not in _NOISE}
    return {name: value for name, value in kept.items() if value is not None and value is not False}


def _tokenizer_sha256(location: Location, text: Mapping[str, Any]) -> str:
    """Hash of the vocabulary and of the settings that shape the token ids."""
    settings = {
        name: text.get(name)
        for name in ("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode")
        if text.get(name)
    }
    settings["context_length"] = text.get("context_length", _DEFAULT_CONTEXT_LENGTH)
    names = (*_TOKENIZER_FILES, *_TOKENIZER_RECORDS)
    files = [
        location.folder / name for name in names if location.folder and (location.folder / name).is_file()
    ]
    if not text.get("hf_tokenizer_name"):
        files = [_library_folder() / _VOCABULARY]
    digest = weights.sha256_of(files) if files else ""
    return sha256_of_value([settings, digest])


def _pair(size: Any) -> tuple[int, int]:
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
