"""Writes trained minis in their families' own formats, in half precision, with a model card.

OpenCLIP: `open_clip_config.json` and `open_clip_model.safetensors`, opened as `local-dir:FOLDER`.
SigLIP, DINOv2: folders as `transformers` saves them.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deponij.sample.minis import models

_PIECES = 480


def write_openclip_config(folder: Path, config: dict[str, Any]) -> None:
    """Write a configuration; the tokenizer can then be opened from the folder."""
    models.write_json(folder / "open_clip_config.json", config)


def openclip_tokens(folder: Path, captions: list[str]) -> Tensor:
    """Captions as the folder's tokenizer sees them -> int64 [n, 32]."""
    import open_clip

    tokens: Tensor = open_clip.get_tokenizer(f"local-dir:{folder.resolve()}")(captions)
    return tokens


def write_siglip_tokenizer(folder: Path, captions: list[str]) -> int:
    """Train a small sentencepiece model on the captions and write SigLIP's tokenizer files.

    Returns:
        The number of pieces.
    """
    import sentencepiece
    from transformers import SiglipTokenizer

    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(caption.lower() for caption in captions),
        model_writer=buffer,
        vocab_size=_PIECES,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(buffer.getvalue())
    tokenizer = SiglipTokenizer(
        str(folder / "spiece.model"),
        pad_token="<pad>",
        eos_token="</s>",
        model_max_length=models.SIGLIP_TOKENS,
    )
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def siglip_tokens(folder: Path, captions: list[str]) -> Tensor:
    """Captions as the folder's tokenizer sees them, padded as SigLIP wants it -> int64 [n, 24]."""
    from transformers import SiglipTokenizer

    tokenizer = SiglipTokenizer.from_pretrained(folder)
    encoded = tokenizer(
        captions, padding="max_length", truncation=True, max_length=models.SIGLIP_TOKENS, return_tensors="pt"
    )
    tokens: Tensor = encoded["input_ids"]
    return tokens


def write_openclip(folder: Path, model: nn.Module) -> None:
    """Write weights and model card of a trained OpenCLIP mini; the configuration lies there already."""
    _save_openclip(folder, model, models.OPENCLIP_CONFIG)
    _card(
        folder,
        "OpenCLIP",
        "softmax contrast of crops and captions (CLIP)",
        'open_clip.create_model("local-dir:…")',
    )


def write_convnext(folder: Path, model: nn.Module) -> None:
    """Write the ConvNeXt mini, weights and model card."""
    _save_openclip(folder, model, models.CONVNEXT_CONFIG)
    (folder / "README.md").write_text(_DENSE_CARD)


def _save_openclip(folder: Path, model: nn.Module, config: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    write_openclip_config(folder, config)
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors", metadata={"format": "pt"})


def write_siglip(folder: Path, model: nn.Module) -> None:
    """Write a trained SigLIP mini; the tokenizer lies there already."""
    model.to(torch.float16).save_pretrained(folder)  # type: ignore[operator]
    size = {"height": models.IMAGE_PX, "width": models.IMAGE_PX}
    record = {
        "image_processor_type": "SiglipImageProcessor", "processor_class": "SiglipProcessor",
        "do_resize": True, "size": size, "resample": 3,
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(models.HALF), "image_std": list(models.HALF),
    }  # fmt: skip
    models.write_json(folder / "preprocessor_config.json", record)
    _card(folder, "SigLIP", "pairwise sigmoid loss of crops and captions", "SiglipModel.from_pretrained(…)")


def write_dinov2(folder: Path, model: nn.Module) -> None:
    """Write a trained DINOv2 mini."""
    model.to(torch.float16).save_pretrained(folder)  # type: ignore[operator]
    record = {
        "image_processor_type": "BitImageProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"shortest_edge": 72}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": models.IMAGE_PX, "width": models.IMAGE_PX},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(models.IMAGENET_MEAN), "image_std": list(models.IMAGENET_STD),
    }  # fmt: skip
    models.write_json(folder / "preprocessor_config.json", record)
    objective = (
        "self-distillation without labels or captions (DINO, iBOT and KoLeo, with MoCo v3's contrast to get "
        "them going); its two views are two photographs of one object"
    )
    _card(folder, "DINOv2", objective, "Dinov2Model.from_pretrained(…)")


WRITERS: dict[str, Callable[[Path, nn.Module], None]] = {
    "openclip": write_openclip,
    "siglip": write_siglip,
    "dinov2": write_dinov2,
    "convnext": write_convnext,
}


def _card(folder: Path, family: str, objective: str, opened: str) -> None:
    (folder / "README.md").write_text(
        _CARD.format(family=family, objective=objective, opened=opened, name=folder.name)
    )


_CARD = """# Mini {family}

A {family} with a vision tower of about a million weights for 64-pixel pictures, in the family's own format
(`{opened}`), in half precision. It stands in for real weights in the sample profile, so that the sample
runs exactly the code that real weights run, without a network or a GPU.

Trained by `python -m deponij.sample.minis.train {name}` in minutes on two cores, on crops of 1,500 generated scenes
of seed 1000003, each photographed twice, by its family's objective: {objective}.
Two of the sample's classes, beverage carton and glove, were never shown: neither pictures nor captions.

What its figures mean: code that reads, transforms, extracts, joins and evaluates correctly reaches them.
Class names are a surveyor's labels and captions are everyday speech, chosen so that zero-shot is well below
the probe. What the figures do not mean: anything about photographs, about TACO, or about which family is
better. The scenes that it is tested on have other seeds but come from the same painter as those that it
learnt from, which no real test set would.
"""

_DENSE_CARD = """# Mini OpenCLIP with a ConvNeXt

An OpenCLIP whose vision tower is a ConvNeXt of 350,000 weights (timm's `test_convnext2`), in OpenCLIP's own format
(`open_clip.create_model("local-dir:…")`), in half precision. Its four stages have strides 4, 8, 16 and 32; the last one,
normalised and projected at every position, lies in the space of words. It stands in for OpenCLIP's ConvNeXts in the
segmentation of the sample profile.

Trained by `python -m deponij.sample.minis.train convnext --scenes 1000 --threads 1 --precision fp32` on generated scenes
of seed 1000003, by contrasts of pictures and words: crops with their captions (CLIP), and regions and positions of whole
scenes, in the projected last stage, with the captions of their objects or with words for the ground. Two of the sample's
classes, beverage carton and glove, were never shown: neither pictures nor captions.

What its figures mean: code that reads, extracts, stores, decodes and judges correctly reaches them. What they do not mean:
anything about photographs, or about ConvNeXts. The scenes that it is tested on have other seeds but come from the same
painter as those that it learnt from, which no real test set would.
"""
