"""A backbone as a folder in its family's own format: weights, and records that say how they are read.

Records are the base's, byte for byte where nothing in them has to change. What may change is the input's size, and a
classifier that was taken off.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from deponij.pipeline.backbones import weights
from deponij.pipeline.backbones.contract import Backbone, Location
from deponij.pipeline.backbones.families import huggingface as hf
from deponij.pipeline.backbones.families import open_clip
from deponij.store.errors import StoreError, UsageError

# Records, vocabularies and licences; indexes are of the base's weights.
_RECORDS = re.compile(r"(?!.*\.index\.json$)(.+\.(json|model|txt)|LICEN[CS]E.*|NOTICE.*)$")
# Of those that made the base's folder.
_NOT_OURS = {"made.json", "tuned.json", "_files.json", "adapter_config.json"}


def require_format(backbone: Backbone) -> None:
    """Refuse what `write_backbone` cannot write, before it is trained.

    Raises:
        UsageError: a family that has no format here.
    """
    family = backbone.description.family
    if family not in _FORMATS:
        raise UsageError(f"family {family!r} has no format to be written in; known: {', '.join(_FORMATS)}")


def write_backbone(folder: Path, backbone: Backbone, base: Location) -> None:
    """Write a backbone into an empty folder, from which `load(FOLDER)` and the model library bring up the same.

    Args:
        backbone: of plain modules in float32; of any input size.
        base: whose records are taken.

    Raises:
        UsageError: a family that has no format here.
        StoreError: it cannot be written.
    """
    from safetensors import SafetensorError

    require_format(backbone)
    write, adapted = _FORMATS[backbone.description.family]
    files = _records_of(base)
    files |= {name: _as_json(record) for name, record in adapted(backbone, base).items()}
    try:
        write(folder, backbone)
    except SafetensorError as error:
        raise StoreError(f"cannot write {folder}: {error}") from error
    for name, content in files.items():
        (folder / name).write_bytes(content)


def is_resized(backbone: Backbone, base: Location) -> bool:
    """Whether a backbone was loaded for another input size than its records say."""
    return backbone.description.transform != type(backbone).describe(base).transform


def _records_of(base: Location) -> dict[str, bytes]:
    files = base.folder.iterdir() if base.folder is not None else ()
    return {
        path.name: path.read_bytes()
        for path in sorted(files)
        if path.is_file() and _RECORDS.match(path.name) and path.name not in _NOT_OURS
    }


def _write_huggingface(folder: Path, backbone: Backbone) -> None:
    with hf.quiet():
        backbone.model.save_pretrained(folder, safe_serialization=True)


def _write_plain(folder: Path, backbone: Backbone) -> None:
    from safetensors.torch import save_file

    model: nn.Module = backbone.model
    tensors = {name: one.detach().cpu().contiguous() for name, one in model.state_dict().items()}
    save_file(tensors, folder / type(backbone).weights_names[0], metadata={"format": "pt"})


def _of_huggingface(backbone: Backbone, base: Location) -> dict[str, dict[str, Any]]:
    folder = base.folder_of(backbone.description.family)
    config = weights.read_json(folder / hf.CONFIG)
    records = {hf.CONFIG: config | {"architectures": [type(backbone.model).__name__]}}
    if is_resized(backbone, base):
        height, width = backbone.description.input_px
        squashed = hf.processor(folder) | {
            "do_resize": True,
            "size": {"height": height, "width": width},
            "do_center_crop": False,
        }
        squashed.pop("crop_size", None)
        alone, whole = hf.PROCESSORS
        record = weights.read_json(folder / whole) if (folder / whole).is_file() else {}
        inside = isinstance(record.get("image_processor"), dict)
        records |= {whole: record | {"image_processor": squashed}} if inside else {alone: squashed}
    return records


def _of_open_clip(backbone: Backbone, base: Location) -> dict[str, dict[str, Any]]:
    model, preprocess = open_clip.records_of(base)
    if is_resized(backbone, base):
        height, width = backbone.description.input_px
        size = height if height == width else [height, width]
        model = model | {"vision_cfg": model["vision_cfg"] | {"image_size": size}}
        interpolation = backbone.description.transform.interpolation
        preprocess = preprocess | {"size": size, "resize_mode": "squash", "interpolation": interpolation}
    record = weights.read_json(base.folder / open_clip.CONFIG) if base.folder is not None else {}
    return {open_clip.CONFIG: record | {"model_cfg": model, "preprocess_cfg": preprocess}}


def _of_timm(backbone: Backbone, base: Location) -> dict[str, dict[str, Any]]:
    record = weights.read_json(base.folder_of("timm") / hf.CONFIG)
    arguments = dict(record.get("model_args") or {}) | {"num_classes": 0}
    published = dict(record.get("pretrained_cfg") or {}) | {"num_classes": 0}
    if is_resized(backbone, base):
        height, width = backbone.description.input_px
        published |= {"input_size": [3, height, width], "crop_pct": 1.0, "crop_mode": "squash"}
        published.pop("pool_size", None)
        if "img_size" in arguments:
            arguments["img_size"] = [height, width]
    changed = {"num_classes": 0, "model_args": arguments, "pretrained_cfg": published}
    return {hf.CONFIG: record | changed}


def _as_json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


_FORMATS: dict[
    str,
    tuple[
        Callable[[Path, Backbone], None],
        Callable[[Backbone, Location], dict[str, dict[str, Any]]],
    ],
] = {
    "dinov2": (_write_huggingface, _of_huggingface),
    "siglip": (_write_huggingface, _of_huggingface),
    "open_clip": (_write_plain, _of_open_clip),
    "timm": (_write_plain, _of_timm),
}
