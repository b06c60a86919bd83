"""From the record that a family publishes with its weights to a `Transform`.

Records: open_clip's `preprocess_cfg`, transformers' `preprocessor_config.json`, timm's
`pretrained_cfg`. Rules and defaults are those of the libraries' own factories, named at each
function; a record that asks for something they do and we do not is refused, never guessed.
"""

import math
from collections.abc import Mapping
from typing import Any

from deponij.pipeline.backbones.transform import INTERPOLATIONS, Alpha, Rescale, Resize, Rounding, Transform
from deponij.store.errors import BackboneError

Triple = tuple[float, float, float]
# open_clip/constants.py and timm/data/constants.py
OPENAI_MEAN: Triple = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Triple = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
HALF: Triple = (0.5, 0.5, 0.5)
_TIMM_CROP_PCT = 0.875
_TIMM_CROP_RANGE = (0.1, 10.0)

# Defaults of transformers' image processors, by the type that a record names (without "Fast" or "Pil").
_PROCESSOR_DEFAULTS: dict[str, dict[str, Any]] = {
    "SiglipImageProcessor": {
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "image_mean": HALF,
        "image_std": HALF,
    },
    "BitImageProcessor": {
        "size": {"shortest_edge": 224},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "image_mean": OPENAI_MEAN,
        "image_std": OPENAI_STD,
    },
    "ViTImageProcessor": {
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "image_mean": HALF,
        "image_std": HALF,
        "resample": 2,
    },
}
# Pillow's numbers of its filters, which transformers writes into its records.
_FILTER_BY_NUMBER = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def from_open_clip(preprocess: Mapping[str, Any], input_px: tuple[int, int]) -> Transform:
    """open_clip `image_transform(is_train=False)` for a `preprocess_cfg`.

    Args:
        preprocess: the record; missing or null keys take open_clip's defaults.
        input_px: (height, width) of the vision tower, which overrides the record's size as upstream does.

    Raises:
        BackboneError: the record asks for something that open_clip does not know.
    """
    mode = preprocess.get("resize_mode") or "shortest"
    interpolation = preprocess.get("interpolation") or "bicubic"
    square = input_px[0] == input_px[1]
    if mode not in ("shortest", "longest", "squash"):
        raise BackboneError(f"open_clip record: resize_mode {mode!r}; allowed: shortest, longest, squash")
    if interpolation not in ("bicubic", "bilinear", "random"):
        raise BackboneError(
            f"open_clip record: interpolation {interpolation!r}; allowed: bicubic, bilinear, random"
        )
    resize = {"squash": Resize.SQUASH, "longest": Resize.CONTAIN}.get(
        mode, Resize.SHORTEST if square else Resize.COVER
    )
    # "random" means bicubic at evaluation; the non-square branch always resizes bicubically.
    bilinear = interpolation == "bilinear" and resize is not Resize.COVER
    fill = _side(preprocess.get("fill_color") or 0, "fill_color")
    return Transform(
        resize=resize,
        resize_px=input_px,
        interpolation="bilinear" if bilinear else "bicubic",
        crop_px=None if resize is Resize.SQUASH else input_px,
        crop_rounding=Rounding.HALF_EVEN,
        mean=_triple(preprocess, "mean", OPENAI_MEAN),
        std=_triple(preprocess, "std", OPENAI_STD),
        # Only the "longest" mode pads with the record's colour; torchvision's CenterCrop pads with 0.
        fill=(fill, fill, fill) if resize is Resize.CONTAIN else (0, 0, 0),
        alpha=Alpha.DROP_LAST,
    )


def from_hf_processor(record: Mapping[str, Any]) -> Transform:
    """transformers' image processor with `backend="pil"` for a `preprocessor_config.json`.

    Pictures are converted to RGB first, transparency on white, also where an old record does not say so
    (transformers 5 defaults `do_convert_rgb` to true for these processors).

    Raises:
        BackboneError: an unknown processor, or a step that these processors do not have.
    """
    kind = str(record.get("image_processor_type") or record.get("feature_extractor_type") or "")
    base = kind.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if base not in _PROCESSOR_DEFAULTS:
        raise BackboneError(
            f"the image processor's record names {kind!r}; known: {', '.join(_PROCESSOR_DEFAULTS)}"
        )
    given = {name: value for name, value in record.items() if value is not None}
    merged = {"resample": 3, "rescale_factor": 1 / 255} | _PROCESSOR_DEFAULTS[base] | given
    if merged.get("do_pad"):
        raise BackboneError("preprocessor_config.json asks for padding (do_pad), which is not supported")
    crop_px = _hf_crop(merged) if merged["do_center_crop"] else None
    resize, resize_px = _hf_resize(merged, crop_px)
    normalise = merged.get("do_normalize", True)
    rescale = merged.get("do_rescale", True)
    return Transform(
        resize=resize,
        resize_px=resize_px,
        interpolation=_hf_filter(merged["resample"]),
        crop_px=crop_px,
        crop_rounding=Rounding.FLOOR,
        mean=_triple(merged, "image_mean") if normalise else (0.0, 0.0, 0.0),
        std=_triple(merged, "image_std") if normalise else (1.0, 1.0, 1.0),
        alpha=Alpha.WHITE_FIRST,
        rescale=Rescale.FLOAT64_MULTIPLY,
        rescale_factor=_number(merged["rescale_factor"], "rescale_factor") if rescale else 1.0,
    )


