"""Learning to segment what a person names: what the stage `decoders` does for a method of a profile, and whole networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from deponij.pipeline.backbones import parse_spec
from deponij.pipeline.cards import parameters_of
from deponij.pipeline.decoders.registry import decoder_class
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.pipeline.training.params import TrainingParams
from deponij.project.frame.settings import check
from deponij.project.learning.arguments import Argument, arguments_in, parse_arguments
from deponij.project.segmentation.learn import Asked, Running, asked_of, learn_decoder
from deponij.project.segmentation.params import USUAL, DecodersParams
from deponij.project.segmentation.sources import StoredScenes
from deponij.project.segmentation.words import LEARNED
from deponij.store.errors import UsageError

if TYPE_CHECKING:
    from deponij.pipeline.backbones.trainable import Learns

_TRAINING = "training."
# Of weights that know something and all learn; the decoder's before an encoder that learns too.
_WHOLE_LR = 4e-4
# How results are called beside those of the same decoder on stored maps.
_CALLED: Mapping["Learns", str] = {"all": "whole", "last": "last-stage", "none": "encoded"}


@dataclass(frozen=True)
class Maps:
    """What lies in a depot; see `StoredScenes.open`.

    Attributes:
        words: view of the classes' text vectors; None to learn class vectors.
    """

    view: Path
    depot: str
    flipped: Path | None = None
    words: Path | None = None


@dataclass(frozen=True)
class Seeing:
    """An encoder that sees the pictures themselves; see `deponij.project.segmentation.whole.encoder_of`.

    Attributes:
        words: view of the classes' text vectors, by this very backbone; None to learn class vectors.
        scales: at which pictures are seen to be judged; stored maps have the one that they were made at.
    """

    spec: str
    learns: "Learns" = "all"
    input_px: tuple[int, int] | None = None
    levels: int = 4
    rate: float | None = None
    words: Path | None = None
    scales: tuple[float, ...] = (1.0,)

    @property
    def training(self) -> dict[str, JsonValue]:
        """What is usual otherwise than of stored maps."""
        knows = parse_spec(self.spec).network is None
        return {"lr": _WHOLE_LR} if self.learns != "none" and knows else {}


@dataclass(frozen=True)
class DecoderRequest:
    """What is asked for.

    Attributes:
        name: of the results; by default the decoder's.
        words: which of the classes' words; None to learn class vectors.
        arguments: NAME=VALUE of the decoder, and `training.NAME=VALUE`, which count more than `training`.
        section: of `DecodersParams`, what has a flag of its own.
        training: settings that have flags of their own.
    """

    decoder: str
    name: str | None = None
    words: str | None = None
    arguments: tuple[str, ...] = ()
    section: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, JsonValue] = field(default_factory=dict)

    def parsed(self) -> tuple[DecodersParams, Asked]:
        """The settings, and the one decoder that they ask for.

        Raises:
            UsageError: a name or a value is wrong, or the decoder cannot do without words.
        """
        given = parse_arguments(self.arguments)
        training = {
            name.removeprefix(_TRAINING): given.pop(name)
            for name in list(given)
            if name.startswith(_TRAINING)
        }
        values = {
            **self.section,
            "methods": {self.name or self.decoder: {"decoder": self.decoder, "arguments": given}},
            "words": [self.words or LEARNED],
            "training": {**self.training, **training},
        }
        params = check(DecodersParams, values, "this command")
        every = asked_of(params, with_words=self.words is not None)
        if not every:
            raise UsageError(
                f"the decoder {self.decoder!r} learns nothing, so it needs words: name the view of the classes' text "
                "vectors with --words"
            )
        return params, every[0]


def run(
    request: DecoderRequest,
    seen: Maps | Seeing,
    *,
    scenes: Path,
    running: Running,
    out: Path | None,
) -> SegmentationResult:
    """Learn from stored maps, or with an encoder from pictures, and judge.

    Raises:
        DeponijError: what cannot be used; the message says what to do.
    """
    if isinstance(seen, Seeing):
        return _learned_whole(request, seen, scenes, running, out)
    params, asked = request.parsed()
    if running.tracking is not None and not asked.decoder.learns:
        raise UsageError(
            f"the decoder {asked.kind!r} learns nothing, so no tracker can be told; leave --track"
        )
    source = StoredScenes.open(scenes, seen.view, seen.flipped, seen.depot)
    return learn_decoder(asked, params, source, words=seen.words, running=running, out=out)


def _learned_whole(
    request: DecoderRequest, seen: Seeing, scenes: Path, running: Running, out: Path | None
) -> SegmentationResult:
    from deponij.project.segmentation.whole import encoder_of, learn_whole

    request = replace(
        request,
        name=request.name or f"{request.decoder}-{_CALLED[seen.learns]}",
        training={**seen.training, **request.training},
    )
    params, asked = request.parsed()
    encoder = encoder_of(seen.spec, seen.input_px, seen.learns, levels=seen.levels, rate=seen.rate)
    return learn_whole(
        asked, params, scenes, encoder, running=running, out=out, words=seen.words, scales=seen.scales
    )


def listed_arguments(decoder: str) -> list[Argument]:
    """What `--set` takes.

    Raises:
        UsageError: there is no such decoder.
    """
    of_training = [one._replace(name=f"{_TRAINING}{one.name}") for one in arguments_in(TrainingParams, USUAL)]
    return arguments_in(parameters_of(decoder_class(decoder))) + of_training
