"""Stage `extract`: items in, depot rows and a view out, by a frozen backbone.

    python -m deponij.stages.extract BACKBONE     (a key of `backbones` in params.yaml)

Rows that the depot has are not computed again; with nothing to compute no backbone is imported.
"""

from pathlib import Path

from pydantic import Field

from deponij.project.extraction import given
from deponij.project.extraction.extracting import (
    ExtractResult,
    FeatureParams,
    extract_items,
    found_backbone,
    summary,
)
from deponij.project.extraction.feature_maker import FeatureMaker
from deponij.project.extraction.given_files import read_of_profile
from deponij.project.frame.console import say, warn
from deponij.project.frame.harness import run_stage
from deponij.project.frame.lacking import leave_empty
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import BackboneParams, PatchTokens, RunOptions, Section, Slug
from deponij.store.errors import UsageError
from deponij.store.items import Items


class ExtractParams(FeatureParams):
    """What is computed for every item."""


class Params(Section):
    """The sections of params.yaml that this stage reads.

    Attributes:
        patch_tokens: of which backbones they go into the depot too.
    """

    backbones: dict[Slug, BackboneParams]
    extract: ExtractParams = ExtractParams()
    patch_tokens: dict[Slug, PatchTokens] = Field(default_factory=dict)


def run(
    params: FeatureParams,
    *,
    items: Path,
    backbone: str,
    out: Path,
    options: RunOptions,
    name: str | None = None,
) -> ExtractResult:
    """Bring every item's features into the depot and write their view; see `extract_items` and `found_backbone`."""
    return extract_items(FeatureMaker(found_backbone(params, backbone, name), options), items, out)


def main(params: Params, at: Layout, options: RunOptions, key: str) -> None:
    """One backbone of the profile."""
    if key not in params.backbones:
        raise UsageError(f"the profile has no backbone {key!r}; it has {', '.join(params.backbones)}")
    backbone, tokens = params.backbones[key], params.patch_tokens.get(key)
    leave_empty([at.patch_tokens(key)])
    if backbone.given is not None:
        if tokens is not None:
            raise UsageError(
                f"`patch_tokens` names {key!r}, whose embeddings were given: there is no model to ask"
            )
        _give(backbone, key, at)
        return
    params_of = {at.view(key): params.extract}
    for flip, kind in (tokens.kinds if tokens is not None else {}).items():
        params_of[at.maps(key, flip=flip)] = params.extract.model_copy(update={"kind": kind, "stored": None})
    for out, what in params_of.items():
        _tell(run(what, items=at.items, backbone=backbone.spec or key, out=out, options=options, name=key))


def _tell(result: ExtractResult) -> None:
    say(summary(result))
    if result.n_failed:
        warn(
            f"{result.n_failed} items failed; the view's failure table names them (`deponij view info {result.view}`)"
        )


def _give(backbone: BackboneParams, name: str, at: Layout) -> None:
    """Embeddings that were given, in the place of what a backbone would make."""
    vectors = read_of_profile(backbone)
    result = given.give(Items(at.items), vectors, name=name, out=at.view(name))
    say(given.summary(result))
    for note in result.notes:
        say(f"note: {note}")
    if result.n_failed:
        warn(
            f"{result.n_failed} items have no vector; the view's failure table has them (`deponij view info {result.view}`)"
        )


if __name__ == "__main__":
    run_stage("extract", Params, main)