def from_timm(pretrained_cfg: Mapping[str, Any]) -> Transform:
    """timm `create_transform(**resolve_data_config(pretrained_cfg))` for evaluation.

    Raises:
        BackboneError: the record asks for something that is not supported.
    """
    channels, height, width = (
        _side(one, "input_size") for one in pretrained_cfg.get("input_size") or (3, 224, 224)
    )
    if channels != 3:
        raise BackboneError(f"timm record: input_size has {channels} channels; only RGB models can be used")
    interpolation = pretrained_cfg.get("interpolation") or "bicubic"
    if interpolation not in INTERPOLATIONS:
        raise BackboneError(
            f"timm record: interpolation {interpolation!r}; allowed: {', '.join(INTERPOLATIONS)}"
        )
    crop_pct = _number(pretrained_cfg.get("crop_pct") or _TIMM_CROP_PCT, "crop_pct")
    if not _TIMM_CROP_RANGE[0] <= crop_pct <= _TIMM_CROP_RANGE[1]:
        raise BackboneError(f"timm record: crop_pct {crop_pct}; allowed: {_TIMM_CROP_RANGE}")
    crop_mode = pretrained_cfg.get("crop_mode") or "center"
    resize_px = (math.floor(height / crop_pct), math.floor(width / crop_pct))
    centre = Resize.SHORTEST if resize_px[0] == resize_px[1] else Resize.COVER
    mean = _triple(pretrained_cfg, "mean", IMAGENET_MEAN)
    border = tuple(round(255 * value) for value in mean)
    return Transform(
        resize={"squash": Resize.SQUASH, "border": Resize.CONTAIN}.get(crop_mode, centre),
        resize_px=resize_px,
        interpolation=interpolation,
        crop_px=(height, width),
        crop_rounding=Rounding.HALF_EVEN,
        mean=mean,
        std=_triple(pretrained_cfg, "std", IMAGENET_STD),
        fill=(border[0], border[1], border[2]) if crop_mode == "border" else (0, 0, 0),
    )


def _hf_resize(record: Mapping[str, Any], crop_px: tuple[int, int] | None) -> tuple[Resize, tuple[int, int]]:
    size = record["size"]
    if not record.get("do_resize", True):
        if crop_px is None:
            raise BackboneError(
                "preprocessor_config.json neither resizes nor crops: pictures of one size are needed"
            )
        return Resize.NONE, crop_px
    if not isinstance(size, dict):
        size = {"shortest_edge": _side(size, "size")}
    if set(size) == {"shortest_edge"}:
        if crop_px is None:
            raise BackboneError(
                f"preprocessor_config.json resizes to {size} without a crop: pictures of one size are needed"
            )
        edge = _side(size["shortest_edge"], "size")
        return Resize.SHORTEST, (edge, edge)
    if set(size) == {"height", "width"}:
        return Resize.SQUASH, (_side(size["height"], "size"), _side(size["width"], "size"))
    raise BackboneError(f"preprocessor_config.json: size {size}; allowed: shortest_edge, or height and width")


def _hf_crop(record: Mapping[str, Any]) -> tuple[int, int]:
    crop = record["crop_size"]
    if not isinstance(crop, dict):
        return _side(crop, "crop_size"), _side(crop, "crop_size")
    return _side(crop["height"], "crop_size"), _side(crop["width"], "crop_size")


def _hf_filter(number: Any) -> str:
    if not isinstance(number, int) or isinstance(number, bool) or number not in _FILTER_BY_NUMBER:
        raise BackboneError(f"preprocessor_config.json: resample {number!r}; allowed: {_FILTER_BY_NUMBER}")
    return _FILTER_BY_NUMBER[number]


def _triple(record: Mapping[str, Any], name: str, default: Triple | None = None) -> Triple:
    """Three floats from three, from one, or from a number; the default where the record is silent, or holds 0."""
    values = (record.get(name) or default) if default else record[name]
    numbers = [_number(one, name) for one in (values if isinstance(values, list | tuple) else [values])]
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) != 3:
        raise BackboneError(f"{name} needs 1 or 3 numbers, got {len(numbers)}")
    return numbers[0], numbers[1], numbers[2]


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BackboneError(f"the record's {name} holds {value!r:.40}; finite numbers are needed")
    return float(value)


def _side(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BackboneError(f"the record's {name} holds {value!r:.40}; whole numbers are needed")
    return value
