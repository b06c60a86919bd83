"""What the records of strangers' weights may ask for: looked at before anything is built.

A record that asks for an input of 10^9 px or for 10^7 layers would take the machine's memory or hang. The limits lie far
above everything published. Who trusts weights that need more raises one by the environment variable
`DEPONIJ_LIMIT_NAME`, as `DEPONIJ_LIMIT_INPUT_PX=4096`. How many numbers a model may have follows from its weights
(`weights.refuse_larger`).
"""

import os
from typing import Any

from deponij.pipeline.backbones.transform import Transform
from deponij.store.errors import BackboneError, UsageError

# Published models reach 1,024 px, 56 blocks, 1,792 numbers a token, 901,629 words.
LIMITS = {
    "input_px": 2048,
    "patch_px": 512,
    "patches": 1 << 16,
    "blocks": 256,
    "width": 1 << 16,
    "heads": 1 << 10,
    "text_length": 1 << 14,
    "words": 1 << 21,
    "number": 1 << 20,
}
_FIELDS = {
    "input_px": ("image_size", "img_size", "input_size", "min_input_size", "test_input_size"),
    "patch_px": ("patch_size",),
    "blocks": ("num_hidden_layers", "layers", "num_layers", "depth", "depths", "block_depths", "num_blocks"),
    "width": (
        "hidden_size",
        "intermediate_size",
        "projection_size",
        "width",
        "head_width",
        "embed_dim",
        "num_features",
    ),
    "heads": ("num_attention_heads", "heads", "num_heads", "attn_pooler_heads"),
    "text_length": ("context_length", "max_position_embeddings"),
    "words": ("vocab_size", "num_classes"),
}
# A number of any other name is held against `number`, and may be a fraction or below 0.
_LIMIT_OF = {field: name for name, fields in _FIELDS.items() for field in fields}
_MAY_BE_NONE = ("num_classes",)
_MAX_DEPTH = 20
# Pixels in 0..1, or in 0..255, are divided by it.
_LEAST_STD = 1e-6
_SHOWN_CHARS = 40


def limit(name: str) -> int:
    """A limit, as this machine's user has it.

    Raises:
        UsageError: the environment's is no whole number above 0.
    """
    variable = _variable(name)
    given = os.environ.get(variable, str(LIMITS[name]))
    if not (given.isascii() and given.isdigit() and int(given)):
        raise UsageError(f"{variable}={given!r}; a whole number above 0 is needed")
    return int(given)


def check_record(record: Any, where: str) -> None:
    """Refuse a record with a number that is past its limit, not finite, or of another kind than its field.

    Args:
        record: JSON value.
        where: its file, for the message.

    Raises:
        BackboneError: naming the field, what it asks for and the limit.
    """
    _walk(record, where, None, 0)


def _walk(value: Any, where: str, field: str | None, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BackboneError(f"{where}: nested more than {_MAX_DEPTH} deep; a record of a model is needed")
    if isinstance(value, dict):
        for name, one in value.items():
            _walk(one, f"{where}: {name}" if depth == 0 else f"{where}.{name}", str(name), depth + 1)
    elif isinstance(value, list):
        for one in value:
            _walk(one, where, field, depth + 1)
    elif field in _LIMIT_OF and value is not None:
        _check_count(value, where, _LIMIT_OF[field], 0 if field in _MAY_BE_NONE else 1)
    elif isinstance(value, int | float) and not abs(value) <= limit("number"):  # NaN is no number within it
        raise _past(value, where, "number", -limit("number"))


def _check_count(value: Any, where: str, name: str, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= limit(name):
        raise _past(value, where, name, least)


def check_transform(transform: Transform, patch_px: int | None, where: str) -> None:
    """Refuse a transform of impossible sides, or one that makes no finite numbers.

    Raises:
        BackboneError: naming what is asked for.
    """
    for what, sides in (("resize", transform.resize_px), ("crop", transform.crop_px or transform.resize_px)):
        for side in sides:
            _check_count(side, f"{where}: {what} to {sides[0]}x{sides[1]} px", "input_px", 1)
    if patch_px is not None:
        height, width = transform.input_px
        _check_count(height * width // patch_px**2, f"{where}: patches of {patch_px} px", "patches", 0)
    if not all(0 <= value <= 255 for value in transform.fill):
        raise BackboneError(f"{where}: fill colour {transform.fill}; allowed: 0 to 255")
    numbers = (*transform.mean, *transform.std, transform.rescale_factor)
    # NaN is in no range.
    if not all(abs(one) <= 255 for one in numbers) or min(numbers[3:]) < _LEAST_STD:
        raise BackboneError(
            f"{where}: mean {transform.mean}, std {transform.std}, rescale factor {transform.rescale_factor}; all must "
            f"be finite and at most 255, std and the factor at least {_LEAST_STD}"
        )


def _past(value: Any, where: str, name: str, least: int) -> BackboneError:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + "…"
    return BackboneError(
        f"{where}: {shown}; allowed: {least:,} to {limit(name):,} (limit {name!r}; {_variable(name)} raises it, for "
        "weights that you trust)"
    )


def _variable(name: str) -> str:
    return f"DEPONIJ_LIMIT_{name.upper()}"
