"""Transforms give what the families' own preprocessing gives; expected values come from those libraries."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import pictures

from deponij.pipeline.backbones.records import from_hf_processor, from_open_clip, from_timm
from deponij.pipeline.backbones.transform import Resize, Transform
from deponij.store.errors import BackboneError

NAMES = sorted(pictures())
TOLERANCE = 1e-6

OPEN_CLIP = {
    "plain": ({}, (32, 32)),
    "bilinear": ({"interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}, (33, 33)),
    "squash": ({"resize_mode": "squash"}, (32, 48)),
    "longest": ({"resize_mode": "longest", "fill_color": 7}, (40, 40)),
    "longest_odd": ({"resize_mode": "longest"}, (33, 47)),
    "not_square": ({}, (24, 40)),
}

HF_STEPS = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "resample": 3,
}
HF: dict[str, dict[str, Any]] = {
    "siglip": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 48}},
    "siglip_bare": {"image_processor_type": "SiglipImageProcessor"},
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 37},
        "crop_size": {"height": 28, "width": 28},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "crop_larger": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 21},
        "crop_size": {"height": 28, "width": 33},
    },
    "vit_fast": {
        "do_convert_rgb": True,
        "image_processor_type": "ViTImageProcessorFast",
        "size": {"height": 32, "width": 32},
        "resample": 2,
    },
    "no_normalise": {"image_processor_type": "SiglipImageProcessor", "do_normalize": False},
}

TIMM = {
    "defaults": {"input_size": (3, 32, 32)},
    "tight": {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear"},
    "odd": {"input_size": (3, 33, 33), "crop_pct": 0.9},
    "not_square": {"input_size": (3, 24, 40), "crop_pct": 0.95},
    "squash": {"input_size": (3, 32, 40), "crop_mode": "squash", "crop_pct": 0.9},
    "border": {"input_size": (3, 32, 32), "crop_mode": "border", "crop_pct": 1.0},
    "crop_larger": {"input_size": (3, 32, 32), "crop_pct": 1.4},
}


def largest_difference(ours: np.ndarray, theirs: Any) -> float:
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.float32
    return float(np.abs(ours - theirs).max())


def fails_upstream(error: Exception) -> bool:
    """Pillow's refusal of a size that upstream's geometry rounded to 0."""
    return "height and width must be > 0" in str(error)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", sorted(OPEN_CLIP))
def test_open_clip(case: str, name: str) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    record, input_px = OPEN_CLIP[case]
    upstream = image_transform_v2(PreprocessCfg(**{"size": input_px, **record}), is_train=False)
    image = pictures()[name]
    ours = from_open_clip(record, input_px).apply(image)
    try:
        theirs = upstream(image)
    except ValueError as error:
        assert fails_upstream(error)
        assert ours.shape == (3, *input_px)  # where upstream fails, one row or column is kept
        return
    assert largest_difference(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", sorted(HF))
def test_transformers(case: str, name: str, tmp_path: Any) -> None:
    from transformers import AutoImageProcessor

    record = HF_STEPS | HF[case]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(record))
    upstream = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    image = pictures()[name]
    theirs = upstream(image, return_tensors="np")["pixel_values"][0]
    assert largest_difference(from_hf_processor(record).apply(image), theirs) <= TOLERANCE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", sorted(TIMM))
def test_timm(case: str, name: str) -> None:
    from timm.data import create_transform, resolve_data_config

    image = pictures()[name]
    ours = from_timm(TIMM[case]).apply(image)
    try:
        theirs = create_transform(**resolve_data_config({}, pretrained_cfg=TIMM[case]))(image.convert("RGB"))
    except ValueError as error:
        assert fails_upstream(error)
        assert ours.shape == TIMM[case]["input_size"]
        return
    assert largest_difference(ours, theirs) <= TOLERANCE


def test_published_records() -> None:
    """The transforms of google/siglip-base-patch16-224, facebook/dinov2-base and laion's ViT-B-16."""
    sizes = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
    dinov2 = from_hf_processor(HF["dinov2"] | sizes)
    assert (dinov2.resize, dinov2.resize_px, dinov2.crop_px) == (Resize.SHORTEST, (256, 256), (224, 224))
    siglip = from_hf_processor(
        {"image_processor_type": "SiglipImageProcessor", "size": {"height": 224, "width": 224}}
    )
    assert (siglip.resize, siglip.input_px, siglip.mean) == (Resize.SQUASH, (224, 224), (0.5, 0.5, 0.5))
    clip = from_open_clip({}, (224, 224))
    assert clip.mean == (0.48145466, 0.4578275, 0.40821073)
    assert (clip.resize, clip.crop_px, clip.interpolation) == (Resize.SHORTEST, (224, 224), "bicubic")


