"""What segments: a backbone that knows words, or a trained decoder with the backbone that it learned from. No stage.

Models are loaded here, once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deponij.pipeline.backbones import describe, parse_spec
from deponij.pipeline.pictures import Route
from deponij.pipeline.reports.provenance import marked
from deponij.pipeline.segmenting.network import require_projection, require_words
from deponij.pipeline.segmenting.segmenter import Segmenter
from deponij.pipeline.segmenting.windows import Frame
from deponij.pipeline.templates import fill, templates
from deponij.project.extraction.default_backbones import choose
from deponij.project.extraction.devices import load_backbone
from deponij.project.extraction.feature_maker import FeatureMaker
from deponij.project.extraction.found_backbones import Needed, find_backbones
from deponij.project.frame.device import pick_device
from deponij.project.frame.settings import RunOptions, Section
from deponij.project.in_force import weights_record
from deponij.project.meant import run_meant
from deponij.project.segmentation.result_files import encoder_beside
from deponij.services.segment.asked import Looking, Words
from deponij.store.errors import BackboneError, StoreError, UsageError
from deponij.store.label_maps import SceneClass
from deponij.store.what_is import instead

if TYPE_CHECKING:
    from deponij.pipeline.backbones import Backbone

_CARD = "decoder.json"
_BATCH = {"cpu": 4}
_BATCH_ELSEWHERE = 32
# Of words: the map is eight to thirty-two times as coarse as this.
_FINEST_PX_OF_WORDS = 4


class SegmentModel(Section):
    """What segments, for people.

    Attributes:
        backbone, spec: its name, and by what it was loaded.
        toy: it learnt from drawn pictures only.
        decoder: kind.
        folder: of a trained decoder; null by words.
        templates, background: of words.
        protocol: of a trained decoder, what it learned from.
        window_px: (height, width).
        chosen: how the backbone came to be chosen.
    """

    backbone: str
    spec: str
    toy: bool
    decoder: str
    folder: str | None = None
    templates: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    protocol: str = ""
    window_px: tuple[int, int]
    chosen: str

    @property
    def told(self) -> str:
        """In a few words."""
        backbone = marked(self.backbone, self.toy)
        return f"words and {backbone}" if self.folder is None else f"{self.decoder} on {backbone}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What segments, loaded.

    Attributes:
        classes: of label maps.
        route: by which pictures are decoded.
        says_always: every pixel gets a class, whatever it shows.
    """

    segmenter: Segmenter
    classes: tuple[SceneClass, ...]
    facts: SegmentModel
    route: Route
    says_always: bool


def backbone_of_words(named: str | None) -> tuple[str, str, str]:
    """Name and spec of a backbone that knows words, and how it came to be chosen.

    The one that was named; else of the run that is meant here the first that knows words; else what is at hand.

    Raises:
        UsageError: no such backbone.
        BackboneError: its weights are not here.
    """
    if named is not None:
        return named, named, "named with --backbone"
    try:
        meant = run_meant()
    except (StoreError, UsageError):
        meant = None
    for name in [] if meant is None else meant.backbones:
        assert meant is not None
        record = weights_record(meant.at, name) if meant.at.texts(name).is_file() else None
        if record is not None:
            return name, str(record["spec"]), meant.said(f"its backbone {name} knows words")
    there, _ = choose()
    for name in there:
        if describe(name).has_text:
            return name, name, "at hand, and knows words"
    raise BackboneError(f"of {', '.join(there)} none knows words; name one with --backbone")


def by_words(words: Words, looking: Looking, backbone: str | None, options: RunOptions) -> Chosen:
    """Any words, by a backbone that compares places of pictures with them.

    Raises:
        DeponijError: no such backbone, or it cannot do that; the message says what to do.
    """
    from deponij.pipeline.segmenting.network import network_of_words, vectors_of_words

    filled = templates(words.templates)
    name, spec, why = backbone_of_words(backbone)
    require_words(describe(spec, input_px=looking.window_px))
    device = pick_device(options.device)
    model = load_backbone(spec, device, "fp32", options.n_threads, looking.window_px)
    require_projection(model)
    spoken = [*(one.spoken for one in words.classes), *words.background]
    vectors = vectors_of_words([[fill(one, name) for one in filled] for name in spoken], model.embed_texts)
    network = network_of_words(model, vectors)
    segmenter = Segmenter(
        network,
        model.description.transform,
        Frame(model.description.input_px, network.stride_px, looking.overlap),
        n_classes=len(spoken),
        ways=looking.ways(of_words=True),
        scores="logits" if words.is_query and not words.background else "softmax",
        batch_size=_batch_size(options, device),
        finest_px=min(_FINEST_PX_OF_WORDS, network.stride_px),
    )
    facts = SegmentModel(
        backbone=name,
        spec=spec,
        toy=_is_toy(spec),
        decoder="bilinear",
        templates=tuple(filled),
        background=words.background,
        window_px=model.description.input_px,
        chosen=why,
    )
    says_always = not words.background and looking.threshold == 0
    return Chosen(segmenter, words.classes, facts, Route.FULL, says_always)


def by_model(folder: Path, looking: Looking, specs: list[str], options: RunOptions) -> Chosen:
    """A trained decoder, on the backbone that it learned from.

    Raises:
        DeponijError: no decoder, or its backbone is not here or is another one; the message says what to do.
    """
    from deponij.pipeline.decoders.saved import load_decoder
    from deponij.pipeline.segmenting.network import Network

    if not (folder / _CARD).is_file():
        raise StoreError(
            f"{folder} holds no trained decoder (no {_CARD}){instead(folder)}; runs keep theirs in "
            "RUN/segmentation/DECODER/BACKBONE/WORDS"
        )
    if looking.window_px is not None:
        raise UsageError(
            "--window goes with words; a trained decoder sees pictures at the size that it learned at"
        )
    card, module = load_decoder(folder)
    beside = encoder_beside(folder)
    if not specs and card.source.backbone == beside.name and beside.is_dir():
        specs = [str(beside)]
    backbone = find_backbones([Needed(card.source, folder)], specs)[0]
    maker = FeatureMaker(backbone, options)
    model: Backbone = maker.model
    network = Network(model, backbone.kind, tuple(card.levels), module.to(maker.device))
    segmenter = Segmenter(
        network,
        model.description.transform,
        Frame(model.description.input_px, network.stride_px, looking.overlap),
        n_classes=len(card.classes),
        ways=looking.ways(of_words=False),
        batch_size=_batch_size(options, maker.device),
    )
    classes = tuple(SceneClass(*pair) for pair in zip(card.classes, card.colours, strict=True))
    facts = SegmentModel(
        backbone=backbone.name,
        spec=backbone.spec,
        toy=_is_toy(backbone.spec),
        decoder=card.kind,
        folder=str(folder),
        protocol=card.protocol,
        window_px=model.description.input_px,
        chosen="that the decoder learned from",
    )
    return Chosen(segmenter, classes, facts, backbone.route, looking.threshold == 0)


def _batch_size(options: RunOptions, device: str) -> int:
    return options.batch_size or _BATCH.get(device.partition(":")[0], _BATCH_ELSEWHERE)


def _is_toy(spec: str) -> bool:
    return parse_spec(spec).toy
