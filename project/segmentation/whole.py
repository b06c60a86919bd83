"""Networks that see the pictures themselves: references beside decoders of stored maps, and what learns the encoder too.

An encoder that does not learn, before a decoder that does, is the protocol in which windows are encoded as windows; the
stored maps' protocol cuts them out of maps of whole pictures. An encoder that learned is written as a folder that is a
backbone, beside the results.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deponij.pipeline.backbones import describe, load, parse_spec
from deponij.pipeline.backbones.kinds import Kind, KindName
from deponij.pipeline.backbones.trainable import Learns, TrainablePyramid
from deponij.pipeline.backbones.transform import Alpha, Resize, Rounding, Transform
from deponij.pipeline.decoders.decoder import Level
from deponij.pipeline.decoders.whole import RESNET_18, WholeNetwork, resnet_18
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.pipeline.pictures import Route
from deponij.pipeline.segmenting.segmenter import Ways
from deponij.pipeline.training.task import ParameterGroup
from deponij.pipeline.tuning.formats import require_format
from deponij.pipeline.tuning.saved import save_tuned
from deponij.pipeline.tuning.tower import Tower
from deponij.project.extraction import identities
from deponij.project.extraction.tuned_on import LEARNED_FROM, learned_from, learned_from_table
from deponij.project.segmentation.judging import Answering, Named, judge, result_of
from deponij.project.segmentation.learn import Asked, Running, features_of, learned, task_of, write_learned
from deponij.project.segmentation.params import DecodersParams
from deponij.project.segmentation.pictures import PictureScenes
from deponij.project.segmentation.protocol import protocol
from deponij.project.segmentation.result_files import encoder_beside
from deponij.project.segmentation.scaled import answers_at
from deponij.project.segmentation.task import SegmentationTask, answers
from deponij.project.segmentation.words import LEARNED, vectors_for
from deponij.store.atomic import discard_folder
from deponij.store.errors import UsageError
from deponij.store.identity import Identity
from deponij.store.scenes import Scenes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deponij.pipeline.backbones.contract import Backbone, Description

_SIZE = tuple[int, int]
# Of ImageNet, as torchvision's models take them.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The encoder learns at a quarter of the decoder's rate and decay (Kombol 2023).
_SLOWER = 0.25
_SAID: dict[str, str] = {
    "all": "the whole network learns",
    "last": "the encoder's last stage and the decoder learn",
    "none": "the decoder alone learns",
}


@dataclass(frozen=True)
class Encoder:
    """What comes before a decoder.

    Attributes:
        name, fingerprint: of it; no fingerprint where it starts from nothing.
        levels: of its maps, finest first.
        rate: of its learning beside the decoder's.
        backbone, spec: that it is, and by which it is loaded; None of a network that is none.
    """

    name: str
    fingerprint: str
    module: "nn.Module"
    levels: list[Level]
    transform: Transform
    learns: Learns
    rate: float
    backbone: "Backbone | None" = None
    spec: str = ""

    @property
    def kind(self) -> Kind:
        """Of its maps, as `deponij extract` calls them."""
        return Kind(KindName.PYRAMID, len(self.levels))

    @property
    def shaping(self) -> str:
        """What stands for it in a checkpoint's identity."""
        return repr((self.name, self.fingerprint, self.learns, self.rate, self.levels, self.transform))


def encoder_of(
    spec: str,
    input_px: _SIZE | None,
    learns: Learns,
    *,
    levels: int = 4,
    rate: float | None = None,
    fixed_norms: bool = False,
) -> Encoder:
    """A backbone as an encoder; see `TrainablePyramid`.

    Args:
        input_px: to which whole pictures are squashed; None: to the backbone's own.
        rate: of its learning beside the decoder's; None: a quarter, and that of the decoder where its weights are drawn.

    Raises:
        BackboneError: the backbone cannot be loaded, or has no maps.
    """
    import torch

    size_px = input_px or describe(spec).input_px
    backbone = load(spec, input_px=size_px)
    empty = torch.zeros(1, 3, *size_px)
    strides = [one.stride_px for one in backbone.dense(empty, levels)]
    maps = Kind(KindName.PYRAMID, levels).compute(backbone, empty)
    known = [
        Level(name, int(one.shape[1]), stride)
        for (name, one), stride in zip(maps.items(), strides, strict=True)
    ]
    module = TrainablePyramid(backbone, levels, learns, fixed_norms=fixed_norms)
    module.to(memory_format=torch.channels_last)
    if rate is None:
        rate = _SLOWER if parse_spec(spec).network is None else 1.0
    described = backbone.description
    return Encoder(
        described.name,
        described.weights_sha256[:16],
        module,
        known,
        described.transform,
        learns,
        rate,
        backbone,
        spec,
    )


def from_nothing(input_px: _SIZE) -> Encoder:
    """A ResNet-18 with drawn weights, SwiftNet's encoder."""
    import torch

    module = resnet_18().to(memory_format=torch.channels_last)
    transform = Transform(
        resize=Resize.SQUASH,
        resize_px=input_px,
        interpolation="bicubic",
        crop_px=None,
        crop_rounding=Rounding.HALF_EVEN,
        mean=_MEAN,
        std=_STD,
        alpha=Alpha.DROP_FIRST,
    )
    return Encoder("resnet18-from-nothing", "", module, list(RESNET_18), transform, "all", 1.0)


