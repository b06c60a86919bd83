"""Weights on disk: which file of a folder, its hash, its tensors, and whether they fill a model exactly.

Tensors are read from safetensors, or from PyTorch files with `weights_only=True`; code is never
unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones.remember import sha256_of_file
from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn

# Order of preference in a transformers or timm folder; an index names the parts of a split file.
HF_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Buffers that old files hold and newer code makes for itself.
_HARMLESS_SUFFIXES = ("position_ids",)
_N_NAMES_SHOWN = 5
# Numbers that any machine has room for: a model of fewer is built, and told exactly what it lacks.
_N_NUMBERS_FREE = 1 << 24


def find(folder: Path, candidates: Sequence[str]) -> tuple[Path, ...]:
    """The weights files of a folder: the first candidate that is there, or the parts its index names.

    Raises:
        BackboneError: none is there, or a part is missing.
    """
    for name in candidates:
        path = folder / name
        if not path.is_file():
            continue
        if not name.endswith(".index.json"):
            return (path,)
        names = set(section(read_json(path), "weight_map", str(path)).values())
        strange = [one for one in names if not isinstance(one, str) or Path(one).name != one]
        if strange:
            raise BackboneError(
                f"{path}: a part is called {strange[0]!r:.40}; a file beside the index is needed"
            )
        parts = tuple(folder / part for part in sorted(names))
        absent = [part.name for part in parts if not part.is_file()]
        if absent or not parts:
            raise BackboneError(f"{path}: parts of the weights are missing: {', '.join(absent) or 'all'}")
        return parts
    raise BackboneError(f"{folder}: no weights; needed is one of {', '.join(candidates)}")


def choose(listing: Iterable[str], candidates: Sequence[str]) -> list[str]:
    """Of a repository's file names, the weights to fetch: one file, or an index with all its parts."""
    names = set(listing)
    for name in candidates:
        if name not in names:
            continue
        if not name.endswith(".index.json"):
            return [name]
        stem, suffix = name.removesuffix(".index.json").rsplit(".", 1)
        return [
            name,
            *sorted(one for one in names if one.startswith(f"{stem}-") and one.endswith(f".{suffix}")),
        ]
    return []


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BackboneError: absent, damaged or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BackboneError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BackboneError(f"{path}: a JSON object is needed, got {type(value).__name__}")
    return value


def section(record: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """An object inside a record; empty where there is none.

    Raises:
        BackboneError: it is something else.
    """
    value = record.get(name)
    if value is not None and not isinstance(value, dict):
        raise BackboneError(f"{where}: {name} is {value!r:.40}; an object is needed")
    return value or {}


def n_numbers_of(blank: nn.Module) -> int:
    """How many numbers a model has, which may be on torch's device `meta`, where it takes no memory."""
    return sum(one.numel() for one in blank.parameters())


def refuse_larger(n_asked: int, files: Sequence[Path]) -> None:
    """Refuse a model far larger than its weights, before memory is taken for it.

    Args:
        n_asked: numbers that a model of its records has, at least.

    Raises:
        BackboneError: that is more than twice what the files hold (and more than 16 million).
    """
    n_held = _n_numbers(files)
    if n_asked > max(2 * n_held, _N_NUMBERS_FREE):
        where = ", ".join(str(path) for path in files[:_N_NAMES_SHOWN])
        raise BackboneError(
            f"{where}: the records ask for a model of {n_asked:,} numbers or more, the weights hold {n_held:,}"
        )


def _n_numbers(files: Sequence[Path]) -> int:
    """How many numbers the files hold at most: of safetensors by their headers, and never more than bytes."""
    return sum(
        min(path.stat().st_size, _n_in_header(path) if path.suffix == ".safetensors" else path.stat().st_size)
        for path in files
    )


def _n_in_header(path: Path) -> int:
    """By the JSON at the beginning of a safetensors file; the library's own reading would import torch."""
    try:
        with path.open("rb") as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            if n_bytes > path.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(n_bytes))
        return sum(math.prod(one["shape"]) for name, one in header.items() if name != "__metadata__")
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise BackboneError(f"{path}: not a readable safetensors file: {error}") from error


def sha256_of(files: Sequence[Path]) -> str:
    """SHA-256 of one file's bytes; of several files, of their names and hashes in the order of names."""
    if len(files) == 1:
        return sha256_of_file(files[0])
    lines = [f"{path.name}:{sha256_of_file(path)}\n" for path in sorted(files, key=lambda path: path.name)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_tensors(files: Sequence[Path]) -> dict[str, Tensor]:
    """All tensors of the files by name, on the CPU.

    A mapping inside `state_dict` is unwrapped and the prefix `module.` dropped, as open_clip does.

    Raises:
        BackboneError: damaged, or holding anything but tensors.
    """
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return tensors


def fill(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    files: Sequence[Path],
    adapt: Callable[[dict[str, Tensor]], None] | None = None,
) -> None:
    """Copy `tensors` into `model`, which they must fill exactly; half precision becomes float32.

    Args:
        adapt: runs after names are compared and before shapes are (resampling of positions).

    Raises:
        BackboneError: tensors are missing, left over or of another shape; the message names a few.
    """
    own = model.state_dict()
    kept = {name: value for name, value in tensors.items() if name in own or not harmless(name)}
    missing = [name for name in own if name not in kept]
    left_over = [name for name in kept if name not in own]
    if not missing and not left_over and adapt is not None:
        adapt(kept)
    shapes = [
        f"{name} {tuple(kept[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in kept and kept[name].shape != own[name].shape
    ]
    refuse_unless_exact(files, missing, left_over, shapes)
    model.load_state_dict(kept, strict=True)


def harmless(name: str) -> bool:
    """Whether a left-over tensor is a buffer that newer code makes for itself."""
    return name.endswith(_HARMLESS_SUFFIXES)


def refuse_unless_exact(
    files: Sequence[Path],
    missing: Sequence[str],
    left_over: Sequence[str],
    shapes: Sequence[str],
    told: str = "",
) -> None:
    """Raise a `BackboneError` that names a few of the differences, if there are any; told: what else to say."""
    kinds = (("missing", missing), ("unexpected", left_over), ("wrong shape", shapes))
    differences = [f"{len(names)} {what}: {_few(names)}" for what, names in kinds if names]
    if differences:
        where = ", ".join(str(path) for path in files)
        raise BackboneError(
            f"{where}: the weights do not fill the model exactly{told}; {'; '.join(differences)}"
        )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:_N_NAMES_SHOWN])
    return shown if len(names) <= _N_NAMES_SHOWN else f"{shown}, ..."


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BackboneError(f"{path}: not a readable safetensors file: {error}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
    ) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"{path}: refused: it is damaged or holds more than plain tensors, and code is never unpickled. "
            f"Use a safetensors file. ({first})"
        ) from error
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict) or not all(isinstance(one, torch.Tensor) for one in value.values()):
        raise BackboneError(f"{path}: a mapping of names to tensors is needed")
    return {name.removeprefix("module."): tensor for name, tensor in value.items()}
