"""What the families that live in transformers share: records, exact loading, patch grids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones import limits, weights
from deponij.pipeline.backbones.contract import Description, FeatureMap, block_maps
from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
# The image processor alone, or inside the record of a processor that was saved with its tokenizer.
PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def model_type(folder: Path) -> str | None:
    """`model_type` of the folder's config.json; None where there is no such record."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        return str(weights.read_json(path).get("model_type"))
    except BackboneError:
        return None


def config(folder: Path) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        BackboneError: it is damaged, or asks for what is past its limits.
    """
    record = weights.read_json(folder / CONFIG)
    limits.check_record(record, str(folder / CONFIG))
    return record


def processor(folder: Path) -> dict[str, Any]:
    """The image processor's record; of both files the whole processor's counts, as in the library.

    Raises:
        BackboneError: there is none, or it is damaged.
    """
    alone, whole = (folder / name for name in PROCESSORS)
    if whole.is_file():
        inside = weights.read_json(whole).get("image_processor")
        if isinstance(inside, dict):
            return inside
        if not alone.is_file():
            raise BackboneError(f"{whole}: it holds no image_processor, and {alone.name} is not there")
    return weights.read_json(alone)


def pick(record: Mapping[str, Any], defaults: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """The fields that shape the computation, with the library's defaults where the record is silent.

    Raises:
        BackboneError: a value is of another kind than its default.
    """
    picked = {
        name: default if record.get(name) is None else record[name] for name, default in defaults.items()
    }
    for name, value in picked.items():
        kind = type(defaults[name])
        fits = isinstance(value, kind) if kind in (bool, str) else not isinstance(value, bool | str | dict)
        if not fits:
            raise BackboneError(
                f"{where}: {name} is {value!r:.40}; a value as its default {defaults[name]!r} is needed"
            )
    return picked


def load_exactly(model_class: Any, folder: Path, without: Sequence[str] = ()) -> Any:
    """A transformers model in float32, filled exactly from the folder's weights.

    The library's own renaming of older checkpoints applies. The tensors are read here, so that what is
    loaded is the file that was hashed.

    Args:
        without: tensors whose names begin so are of what is taken off (a classifier).

    Raises:
        BackboneError: tensors are missing, left over or of another shape.
    """
    import torch

    files = weights.find(folder, weights.HF_WEIGHTS)
    with reading(folder):
        config = model_class.config_class.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            weights.refuse_larger(weights.n_numbers_of(model_class(config)), files)
    tensors = {
        name: value
        for name, value in weights.read_tensors(files).items()
        if not weights.harmless(name) and not name.startswith(tuple(without))
    }
    with quiet():
        model, info = model_class.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    missing = [name for name in info["missing_keys"] if not weights.harmless(name)]
    shapes = [" ".join(map(str, one)) for one in info["mismatched_keys"]]
    saved = next(iter(config.architectures or ()), model_class.__name__)
    told = (
        ""
        if saved == model_class.__name__
        else f" (saved from a {saved}; a {model_class.__name__} is needed)"
    )
    weights.refuse_unless_exact(files, missing, list(info["unexpected_keys"]), shapes, told)
    for tensor in (*model.parameters(), *model.buffers()):
        # The library keeps tensors where the mapped file has them. There they change with the file, and
        # at an odd address CPU kernels round differently: the same weights would give other bits.
        tensor.data = tensor.data.clone()
    return model


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Around what the library does with a folder's config.json.

    Raises:
        BackboneError: the library refuses a field.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        with quiet():
            yield
    except StrictDataclassError as error:
        raise BackboneError(f"{folder / CONFIG}: {' '.join(str(error).split())}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar, warning or report of the library's own: what matters is checked and raised here."""
    from transformers.utils import logging

    library: Any = logging
    shown, level = library.is_progress_bar_enabled(), library.get_verbosity()
    library.disable_progress_bar()
    library.set_verbosity_error()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if shown:
            library.enable_progress_bar()


def patch_maps(blocks: Sequence[Tensor], batch: Tensor, description: Description) -> list[FeatureMap]:
    """Patch tokens [n, patches, c] of the last blocks as maps [n, c, h', w'] of the batch [n, 3, h, w]."""
    patch_px, n_blocks = description.patch_px or 0, description.n_blocks or 0
    rows, columns = (side_px // patch_px for side_px in batch.shape[2:])
    grids = [patches.transpose(1, 2).reshape(len(batch), -1, rows, columns) for patches in blocks]
    return block_maps(grids, n_blocks, patch_px)


def side(value: Any) -> int:
    """A patch or image side that a record may write as a number or as an equal pair.

    Raises:
        BackboneError: an unequal pair.
    """
    if isinstance(value, int):
        return value
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        return int(value[0])
    raise BackboneError(f"patch side {value!r}: square patches are needed")
