"""Stage `extract_dense`: scenes in, the maps of frozen backbones in the depot and their views out.

    python -m deponij.stages.extract_dense

What the maps will take is said, and held against the disk, before any is computed. Rows that the depot has are not
computed again. Three views: of the maps; of those of the mirrored pictures, without rows where none were asked for; and
of the classes' words, without rows where the backbone knows none.
"""

import shutil
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.pictures import Route
from deponij.project.extraction import identities, texts
from deponij.project.extraction.class_words import DESCRIPTIONS, NAMES, prompts_of_classes
from deponij.project.extraction.dense_room import require_room, room_for
from deponij.project.extraction.extracting import (
    ExtractResult,
    FeatureParams,
    extract_items,
    found_backbone,
    summary,
)
from deponij.project.extraction.feature_maker import FeatureMaker
from deponij.project.frame.console import say, warn
from deponij.project.frame.harness import run_stage
from deponij.project.frame.lacking import Needed
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section, Slug
from deponij.store.depot import FeatureStore
from deponij.store.errors import UsageError
from deponij.store.scenes import Scenes
from deponij.store.view import write_empty_view


class DenseParams(FeatureParams):
    """The maps of one backbone.

    Attributes:
        spec: registry name, folder, or `family:…` form; by default the key it stands under.
        kind: `pyramid@K` or `dense@K`.
        decode: all pixels of big pictures, too.
        flip: those of the mirrored pictures as well.
        words: how the classes are said to a backbone that knows words, see `deponij.project.extraction.class_words`;
            true: `names` and `descriptions`; false: not at all.
    """

    spec: str | None = None
    kind: str = "pyramid@4"
    decode: Route = Route.FULL
    flip: bool = False
    words: bool | tuple[str, ...] = True


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    dense: Annotated[dict[Slug, DenseParams], Needed("no maps are asked for (`dense: {}`)")] = Field(
        default_factory=dict
    )


class DenseResult(BaseModel):
    """What was done: with the pictures, with the mirrored ones, and with the classes' words."""

    maps: ExtractResult
    flipped: ExtractResult | None = None
    words: texts.TextResult | None = None


def run(
    params: DenseParams,
    name: str,
    *,
    scenes: Path,
    out: Path,
    flip_out: Path,
    words_out: Path,
    options: RunOptions,
) -> DenseResult:
    """Bring the maps of all scenes into the depot, and write their views and that of the classes' words.

    Raises:
        DeponijError: scenes, backbone or depot cannot be used, the kind is not one of maps, or the disk is too small.
            Single pictures that cannot be read are recorded in the views' failure tables instead.
    """
    kind = Kind.parse(params.kind)
    if kind.flip:
        raise UsageError(f"dense.{name}: say `kind: {params.kind.partition('+')[0]}` and `flip: true`")
    flipped = found_backbone(
        params.model_copy(update={"kind": str(kind.flipped())}), params.spec or name, name
    )
    maker = FeatureMaker(found_backbone(params, params.spec or name, name), options)
    makers = [maker, FeatureMaker(flipped, options, lender=maker)][: 1 + params.flip]
    opened = Scenes(scenes)
    opened.items.require_current()
    _check_room(makers, opened, options)
    made = [
        extract_items(one, opened.items.path, path, room_is_told=True)
        for one, path in zip(makers, (out, flip_out), strict=False)
    ]
    if not params.flip:
        write_empty_view(flip_out, identity=flipped.identity, backbone=name)
    return DenseResult(
        maps=made[0],
        flipped=made[1] if params.flip else None,
        words=_encode_words(params, opened, maker, words_out),
    )


def _check_room(makers: list[FeatureMaker], scenes: Scenes, options: RunOptions) -> None:
    """Say what is ahead; nothing where nothing is new."""
    store = FeatureStore(options.depot, create=True)
    keys = [key for key in scenes.items.keys if key is not None]
    if any(store.missing(maker.backbone.identity, keys) for maker in makers):
        require_room(room_for(makers, scenes.items, store), say)


def _encode_words(
    params: DenseParams, scenes: Scenes, maker: FeatureMaker, out: Path
) -> texts.TextResult | None:
    backbone = maker.backbone
    words = (NAMES, DESCRIPTIONS) if params.words is True else params.words or ()
    if not backbone.description.has_text:
        if isinstance(params.words, tuple) and params.words:
            raise UsageError(f"{backbone.name} knows no words; leave `words` of dense.{backbone.name} out")
        identity = identities.of_no_texts(backbone.description, backbone.identity.precision)
        write_empty_view(out, identity=identity, backbone=backbone.name)
        return None
    return texts.encode(
        prompts_of_classes(scenes.classes, words),
        backbone=backbone.spec,
        precision=backbone.identity.precision,
        out=out,
        options=maker.options,
        name=backbone.name,
    )


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every backbone of the section."""
    shutil.rmtree(at.dense_views, ignore_errors=True)
    for name, dense in params.dense.items():
        result = run(
            dense,
            name,
            scenes=at.scenes,
            out=at.dense(name),
            flip_out=at.dense_flip(name),
            words_out=at.dense_words(name),
            options=options,
        )
        for one in filter(None, (result.maps, result.flipped)):
            say(summary(one))
        if result.words is not None:
            say(texts.summary(result.words))
        if result.maps.n_failed:
            warn(
                f"{result.maps.n_failed} pictures failed; the view's failure table names them "
                f"(`deponij view info {result.maps.view}`)"
            )


def _outs(at: Layout) -> list[Path]:
    return [at.dense_views]


if __name__ == "__main__":
    run_stage("extract_dense", Params, main, outs=_outs)