def learn_whole(
    asked: Asked,
    params: DecodersParams,
    scenes: Path,
    encoder: Encoder,
    *,
    running: Running,
    out: Path | None = None,
    words: Path | None = None,
    scales: tuple[float, ...] = (1.0,),
) -> SegmentationResult:
    """Learn decoder and, as it says, encoder from pictures; judge every part.

    Args:
        words: view of text vectors, by the encoder's own text tower, which stays as it is; None where none are used.
        out: folder for the results and the decoder, beside which the encoder lies where it learned; None writes nothing.
        scales: at which pictures are seen to be judged, see `deponij.pipeline.segmenting.windows.Frame.seen_px`.

    Raises:
        DeponijError: inputs that do not fit together; the message says why.
    """
    import torch

    start = time.perf_counter()
    origin = None if out is None else _writable(encoder)
    source = PictureScenes(Scenes(scenes), encoder.transform, encoder.levels[-1].stride_px)
    vectors = _vectors(asked, encoder, source.scenes, words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.training.seed)
        decoder = asked.decoder.build(encoder.levels, len(source.scenes.classes), vectors)
    decoder.to(memory_format=torch.channels_last)
    model = WholeNetwork(encoder.module, decoder)
    task = task_of(asked, params, source, model, encoder.shaping)
    slower = [one for one in encoder.module.parameters() if one.requires_grad]
    task.parts = [
        ParameterGroup(list(decoder.parameters())),
        ParameterGroup(slower, encoder.rate, asked.training.weight_decay * encoder.rate),
    ]
    training = learned(task, asked, running)
    named = Named(
        method=asked.name,
        title=f"{asked.decoder.title}, {_SAID[encoder.learns]}",
        backbone=encoder.name,
        fingerprint=encoder.fingerprint,
        words=asked.words,
        protocol=protocol(
            params,
            asked.training,
            source,
            training,
            learning=f"{_SAID[encoder.learns]} on {' and '.join(params.learn_from)}",
            windows=", encoded as such",
            both_ways=params.both_ways,
            scales=scales,
        ),
        windows="encoded",
        learned_from=params.learn_from,
        seed=asked.training.seed,
        seconds=time.perf_counter() - start,
        vectors=vectors,
    )
    answering: Answering = partial(answers, model, source, both_ways=params.both_ways)
    if scales != (1.0,):
        answering = partial(answers_at, model, source, ways=Ways(scales, params.both_ways))
    counter = judge(answering, source, parts=params.judged)
    result = result_of(named, model, source, counter)
    if out is not None and origin is not None:
        name, identity = _kept(encoder, origin, out, task, named.protocol)
        features = features_of(name, identity)
        write_learned(
            out, asked, decoder, vectors, encoder.levels, features, source, result, counter, running
        )
    if running.unfinished is not None:
        discard_folder(running.unfinished)
    return result


def _vectors(asked: Asked, encoder: Encoder, scenes: Scenes, words: Path | None) -> "Tensor | None":
    """Of the classes' words, float32 [C, d]; None where class vectors are learned."""
    import torch

    if not asked.decoder.learns and encoder.learns == "none":
        raise UsageError(
            f"neither the decoder {asked.kind!r} nor the encoder learns; let the encoder learn, or take --maps"
        )
    if words is None or asked.words == LEARNED or encoder.backbone is None:
        return None
    names = [one.name for one in scenes.classes]
    return torch.from_numpy(
        vectors_for(words, names, asked.words, _maps_of(encoder, encoder.backbone.description), encoder.spec)
    )


def _maps_of(encoder: Encoder, described: "Description") -> Identity:
    return identities.of_pictures(described, encoder.kind, Route.FULL, "fp32", "float32")


def _writable(encoder: Encoder) -> "Backbone":
    """What it is, refused before it has learned where it could not be written then."""
    if encoder.backbone is None:
        raise UsageError(
            f"{encoder.name} is no backbone that could be written; name new:resnet-18 in its place"
        )
    if encoder.learns != "none":
        require_format(encoder.backbone)
    return encoder.backbone


def _kept(
    encoder: Encoder, backbone: "Backbone", out: Path, task: SegmentationTask, told: str
) -> tuple[str, Identity]:
    """Name and maps of the backbone that the decoder goes with: the one that was there, or, where it learned, the one that
    is written here, with what it learned from.
    """
    import torch

    name, described = encoder.name, backbone.description
    if encoder.learns != "none":
        folder, items = encoder_beside(out), task.source.scenes.items
        encoder.module.cpu().to(memory_format=torch.contiguous_format)
        parts = learned_from(encoder.spec, described.weights_sha256)
        for part, ids in (("val", task.val_ids), ("train", task.ids)):
            keys = [items.keys[items.places[one]] for one in ids]
            parts |= {key: part for key in keys if key is not None}
        said = {
            "name": folder.name,
            "base": encoder.spec,
            "said": _SAID[encoder.learns],
            "protocol": told,
        }
        files = {LEARNED_FROM: learned_from_table(parts)}
        name, described = (
            folder.name,
            save_tuned(folder, Tower(backbone), encoder.spec, said, lambda _: files),
        )
    return name, _maps_of(encoder, described)
