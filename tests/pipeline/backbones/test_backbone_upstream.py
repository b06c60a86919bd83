"""Each family against its own library on the same weights and pictures, transforms included, at float32.

Expected values come from open_clip, transformers and timm, called as their documentation calls them.
"""

from collections.abc import Callable
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image

from deponij.pipeline.backbones import Backbone, as_batch

TOLERANCE = 1e-5
TEXTS = ["a plastic bottle", "bottle_cap", "A crushed CAN, on the   beach!", ""]

Loaded = Callable[[str], Backbone]
Pictures = dict[str, Image.Image]


def largest_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    return float((ours - theirs).abs().max())


def batch_of(backbone: Backbone, pictures: Pictures) -> torch.Tensor:
    return as_batch([backbone.description.transform.apply(image) for image in pictures.values()])


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return largest_difference(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize("maker", ["open_clip_vit", "open_clip_convnext"])
def test_open_clip(maker: str, loaded: Loaded, shelf: tiny_models.Shelf, pictures: Pictures) -> None:
    import open_clip

    backbone = loaded(maker)
    name = f"local-dir:{shelf[maker]}"
    model, _, preprocess = open_clip.create_model_and_transforms(name, require_pretrained=True)
    model.eval()
    with torch.inference_mode():
        images = torch.stack([preprocess(image) for image in pictures.values()])
        assert close(backbone.embed_images(batch_of(backbone, pictures)), model.encode_image(images))
        tokens = open_clip.get_tokenizer(name)(TEXTS)
        assert close(backbone.embed_texts(TEXTS), model.encode_text(tokens))


def test_open_clip_tokens_and_dense(loaded: Loaded, pictures: Pictures) -> None:
    backbone = loaded("open_clip_vit")
    batch, model = batch_of(backbone, pictures), backbone.model
    with torch.inference_mode():
        known = model.forward_intermediates(image=batch, normalize=False, image_output_extra_tokens=True)
        normed = []
        for prefix, patches in zip(
            known["image_intermediates_prefix"], known["image_intermediates"], strict=True
        ):
            rows = torch.cat([prefix, patches.flatten(2).transpose(1, 2)], dim=1)
            normed.append(model.visual.ln_post(rows))
    ours = backbone.tokens(batch, blocks=2)
    for block in range(2):
        assert close(ours[:, block, 0], normed[block][:, 0])
        assert close(ours[:, block, 1], normed[block][:, 1:].mean(dim=1))
    (dense,) = backbone.dense(batch)
    assert (dense.name, dense.stride_px) == ("block1", 8)
    assert close(dense.values, normed[-1][:, 1:].transpose(1, 2).unflatten(2, (4, 4)))
    # The projection of the class token at its one position is encode_image itself.
    embedding = backbone.project(ours[:, -1, 0][:, :, None, None])[:, :, 0, 0]
    assert close(embedding, backbone.embed_images(batch))


def test_open_clip_convnext_stages_and_projection(loaded: Loaded, pictures: Pictures) -> None:
    """Stages at strides 4 to 32; average, norm and projection of the last give encode_image."""
    backbone = loaded("open_clip_convnext")
    batch, visual = batch_of(backbone, pictures), backbone.model.visual
    maps = backbone.dense(batch)
    assert [one.stride_px for one in maps] == [4, 8, 16, 32]
    with torch.inference_mode():
        known = backbone.model.forward_intermediates(image=batch, normalize=False)
        for ours, theirs in zip(maps, known["image_intermediates"], strict=True):
            assert close(ours.values, theirs)
        last = maps[-1].values
        pooled = backbone.project(last.mean(dim=(2, 3), keepdim=True))[:, :, 0, 0]
        assert close(pooled, known["image_features"])
        each = torch.stack(
            [
                visual.head(visual.trunk.forward_head(last[:, :, y : y + 1, x : x + 1]))
                for y in range(last.shape[2])
                for x in range(last.shape[3])
            ],
            dim=-1,
        )
    assert close(backbone.project(last).flatten(2), each)
    assert len(backbone.dense(batch, blocks=2)) == 2


@pytest.mark.parametrize("maker", ["siglip", "siglip2"])
def test_siglip(maker: str, loaded: Loaded, shelf: tiny_models.Shelf, pictures: Pictures) -> None:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    backbone, folder = loaded(maker), shelf[maker]
    model: Any = AutoModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        for name, image in pictures.items():
            inputs = processor(image, return_tensors="pt")
            theirs = model.get_image_features(**inputs).pooler_output
            assert close(backbone.embed_images(batch_of(backbone, {name: image})), theirs)
        coded = tokenizer(TEXTS, padding="max_length", max_length=64, truncation=True, return_tensors="pt")
        theirs = model.get_text_features(input_ids=coded["input_ids"]).pooler_output
        assert close(backbone.embed_texts(TEXTS), theirs)
        batch = batch_of(backbone, pictures)
        tokens = model.vision_model(batch).last_hidden_state
    (dense,) = backbone.dense(batch)
    assert (dense.name, dense.stride_px) == ("block1", 8)
    assert close(dense.values.flatten(2).transpose(1, 2), tokens)
    older = backbone.dense(batch, blocks=2)
    assert [one.name for one in older] == ["block0", "block1"]
    assert torch.equal(older[1].values, dense.values) and not torch.allclose(older[0].values, dense.values)


def test_siglip_texts_are_padded_to_the_full_length(loaded: Loaded) -> None:
    """One text alone and among longer ones: the same vector, since the length is fixed."""
    backbone = loaded("siglip")
    together = backbone.embed_texts(["can", "a plastic bottle on the beach in the sand"])
    assert torch.allclose(backbone.embed_texts(["can"])[0], together[0], atol=1e-6)


@pytest.mark.parametrize("maker", ["dinov2", "dinov2_registers"])
def test_dinov2(maker: str, loaded: Loaded, shelf: tiny_models.Shelf, pictures: Pictures) -> None:
    from transformers import AutoImageProcessor, AutoModel

    backbone, folder = loaded(maker), shelf[maker]
    model: Any = AutoModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        for name, image in pictures.items():
            theirs = model(**processor(image, return_tensors="pt")).pooler_output
            assert close(backbone.embed_images(batch_of(backbone, {name: image})), theirs)
        batch = batch_of(backbone, pictures)
        outputs = model(batch, output_hidden_states=True)
        n_prefix = 1 + getattr(model.config, "num_register_tokens", 0)
        normed = [model.layernorm(state) for state in outputs.hidden_states[-2:]]
    assert torch.equal(normed[-1], outputs.last_hidden_state)
    tokens = backbone.tokens(batch, blocks=2)
    for block in range(2):
        assert close(tokens[:, block, 0], normed[block][:, 0])
        assert close(tokens[:, block, 1], normed[block][:, n_prefix:].mean(dim=1))
    (dense,) = backbone.dense(batch)
    assert close(dense.values.flatten(2).transpose(1, 2), outputs.last_hidden_state[:, n_prefix:])


@pytest.mark.parametrize("maker", ["timm_vit", "timm_resnet"])
def test_timm(maker: str, loaded: Loaded, shelf: tiny_models.Shelf, pictures: Pictures) -> None:
    """timm's own way to a folder: `create_model("local-dir:...", pretrained=True, num_classes=0)`."""
    import timm
    from timm.data import create_transform, resolve_model_data_config

    backbone = loaded(maker)
    model = timm.create_model(f"local-dir:{shelf[maker]}", pretrained=True, num_classes=0).eval()
    transform = create_transform(**resolve_model_data_config(model))
    batch = batch_of(backbone, pictures)
    with torch.inference_mode():
        images = torch.stack([transform(image.convert("RGB")) for image in pictures.values()])
        assert close(backbone.embed_images(batch), model(images))
        maps = model.forward_intermediates(images, intermediates_only=True, norm=maker == "timm_vit")
    dense = backbone.dense(batch)
    # Maps before pooling reach tens, and channels-last rounds otherwise: as exact as float32 is at that size.
    size = max(1.0, float(maps[-1].abs().max()))
    assert largest_difference(dense[-1].values, maps[-1]) <= TOLERANCE * size
    expected = [16] if maker == "timm_vit" else [2, 4, 8, 16, 32]
    assert [one.stride_px for one in dense] == expected


@pytest.mark.parametrize(("maker", "size"), [("open_clip_vit", 48), ("siglip", 48), ("dinov2", 56)])
def test_other_input_sizes(maker: str, size: int, shelf: tiny_models.Shelf, pictures: Pictures) -> None:
    """Positions are resampled as the family's own library does."""
    from deponij.pipeline.backbones import load

    folder = shelf[maker]
    backbone = load(str(folder), input_px=(size, size))
    assert backbone.description.input_px == (size, size)
    batch = batch_of(backbone, pictures)
    assert batch.shape[2:] == (size, size)
    with torch.inference_mode():
        theirs = _UPSTREAM_RESIZED[maker](folder, size, batch)
    assert close(backbone.embed_images(batch), theirs)


def _open_clip_resized(folder: Any, size: int, batch: torch.Tensor) -> torch.Tensor:
    import open_clip

    model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True, force_image_size=size)
    result: torch.Tensor = model.eval().encode_image(batch)
    return result


def _siglip_resized(folder: Any, size: int, batch: torch.Tensor) -> torch.Tensor:
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(folder).eval()
    result: torch.Tensor = model.get_image_features(batch, interpolate_pos_encoding=True).pooler_output
    return result


def _dinov2_resized(folder: Any, size: int, batch: torch.Tensor) -> torch.Tensor:
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(folder).eval()
    result: torch.Tensor = model(batch).pooler_output
    return result


_UPSTREAM_RESIZED = {
    "open_clip_vit": _open_clip_resized,
    "siglip": _siglip_resized,
    "dinov2": _dinov2_resized,
}


@pytest.mark.parametrize("maker", ["open_clip_convnext", "timm_vit"])
def test_not_square_inputs(maker: str, shelf: tiny_models.Shelf, pictures: Pictures) -> None:
    from deponij.pipeline.backbones import load

    height, width = (90, 120) if maker == "open_clip_convnext" else (96, 128)
    backbone = load(str(shelf[maker]), input_px=(height, width))
    maps = backbone.dense(batch_of(backbone, {"odd": pictures["odd"]}))
    for one in maps:
        assert one.values.shape[2:] == (height // one.stride_px, width // one.stride_px)
