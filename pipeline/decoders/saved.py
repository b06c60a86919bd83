"""How a learned decoder is kept: `decoder.safetensors` and `decoder.json`, which say together how it is applied."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import JsonValue
from torch import nn

from deponij.pipeline.cards import Card, CardFolder, FeatureSource, Tensors, check_names, parameters_of
from deponij.pipeline.decoders.decoder import Decoder, Level
from deponij.pipeline.decoders.registry import decoder_class
from deponij.pipeline.record_lists import REMEDY, told
from deponij.store.errors import DeponijError, StoreError

# Of batch norms, which use it only where their momentum is None.
_COUNTER = "num_batches_tracked"


class DecoderCard(Card):
    """`decoder.json`.

    Attributes:
        params: of the decoder.
        levels: of the maps, finest first.
        classes: of the logits' channels.
        colours: of each, R, G, B.
        words_dim: width of the words' vectors, which are among the tensors; None where class vectors are learned.
        source: features that it was learned from; it may be applied to no others.
        input_px: (height, width) in which the backbone saw the pictures.
        protocol: what was learned from what, and chosen on what.
    """

    format: Literal[1] = 1
    params: dict[str, JsonValue]
    levels: tuple[Level, ...]
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    words_dim: int | None
    source: FeatureSource
    input_px: tuple[int, int]
    protocol: str


DECODERS = CardFolder("decoder", "decoder", DecoderCard)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a decoder is applied to, and how its answers are named; as `DecoderCard` has it."""

    levels: Sequence[Level]
    classes: Sequence[str]
    colours: Sequence[tuple[int, int, int]]
    source: FeatureSource
    input_px: tuple[int, int]
    protocol: str


def decoder_files(
    decoder: Decoder, module: nn.Module, class_vectors: torch.Tensor | None, applied: Applied
) -> dict[str, bytes]:
    """Content of a learned decoder's files by name; the same weights give the same bytes.

    Args:
        class_vectors: that `module` was built with.
    """
    tensors = {
        name: values.detach().to("cpu", torch.float32).numpy()
        for name, values in module.state_dict().items()
        if not name.endswith(_COUNTER)
    }
    return DECODERS.files(
        tensors,
        lambda sha256: DecoderCard(
            kind=decoder.kind,
            params=decoder.plain_params(),
            levels=tuple(applied.levels),
            classes=tuple(applied.classes),
            colours=tuple(applied.colours),
            words_dim=None if class_vectors is None else int(class_vectors.shape[1]),
            source=applied.source,
            input_px=applied.input_px,
            protocol=applied.protocol,
            tensors_sha256=sha256,
        ),
    )


def load_decoder(folder: Path) -> tuple[DecoderCard, nn.Module]:
    """A learned decoder in evaluation mode, on the CPU.

    Raises:
        StoreError: the folder holds none, or a damaged one, or one of another version.
        UsageError: a kind that this version does not know.
    """
    card = DECODERS.read_card(folder)
    made = decoder_class(card.kind)
    card, tensors = DECODERS.read(folder, card.kind)
    try:
        check_names("parameter", card.params, list(made().plain_params()))
        parameters_of(made).model_validate_json(json.dumps(card.params), strict=True)
        decoder = made(**{name: _value(value) for name, value in card.params.items()})
        with torch.random.fork_rng(devices=[]):
            module = decoder.build(card.levels, len(card.classes), _any_words(card))
        _fill(module, tensors)
    except (DeponijError, ValueError, TypeError, KeyError, RuntimeError) as error:
        where = folder / DECODERS.card_name
        raise StoreError(
            f"{where} does not fit this version's {card.kind!r}: {told(error)}; {REMEDY}"
        ) from error
    return card, module.eval()


def _any_words(card: DecoderCard) -> torch.Tensor | None:
    """Vectors of the right shape and length; the saved ones take their place."""
    if card.words_dim is None:
        return None
    return torch.nn.functional.one_hot(
        torch.zeros(len(card.classes), dtype=torch.long), card.words_dim
    ).float()


def _value(value: JsonValue) -> object:
    return tuple(value) if isinstance(value, list) else value


def _fill(module: nn.Module, tensors: Tensors) -> None:
    if not all(np.isfinite(one).all() for one in tensors.values()):
        raise ValueError("its tensors are not all finite")
    state = {name: torch.from_numpy(np.array(one)) for name, one in tensors.items()}
    missing, unknown = module.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith(_COUNTER)]
    if missing or unknown:
        raise ValueError(f"tensors do not fit (missing: {missing}; unknown: {unknown})")
