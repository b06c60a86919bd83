"""Folders of low-rank adapters (LoRA) in peft's format: a base's name with what was learned on it.

    adapter_config.json          peft's record: rank, scale, which modules, the base's name
    adapter_model.safetensors    A and B of each module, and DoRA's magnitudes

Such a folder is a backbone: its base with the adapter merged into it. Nothing in one is run or unpickled; of the record
only plain fields are read, and a field that would change the result and is not known here is refused. Importing this
module imports neither torch nor peft; `low_rank` computes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deponij.pipeline.backbones import limits, weights
from deponij.pipeline.backbones.remember import sha256_of_file, sha256_of_value
from deponij.store.errors import BackboneError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_UNSAFE = "adapter_model.bin"
# Initialisations that leave the base's weights alone.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva")
# What is read here, and what says nothing of the result.
_READ = {"r", "lora_alpha", "target_modules", "use_rslora", "use_dora", "init_lora_weights"}
_TOLD = {
    *("auto_mapping", "peft_type", "peft_version", "task_type", "inference_mode", "base_model_name_or_path"),
    *("revision", "lora_dropout", "modules_to_save", "megatron_core", "qalora_group_size", "layers_pattern"),
}


@dataclass(frozen=True, slots=True)
class LowRank:
    """The update of a weight W [out, in]: scale * B A, with A [rank, in] and B [out, rank].

    Attributes:
        alpha: the scale is alpha / rank, and alpha / sqrt(rank) with `rslora`.
        dora: directions alone are updated so, and the rows' lengths are learned apart.
        dropout: of what goes into A, in training.
    """

    rank: int
    alpha: float
    rslora: bool = False
    dora: bool = False
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """What is read of `adapter_config.json`.

    Attributes:
        targets: a regular expression of whole names, or names that a module's must end with.
        base: a name of the catalog, a hub repository or a folder.
        revision: a commit of the repository.
    """

    low_rank: LowRank
    targets: str | tuple[str, ...]
    base: str
    revision: str | None

    def names(self, module: str) -> bool:
        """Whether the adapter is to wrap a module of this name, as peft reads it."""
        if isinstance(self.targets, str):
            return re.fullmatch(self.targets, module) is not None
        return any(module == one or module.endswith(f".{one}") for one in self.targets)


def claims(folder: Path) -> bool:
    """Whether a folder is an adapter's."""
    return (folder / CONFIG).is_file()


def files_of(folder: Path) -> tuple[Path, Path]:
    """Record and weights of an adapter's folder.

    Raises:
        BackboneError: no weights are there, or pickled ones alone.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / _UNSAFE).is_file()
        told = f"{_UNSAFE} is pickled and is not opened; save it as safetensors" if pickled else "restore it"
        raise BackboneError(f"{folder}: the adapter has no {WEIGHTS}: {told}")
    return folder / CONFIG, path


def read_record(folder: Path) -> AdapterRecord:
    """The record of an adapter's folder.

    Raises:
        BackboneError: it is damaged, of another method than LoRA, names no base, or asks for what is not known here.
    """
    path = folder / CONFIG
    record = weights.read_json(path)
    limits.check_record(record, str(path))
    if record.get("peft_type") != "LORA":
        raise BackboneError(
            f"{path}: peft_type is {record.get('peft_type')!r:.40}; only LORA can be merged into a backbone"
        )
    foreign = sorted(
        name for name, value in record.items() if name not in _TOLD | _READ and _says_something(name, value)
    )
    start = record.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        foreign.append("init_lora_weights")
    if foreign:
        raise BackboneError(
            f"{path}: {foreign[0]} is {record[foreign[0]]!r:.60}, which is not supported; merge the adapter with peft "
            "(merge_and_unload) and give the merged folder"
        )
    targets = record.get("target_modules")
    is_list = isinstance(targets, list) and targets and all(isinstance(one, str) for one in targets)
    rank, alpha = record.get("r"), record.get("lora_alpha")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise BackboneError(f"{path}: r is {rank!r:.40}; a rank of 1 or more is needed")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise BackboneError(f"{path}: lora_alpha is {alpha!r:.40}; a number is needed")
    if not is_list and not (isinstance(targets, str) and _compiles(targets)):
        raise BackboneError(
            f"{path}: target_modules is {targets!r:.60}; names or a regular expression are needed"
        )
    base, revision = record.get("base_model_name_or_path"), record.get("revision")
    if not isinstance(base, str) or not base or not isinstance(revision, str | None):
        raise BackboneError(f"{path}: base_model_name_or_path is {base!r:.60}; the base's name is needed")
    low_rank = LowRank(rank, alpha, record.get("use_rslora") is True, record.get("use_dora") is True)
    return AdapterRecord(
        low_rank, targets if isinstance(targets, str) else tuple(targets or ()), base, revision
    )


def sha256_of(base_sha256: str, folder: Path) -> str:
    """Of the base's weights and the adapter's, and of what of its record shapes the result.

    Raises:
        BackboneError: as `files_of` and `read_record`.
    """
    _, path = files_of(folder)
    known = read_record(folder).low_rank
    shaping = [known.rank, known.alpha, known.rslora, known.dora]
    return sha256_of_value([base_sha256, sha256_of_file(path), shaping])


def _says_something(name: str, value: Any) -> bool:
    return bool(value) and not (name == "bias" and value == "none")


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
