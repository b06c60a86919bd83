"""Learning to segment what a person names; what the stage `decoders` does for a method of a profile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

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

_TRAINING = "training."


@dataclass(frozen=True)
class DecoderRequest:
    """What is asked for.

    Attributes:
        words: which of the classes' words; None to learn class vectors.
        arguments: NAME=VALUE of the decoder, and `training.NAME=VALUE`, which count more than `training`.
        section: of `DecodersParams`, what has a flag of its own.
        training: settings that have flags of their own.
    """

    decoder: str
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
            "methods": {self.decoder: {"arguments": given}},
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
    *,
    scenes: Path,
    maps: Path,
    flipped: Path | None,
    words: Path | None,
    depot: str,
    running: Running,
    out: Path | None,
) -> SegmentationResult:
    """Learn from stored maps, and judge.

    Raises:
        DeponijError: what cannot be used; the message says what to do.
    """
    params, asked = request.parsed()
    if running.tracking is not None and not asked.decoder.learns:
        raise UsageError(
            f"the decoder {asked.kind!r} learns nothing, so no tracker can be told; leave --track"
        )
    source = StoredScenes.open(scenes, maps, flipped, depot)
    return learn_decoder(asked, params, source, words=words, running=running, out=out)


def listed_arguments(decoder: str) -> list[Argument]:
    """What `--set` takes.

    Raises:
        UsageError: there is no such decoder.
    """
    of_training = [one._replace(name=f"{_TRAINING}{one.name}") for one in arguments_in(TrainingParams, USUAL)]
    return arguments_in(parameters_of(decoder_class(decoder))) + of_training
