"""Low-rank adapters (LoRA) around a model's modules, by peft: wrapped, merged, written and read.

What a folder of an adapter is, and its record, is in `adapters`. Importing this module imports neither torch nor peft.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones import weights
from deponij.pipeline.backbones.adapters import WEIGHTS, AdapterRecord, LowRank, files_of, read_record
from deponij.store.errors import BackboneError, StoreError, explained

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deponij.pipeline.backbones.contract import Backbone

_PREFIX = "base_model.model."
# In the header of the weights: SHA-256 of the base's. peft leaves it alone; folders of others have none.
BASE_SHA256 = "base_weights_sha256"
_NAME = "default"
# What is taken off, where the model has no such weights itself.
_CLASSIFIERS = ("classifier.", "score.", "fc.", "head.")


def wrap(model: nn.Module, names: Collection[str], low_rank: LowRank, seed: int = 0) -> Any:
    """Low-rank updates, zero at first, around modules of a model, in place; peft's `PeftModel`, which holds it.

    Args:
        names: of linear layers, convolutions or whole `nn.MultiheadAttention`s.
        seed: of what A begins with.

    Raises:
        BackboneError: peft did not wrap exactly these.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    config = LoraConfig(
        r=low_rank.rank,
        lora_alpha=low_rank.alpha,  # type: ignore[arg-type]  # a float does as well
        lora_dropout=low_rank.dropout,
        use_rslora=low_rank.rslora,
        use_dora=low_rank.dora,
        target_modules=expression(names, [name for name, _ in model.named_modules()]),
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's use of what transformers has renamed
        torch.manual_seed(seed)
        peft_model = get_peft_model(model, config, adapter_name=_NAME)
    wrapped = {name for name, one in model.named_modules() if isinstance(one, LoraLayer)}
    inner = {name for name in wrapped if name.endswith(".base_layer.out_proj")}
    if wrapped - inner != set(names):
        raise BackboneError(
            f"peft wrapped {len(wrapped - inner)} modules in the place of {len(names)}; "
            f"too many or too few: {', '.join(sorted((wrapped - inner) ^ set(names))[:5])}"
        )
    for one in model.modules():
        if isinstance(one, LoraLayer) and isinstance(one.get_base_layer(), torch.nn.MultiheadAttention):
            _keep_exact(one)
    return peft_model


def expression(names: Collection[str], among: Collection[str]) -> str:
    """A regular expression that fits these whole names and no others of `among`.

    Numbered modules of one name are one alternative of it, where that fits no others.
    """
    plain = sorted({re.escape(name) for name in names})
    numbered = "|".join(sorted({re.sub(r"(?<![^.])\d+(?![^\\])", r"\\d+", one) for one in plain}))
    fits = {name for name in among if re.fullmatch(numbered, name)}
    return numbered if fits == set(names) else "|".join(plain)


def tensors_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of a wrapped model's adapters under the names that peft's file has for them."""
    return {
        _PREFIX + re.sub(rf"(lora_magnitude_vector)\.{_NAME}\.weight$|\.{_NAME}(?=\.)", r"\1", name): one
        for name, one in model.named_parameters()
        if ".lora_" in name
    }


def record_of(peft_model: Any, base: str) -> AdapterRecord:
    """The record of a wrapped model."""
    config = peft_model.peft_config[_NAME]
    low_rank = LowRank(config.r, config.lora_alpha, config.use_rslora, config.use_dora, config.lora_dropout)
    return AdapterRecord(low_rank, config.target_modules, base, None)


def write(folder: Path, peft_model: Any, base: str, revision: str | None, base_sha256: str) -> None:
    """Write a wrapped model's adapter into an empty folder, in peft's own format.

    Args:
        base, revision: see `AdapterRecord`.
        base_sha256: of the weights it was learned on.

    Raises:
        StoreError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    config = copy(peft_model.peft_config[_NAME])
    config.base_model_name_or_path, config.revision, config.inference_mode = base, revision, True
    model = peft_model.get_base_model()
    tensors = {name: one.detach().cpu().contiguous() for name, one in tensors_of(model).items()}
    with explained(f"cannot write {folder}"):
        config.save_pretrained(folder)
        try:
            # One entry alone: of several the library writes the order anew in each process.
            save_file(tensors, folder / WEIGHTS, metadata={BASE_SHA256: base_sha256})
        except SafetensorError as error:
            raise StoreError(f"cannot write {folder / WEIGHTS}: {error}") from error


def merge(backbone: Backbone, folder: Path, base_sha256: str) -> None:
    """Merge the adapter of a folder into a backbone in float32 that was just opened, in place.

    Args:
        base_sha256: of the weights that the backbone has.

    Raises:
        BackboneError: the adapter is damaged, or of another base.
    """
    from safetensors import safe_open

    _, path = files_of(folder)
    record, tensors = read_record(folder), weights.read_tensors([path])
    with safe_open(path, framework="pt") as file:
        learned_on = (file.metadata() or {}).get(BASE_SHA256)
    if learned_on not in (None, base_sha256):
        raise BackboneError(
            f"{path}: it was learned on other weights than its base {record.base} has now "
            f"(SHA-256 {learned_on[:16]}…, here {base_sha256[:16]}…); bring the same base"
        )
    merge_tensors(backbone, tensors, record, [path])


def merge_tensors(
    backbone: Backbone, tensors: Mapping[str, Tensor], record: AdapterRecord, files: Sequence[Path]
) -> None:
    """As `merge`, of tensors under peft's names; `files` are for messages.

    Raises:
        BackboneError: tensors are missing, left over, of another shape or not finite.
    """
    import torch

    model: nn.Module = backbone.model
    kept = model.state_dict().keys()
    given = {
        name: one
        for name, one in ((key.removeprefix(_PREFIX), one) for key, one in tensors.items())
        if ".lora_" in name or name in kept or not name.startswith(_CLASSIFIERS)
    }
    names = {module_of(name) for name in given if ".lora_" in name}
    own = _own_names(model, names)
    unknown = sorted(name for name in names if name not in own)
    if not names or unknown:
        told = f"its {unknown[0]} is no module of it" if unknown else "it holds no low-rank weights"
        raise BackboneError(f"{files[0]}: the adapter does not fit its base {record.base}: {told}")
    _check_rank(given, record.low_rank.rank, files[0])
    foreign = {mine: theirs for theirs, mine in own.items()}
    modules = {
        name
        for name, one in model.named_modules()
        if name in foreign and record.names(foreign[name]) and _can_wrap(one)
    }
    peft_model = wrap(model, modules | {own[name] for name in names}, record.low_rank)
    parameters = {name.removeprefix(_PREFIX): one for name, one in tensors_of(model).items()}
    renamed = {
        (own[module_of(name)] + name.removeprefix(module_of(name)) if ".lora_" in name else name): one
        for name, one in given.items()
    }
    weights.refuse_unless_exact(
        files,
        [name for name in parameters if name not in renamed],
        [name for name in renamed if name not in parameters],
        [
            f"{name} {tuple(renamed[name].shape)} for {tuple(one.shape)}"
            for name, one in parameters.items()
            if name in renamed and renamed[name].shape != one.shape
        ],
    )
    if not all(bool(one.isfinite().all()) for one in renamed.values()):
        raise BackboneError(f"{files[0]}: the adapter's weights are not all finite")
    with torch.no_grad():
        for name, one in parameters.items():
            one.copy_(renamed[name])
    peft_model.merge_and_unload(safe_merge=True)
    model.eval().requires_grad_(False)


def _check_rank(tensors: Mapping[str, Tensor], rank: int, file: Path) -> None:
    """Before memory is taken for what a record asks for."""
    for name, one in tensors.items():
        axis = 0 if ".lora_A." in name else 1
        if (".lora_A." in name or ".lora_B." in name) and (one.ndim < 2 or one.shape[axis] != rank):
            raise BackboneError(
                f"{file}: {name} is {tuple(one.shape)}, which is not of the rank that its record says, {rank}"
            )


def module_of(name: str) -> str:
    """The wrapped module of an adapter's weight, by its name in the file or in the model."""
    return name.removeprefix(_PREFIX).partition(".lora_")[0].removesuffix(".base_layer.out_proj")


def _own_names(model: nn.Module, names: Collection[str]) -> dict[str, str]:
    """The model's own name of each module, by that in which an adapter knows it.

    Adapters may have been learned on the model inside a classifier, which has its names behind a prefix, or with
    transformers 4, which has other names for the attention of DINOv2. The first of these that knows all of `names`, or
    most of them.
    """
    own = [name for name, _ in model.named_modules() if name]
    heads = sorted({name.partition(".")[0] for name in names})
    dialects = [
        {prefix + spoken(name): name for name in own}
        for prefix in ("", *(f"{head}." for head in heads))
        for spoken in (str, _of_transformers_4)
    ]
    return max(dialects, key=lambda known: sum(name in known for name in names))


def _of_transformers_4(name: str) -> str:
    """The name that transformers 4 has for a module of DINOv2."""
    former = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}
    head, _, last = name.rpartition(".")
    if not head.endswith(".attention") or last not in {*former, "o_proj"}:
        return name
    return f"{head}.{former.get(last, 'output.dense')}"


def _can_wrap(module: nn.Module) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear | nn.Conv2d | nn.MultiheadAttention)


def _keep_exact(layer: Any) -> None:
    """Give an attention that peft merges for each forward pass its very own weights back afterwards.

    peft takes the update off again by subtraction, which leaves rounding behind, pass after pass.
    """
    base = layer.get_base_layer()
    out = base.out_proj.get_base_layer()
    kept: list[Any] = []

    def before(*_: Any) -> None:
        kept[:] = [base.in_proj_weight, out.weight]

    def after(*_: Any) -> None:
        base.in_proj_weight, out.weight = kept

    layer.register_forward_pre_hook(before)
    layer.register_forward_hook(after, always_call=True)
