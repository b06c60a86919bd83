"""Picture files of every mode through each family: as the family's own preprocessing takes the file, or its RGB(A) twin.

Expected values come from open_clip, transformers and timm over pictures that Pillow alone opened and converted.
The table in docs/pictures.md says the same.
"""

import io
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_backbone_transform import HF, HF_STEPS, TIMM, TOLERANCE

from deponij.pipeline.backbones.records import from_hf_processor, from_open_clip, from_timm
from deponij.pipeline.backbones.transform import Transform
from deponij.pipeline.pictures import decode

ALL = ("open_clip", "siglip", "dinov2", "timm")
Upstream = Callable[[Image.Image], Any]


@cache
def photograph() -> Image.Image:
    """Structure at several scales, with colours; 120 x 90 px."""
    y, x = np.mgrid[0:90, 0:120].astype(np.float32)
    planes = [128 + 70 * np.sin(x / (3 + 5 * c) + y / 17) + 50 * np.cos((x - y) / (9 + c)) for c in range(3)]
    return Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def cases() -> dict[str, tuple[bytes, Image.Image, tuple[str, ...]]]:
    """The file; a picture of the same colours as RGB, RGBA or L; the families that take the file otherwise."""
    rgb = photograph()
    rgba = rgb.copy()
    rgba.putalpha(Image.radial_gradient("L").resize(rgb.size))
    grey, bits, palette, few = rgb.convert("L"), rgb.convert("1"), rgb.quantize(200), rgb.quantize(8)
    steps = grey.point(lambda value: value // 16 * 16)
    at = (60, 45)
    deep = np.asarray(grey).astype(np.int32) * 257
    seen = Image.fromarray(np.where(np.asarray(steps) == steps.getpixel(at), 0, 255).astype(np.uint8))
    deep_steps = Image.fromarray(np.asarray(steps).astype(np.uint16) * 257)
    open_clip = ("open_clip",)

    def converted(data: bytes, mode: str) -> Image.Image:
        return Image.open(io.BytesIO(data)).convert(mode)

    found: dict[str, tuple[bytes, Image.Image, tuple[str, ...]]] = {}
    for name, data, mode, otherwise in [
        ("RGB", encoded(rgb, "PNG"), "RGB", ()),
        ("RGBA", encoded(rgba, "PNG"), "RGBA", ()),
        ("RGBA tiff", encoded(rgba, "TIFF"), "RGBA", ()),
        ("RGBA webp", encoded(rgba, "WEBP", lossless=True), "RGBA", ()),
        ("RGBA ico", encoded(rgba, "ICO", sizes=[rgb.size]), "RGBA", ()),
        ("RGBA tga", encoded(rgba, "TGA"), "RGBA", ()),
        ("L", encoded(grey, "PNG"), "RGB", ()),
        ("LA", encoded(rgba.convert("LA"), "PNG"), "RGBA", ()),
        ("CMYK jpeg", encoded(rgb.convert("CMYK"), "JPEG"), "RGB", ()),
        ("1", encoded(bits, "PNG"), "RGB", open_clip),
        ("P", encoded(palette, "PNG"), "RGB", open_clip),
        ("P tiff", encoded(palette, "TIFF"), "RGB", open_clip),
        ("P gif", encoded(palette, "GIF"), "RGB", open_clip),
        (
            "P, transparency of each",
            encoded(palette, "PNG", transparency=bytes(range(200))),
            "RGBA",
            open_clip,
        ),
        ("P, one is transparent", encoded(few, "PNG", transparency=3), "RGBA", open_clip),
        ("P gif, one is transparent", encoded(few, "GIF", transparency=3), "RGBA", open_clip),
        (
            "RGB, one is transparent",
            encoded(few.convert("RGB"), "PNG", transparency=few.convert("RGB").getpixel(at)),
            "RGBA",
            open_clip,
        ),
        ("L, one is transparent", encoded(steps, "PNG", transparency=steps.getpixel(at)), "RGBA", open_clip),
        ("1, one is transparent", encoded(bits, "PNG", transparency=0), "RGBA", open_clip),
        ("CMYK tiff", encoded(rgb.convert("CMYK"), "TIFF"), "RGB", open_clip),
        ("YCbCr tiff", encoded(rgb.convert("YCbCr"), "TIFF"), "RGB", open_clip),
        ("LAB tiff", encoded(rgb.convert("LAB"), "TIFF"), "RGB", open_clip),
    ]:
        found[name] = (data, converted(data, mode), otherwise)
    deep_keyed = encoded(deep_steps, "PNG", transparency=deep_steps.getpixel(at))
    found |= {
        "I of 0..255": (encoded(grey.convert("I"), "TIFF"), grey, ()),
        "F of 0..255": (encoded(grey.convert("F"), "TIFF"), grey, open_clip),
        "I;16": (encoded(Image.fromarray(deep.astype(np.uint16)), "PNG"), grey, ALL),
        "I;16 tiff": (encoded(Image.fromarray(deep.astype(np.uint16)), "TIFF"), grey, ALL),
        "I;16, one is transparent": (deep_keyed, Image.merge("LA", (steps, seen)), ALL),
        "I": (encoded(Image.fromarray(deep), "TIFF"), grey, ALL),
        "F of 0..1": (encoded(Image.fromarray(np.asarray(grey) / np.float32(255)), "TIFF"), grey, ALL),
    }
    return found


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Transform, Upstream]]:
    """Our transform and the upstream library's, by family."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from timm.data import create_transform, resolve_data_config
    from transformers import AutoImageProcessor

    def transformers(case: str) -> tuple[Transform, Upstream]:
        record = HF_STEPS | HF[case]
        folder = tmp_path_factory.mktemp(case)
        (folder / "preprocessor_config.json").write_text(json.dumps(record))
        upstream = AutoImageProcessor.from_pretrained(folder, backend="pil")

        def pixels(image: Image.Image) -> Any:
            return upstream(image, return_tensors="np")["pixel_values"][0]

        return from_hf_processor(record), pixels

    clip = image_transform_v2(PreprocessCfg(size=(32, 32)), is_train=False)
    timm = create_transform(**resolve_data_config({}, pretrained_cfg=TIMM["defaults"]))
    return {
        "open_clip": (from_open_clip({}, (32, 32)), clip),
        "siglip": transformers("siglip"),
        "dinov2": transformers("dinov2"),
        "timm": (from_timm(TIMM["defaults"]), lambda image: timm(image.convert("RGB"))),
    }


# Pillow's remark on timm's own conversion.
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("case", cases())
def test_pictures_of_every_mode_are_as_upstream_or_as_their_twin(
    case: str, family: str, families: dict[str, tuple[Transform, Upstream]]
) -> None:
    transform, upstream = families[family]
    data, twin, otherwise = cases()[case]
    ours = transform.apply(decode(data, keep_alpha=transform.keeps_alpha))
    # 8-bit values that went through a float may come out one lower: Pillow cuts off what 1/255 rounds.
    tolerance = 1.01 / 255 / 0.224 if case == "F of 0..1" else TOLERANCE
    assert np.abs(ours - np.asarray(upstream(twin))).max() <= tolerance
    with Image.open(io.BytesIO(data)) as image:
        difference = np.abs(ours - np.asarray(upstream(image))).max()
    assert (difference > tolerance) == (family in otherwise)
