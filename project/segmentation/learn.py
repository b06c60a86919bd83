"""One decoder learned from stored maps and judged: what the stage `decoders` does for each method.

Which decoders there are is the business of `deponij.pipeline.decoders`; what a training is, of `deponij.pipeline.training`;
what lies in a folder of results, `result_files`.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from deponij.pipeline.cards import FeatureSource, parameters_of
from deponij.pipeline.decoders.decoder import Decoder, Level
from deponij.pipeline.decoders.losses import boundary_aware, class_weights, cross_entropy
from deponij.pipeline.decoders.registry import decoder_class
from deponij.pipeline.decoders.saved import Applied, decoder_files
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.pipeline.training.loop import Training, train
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.trackers import Tracking
from deponij.project.frame.console import note
from deponij.project.frame.settings import check
from deponij.project.frame.training_bar import training_bar
from deponij.project.segmentation.drawing import Drawn
from deponij.project.segmentation.judging import Named, judge, result_of
from deponij.project.segmentation.params import DecodersParams, Method
from deponij.project.segmentation.protocol import protocol
from deponij.project.segmentation.result_files import PictureCounter, write_segmentation
from deponij.project.segmentation.sources import SceneSource, StoredScenes
from deponij.project.segmentation.task import SegmentationTask, answers
from deponij.project.segmentation.words import LEARNED, class_vectors
from deponij.store.atomic import discard_folder
from deponij.store.bundle import refuse_foreign_bundle
from deponij.store.errors import UsageError
from deponij.store.identity import Identity
from deponij.store.label_maps import pixel_counts
from deponij.store.scenes import Scenes
from deponij.store.sealed import sha256_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Asked:
    """One method with one sort of words.

    Attributes:
        name: of the method.
        kind: of the decoder.
        words: where class vectors come from.
    """

    name: str
    kind: str
    words: str
    arguments: Mapping[str, JsonValue]
    training: TrainingParams

    @property
    def decoder(self) -> Decoder:
        """Its settings."""
        return make_decoder(self.kind, self.arguments)


@dataclass(frozen=True, slots=True)
class Running:
    """How it is carried out, which changes no result beyond rounding.

    Attributes:
        unfinished: folder of its checkpoint, from which an interrupted training goes on.
        keeps_time: whether the record says how long it took; not under DVC, whose outputs hold nothing of a machine.
        tracking: who is told how it goes.
    """

    device: str = "cpu"
    n_threads: int = 1
    unfinished: Path | None = None
    keeps_time: bool = True
    tracking: Tracking | None = None


def asked_of(params: DecodersParams, *, with_words: bool) -> list[Asked]:
    """All that a profile asks for of one backbone, each checked before anything is learned.

    Raises:
        UsageError: an unknown decoder, or wrong arguments.
    """
    asked = []
    for name, method in params.methods.items():
        kind = method.decoder or name
        decoder = make_decoder(kind, method.arguments)
        training = _training(params, method, name)
        for words in (method.words or params.words) if with_words and decoder.uses_words else [LEARNED]:
            if words != LEARNED or not decoder.needs_words:
                asked.append(Asked(name, decoder.kind, words, method.arguments, training))
    return asked


def make_decoder(kind: str, arguments: Mapping[str, JsonValue]) -> Decoder:
    """A decoder's settings.

    Raises:
        UsageError: there is no such decoder, or arguments that it does not have or allow.
    """
    made = decoder_class(kind)
    checked = check(parameters_of(made), dict(arguments), f"decoder {kind!r}")
    decoder: Decoder = made(**{name: getattr(checked, name) for name in arguments})
    return decoder


def _training(params: DecodersParams, method: Method, name: str) -> TrainingParams:
    values = params.training.model_dump() | method.training
    if "val" in params.learn_from:
        values |= {"keep": "last"}
    return check(TrainingParams, values, f"the training of the method {name!r}")


def learn_decoder(
    asked: Asked,
    params: DecodersParams,
    source: StoredScenes,
    *,
    words: Path | None,
    running: Running,
    out: Path | None,
) -> SegmentationResult:
    """Learn on the parts to learn from, choose on `val`, judge every part that has pictures.

    Args:
        words: view of text vectors; None where none are used.
        out: folder for the results and the decoder; None writes nothing.

    Raises:
        DeponijError: inputs that do not fit together; the message says why.
    """
    import torch

    start = time.perf_counter()
    if out is not None:
        refuse_foreign_bundle(out, what="results")
    vectors = _vectors(asked, source, words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.training.seed)
        model = asked.decoder.build(levels_of(source), len(source.scenes.classes), vectors)
    model.to(memory_format=torch.channels_last)
    training = None
    if asked.decoder.learns:
        training = learned(task_of(asked, params, source, model, source.view.fingerprint), asked, running)
    both_ways = params.both_ways and source.mirrors
    named = Named(
        method=asked.name,
        title=asked.decoder.title,
        backbone=source.view.backbone,
        fingerprint=source.view.fingerprint,
        words=asked.words,
        protocol=protocol(
            params,
            asked.training,
            source,
            training,
            learning=f"learned on {' and '.join(params.learn_from)} from stored maps of a frozen encoder",
            windows=" cut from maps of whole pictures",
            both_ways=both_ways,
        ),
        windows="none" if training is None else "cut",
        learned_from=params.learn_from if training is not None else (),
        seed=asked.training.seed if training is not None else None,
        seconds=None if training is None else time.perf_counter() - start,
        vectors=vectors,
    )
    counter = judge(partial(answers, model, source, both_ways=both_ways), source, parts=params.judged)
    result = result_of(named, model, source, counter)
    if out is not None:
        features = features_of(source.view.backbone, source.view.identity)
        levels = levels_of(source)
        write_learned(out, asked, model, vectors, levels, features, source, result, counter, running)
    if running.unfinished is not None:
        discard_folder(running.unfinished)
    return result


def levels_of(source: StoredScenes) -> list[Level]:
    """As decoders know them."""
    return [Level(one.name, one.channels, one.stride_px) for one in source.levels]


def _vectors(asked: Asked, source: StoredScenes, words: Path | None) -> "Tensor | None":
    """Of the classes' words, float32 [C, d]; None where class vectors are learned."""
    import torch

    if words is not None and asked.words != LEARNED:
        names = [one.name for one in source.scenes.classes]
        return torch.from_numpy(class_vectors(words, names, asked.words, source.view))
    if asked.decoder.needs_words:
        raise UsageError(
            f"the decoder {asked.kind!r} learns nothing, so it needs words, which {source.view.backbone} has not"
        )
    return None


