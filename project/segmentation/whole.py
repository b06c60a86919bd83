"""Networks that see the pictures themselves: references beside decoders of stored maps, and what learns the encoder too.

An encoder that does not learn, before a decoder that does, is the protocol in which windows are encoded as windows; the
stored maps' protocol cuts them out of maps of whole pictures.
"""

import time
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

from deponij.pipeline.backbones import load
from deponij.pipeline.backbones.trainable import Learns, TrainablePyramid
from deponij.pipeline.backbones.transform import Alpha, Resize, Rounding, Transform
from deponij.pipeline.decoders.decoder import Level
from deponij.pipeline.decoders.whole import RESNET_18, WholeNetwork, resnet_18
from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.pipeline.training.task import ParameterGroup
from deponij.project.segmentation.judging import Named, judge, result_of
from deponij.project.segmentation.learn import Asked, Running, learned, task_of
from deponij.project.segmentation.params import DecodersParams
from deponij.project.segmentation.pictures import PictureScenes
from deponij.project.segmentation.protocol import protocol
from deponij.project.segmentation.words import LEARNED
from deponij.store.atomic import discard_folder
from deponij.store.scenes import Scenes

if TYPE_CHECKING:
    from torch import nn

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
    """

    name: str
    fingerprint: str
    module: "nn.Module"
    levels: list[Level]
    transform: Transform
    learns: Learns
    rate: float


def encoder_of(
    spec: str, input_px: _SIZE, learns: Learns, *, levels: int = 4, fixed_norms: bool = False
) -> Encoder:
    """A backbone as an encoder; see `TrainablePyramid`.

    Raises:
        BackboneError: the backbone cannot be loaded, or has no maps.
    """
    import torch

    backbone = load(spec, input_px=input_px)
    module = TrainablePyramid(backbone, levels, learns, fixed_norms=fixed_norms)
    module.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        maps = module.eval()(torch.zeros(1, 3, *input_px))
    # Maps of odd sizes have a part of a cell more or less; strides of stages are powers of two.
    strides = [1 << round(log2(input_px[0] / one.shape[2])) for one in maps]
    known = [
        Level(f"stride{stride}", int(one.shape[1]), stride) for stride, one in zip(strides, maps, strict=True)
    ]
    described = backbone.description
    return Encoder(
        described.name, described.weights_sha256[:16], module, known, described.transform, learns, _SLOWER
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
    asked: Asked, params: DecodersParams, scenes: Path, encoder: Encoder, *, running: Running
) -> SegmentationResult:
    """Learn decoder and, as it says, encoder from pictures; judge every part. Class vectors are learned.

    Raises:
        DeponijError: inputs that do not fit together; the message says why.
    """
    import torch

    start = time.perf_counter()
    source = PictureScenes(Scenes(scenes), encoder.transform, encoder.levels[-1].stride_px)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.training.seed)
        decoder = asked.decoder.build(encoder.levels, len(source.scenes.classes), None)
    decoder.to(memory_format=torch.channels_last)
    model = WholeNetwork(encoder.module, decoder)
    task = task_of(asked, params, source, model, f"{encoder.name} {encoder.fingerprint} {encoder.learns}")
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
        words=LEARNED,
        protocol=protocol(
            params,
            asked.training,
            source,
            training,
            learning=f"{_SAID[encoder.learns]} on {' and '.join(params.learn_from)}",
            windows=", encoded as such",
            both_ways=params.both_ways,
        ),
        windows="encoded",
        learned_from=params.learn_from,
        seed=asked.training.seed,
        seconds=time.perf_counter() - start,
    )
    counter = judge(model, source, both_ways=params.both_ways, parts=params.judged)
    if running.unfinished is not None:
        discard_folder(running.unfinished)
    return result_of(named, model, source, counter)