def test_whether_alpha_has_a_say() -> None:
    image = pictures()["rgba"]
    clip, dino = from_open_clip({}, (32, 32)), from_hf_processor(HF_STEPS | HF["dinov2"])
    timm = from_timm(TIMM["defaults"])
    assert clip.keeps_alpha and dino.keeps_alpha and not timm.keeps_alpha
    for transform in (clip, dino, timm):
        same = np.array_equal(transform.pixels(image), transform.pixels(image.convert("RGB")))
        assert same is not transform.keeps_alpha


def test_apply_is_pixels_then_normalise_and_writes_into_a_batch() -> None:
    transform = from_open_clip({}, (32, 32))
    image = pictures()["portrait"]
    pixels = transform.pixels(image)
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
    batch = np.full((2, 3, 32, 32), np.nan, np.float32)
    returned = transform.apply(image, out=batch[1])
    assert np.shares_memory(returned, batch)
    assert np.array_equal(batch[1], transform.normalise(pixels))
    assert np.isnan(batch[0]).all()


def test_very_long_picture_is_resized_where_it_is_kept() -> None:
    """A picture of 1 x 20,000 px would take gigabytes; its middle must come out as from its middle part."""
    transform = from_open_clip({}, (64, 64))
    column = np.random.default_rng(0).integers(0, 256, (20_001, 1, 3), dtype=np.uint8)
    long = transform.pixels(Image.fromarray(column))
    middle = transform.pixels(Image.fromarray(column[9_900:10_101]))
    assert long.shape == (64, 64, 3)
    assert np.abs(long.astype(int) - middle).max() <= 1


def test_windowed_resize_agrees_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    transforms = [from_open_clip({}, (32, 32)), from_hf_processor(HF_STEPS | HF["crop_larger"])]
    whole = [one.pixels(image) for one in transforms for image in pictures().values()]
    monkeypatch.setattr("deponij.pipeline.backbones.transform._MAX_RESIZED_PIXELS", 1)
    windowed = [one.pixels(image) for one in transforms for image in pictures().values()]
    for left, right in zip(whole, windowed, strict=True):
        assert np.abs(left.astype(int) - right).max() <= 1  # Pillow's box is of 32-bit floats


def test_for_input_shows_the_whole_picture() -> None:
    transform = from_open_clip({}, (32, 32)).for_input(28, 56)
    assert (transform.input_px, transform.crop_px, transform.resize) == ((28, 56), None, Resize.SQUASH)
    image = pictures()["landscape"]
    assert np.array_equal(
        transform.pixels(image), np.asarray(image.resize((56, 28), Image.Resampling.BICUBIC))
    )


def test_identity_names_every_field_and_survives_json() -> None:
    transform = from_hf_processor(HF_STEPS | HF["dinov2"])
    again = Transform.from_record(json.loads(json.dumps(asdict(transform))))
    assert again == transform
    assert again.identity == transform.identity
    changed = {
        "resize": Resize.SQUASH,
        "resize_px": (38, 38),
        "interpolation": "bilinear",
        "crop_px": (28, 42),
        "crop_rounding": "half_even",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "fill": (1, 1, 1),
        "alpha": "drop_last",
        "rescale": "float32_divide",
        "rescale_factor": 1.0,
    }
    assert changed.keys() == asdict(transform).keys()
    identities = {replace(transform, **{name: value}).identity for name, value in changed.items()}
    assert len(identities | {transform.identity}) == len(changed) + 1


@pytest.mark.parametrize(
    "record",
    [
        {"image_processor_type": "Siglip2ImageProcessor"},
        {"image_processor_type": "BitImageProcessor", "do_center_crop": False},
        {"image_processor_type": "BitImageProcessor", "size": {"longest_edge": 3}},
        {"image_processor_type": "BitImageProcessor", "resample": 9},
        {"image_processor_type": "BitImageProcessor", "do_pad": True},
        {"image_processor_type": "SiglipImageProcessor", "do_resize": False},
        {"image_processor_type": "SiglipImageProcessor", "image_mean": [0.5, 0.5]},
    ],
)
def test_records_that_ask_for_more_are_refused(record: dict[str, Any]) -> None:
    with pytest.raises(BackboneError):
        from_hf_processor(record)


def test_open_clip_and_timm_records_that_ask_for_more_are_refused() -> None:
    with pytest.raises(BackboneError, match="shortest, longest, squash"):
        from_open_clip({"resize_mode": "stretch"}, (32, 32))
    with pytest.raises(BackboneError, match="bicubic, bilinear"):
        from_open_clip({"interpolation": "nearest"}, (32, 32))
    with pytest.raises(BackboneError, match="1 channels"):
        from_timm({"input_size": (1, 28, 28)})