def features_of(backbone: str, identity: Identity) -> FeatureSource:
    """What a decoder's card names its maps by."""
    fields = {name: str(value) for name, value in json.loads(identity.to_json()).items()}
    return FeatureSource(
        backbone=backbone, fingerprint=identity.fingerprint, labels="scenes", identity=fields
    )


def write_learned(
    out: Path,
    asked: Asked,
    module: "nn.Module",
    vectors: "Tensor | None",
    levels: Sequence[Level],
    features: FeatureSource,
    source: SceneSource,
    result: SegmentationResult,
    counter: PictureCounter,
    running: Running,
) -> None:
    """A folder of results, with the decoder."""
    applied = Applied(
        levels=levels,
        classes=[one.name for one in source.scenes.classes],
        colours=[one.colour for one in source.scenes.classes],
        source=features,
        input_px=source.frame.input_px,
        protocol=result.protocol,
    )
    kept = result if running.keeps_time else result.model_copy(update={"seconds": None})
    files = decoder_files(asked.decoder, module, vectors, applied)
    write_segmentation(out, kept, counter.counts(), counter.answers, files)


def task_of(
    asked: Asked, params: DecodersParams, source: SceneSource, model: "nn.Module", features: str
) -> SegmentationTask:
    """What is trained.

    Args:
        features: stands for what the source gives.
    """
    chosen_on = [] if "val" in params.learn_from or not source.scenes.ids("val") else source.ids(["val"])
    ids = source.ids(params.learn_from)
    drawn = Drawn(asked.training.batch_size, params.window_px, source.mirrors, asked.training.seed)
    shaping = {
        "decoder": asked.kind,
        "arguments": dict(asked.arguments),
        "words": asked.words,
        "features": features,
        "pictures and labels": sha256_of(repr([source.scenes.digest, ids, chosen_on]).encode()),
        "window_px": params.window_px,
        "mirrored": source.mirrors,
        "loss": params.loss,
        "class_weights": params.class_weights,
    }
    loss = boundary_aware if params.loss == "boundary" else cross_entropy
    weights = _weights(params, source.scenes, ids)
    return SegmentationTask(
        model=model,
        source=source,
        ids=ids,
        val_ids=chosen_on,
        drawn=drawn,
        loss_of=loss if weights is None else partial(loss, weights=weights),
        identity=json.dumps(shaping),
        weights=weights if params.loss == "cross_entropy" else None,
    )


def _weights(params: DecodersParams, scenes: Scenes, ids: Sequence[str]) -> list[float] | None:
    if not params.class_weights:
        return None
    counts = np.sum([pixel_counts(scenes.label_map(one)) for one in ids], axis=0)[: len(scenes.classes)]
    return class_weights(counts, params.class_weights)


def learned(task: SegmentationTask, asked: Asked, running: Running) -> Training:
    """Train, shown by a bar.

    Raises:
        UsageError: it waits for a better epoch, and there is nothing to tell one by.
    """
    if asked.training.patience is not None and not task.val_ids:
        raise UsageError(
            f"patience: {asked.training.patience} waits for a better epoch on val, and no picture is there to choose on: "
            "leave it away, or take val out of what is learned from"
        )
    with training_bar(asked.name) as on_step:
        return train(
            task,
            asked.training,
            device=running.device,
            n_threads=running.n_threads,
            checkpoint=None if running.unfinished is None else running.unfinished / "checkpoint",
            on_step=on_step,
            on_note=note,
            tracking=running.tracking,
        )
