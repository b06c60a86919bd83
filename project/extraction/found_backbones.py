"""The backbones that a learned classifier needs: found again, and held against what it was learned from. This is no stage.

A source of features says by which identity they were made; nothing but an equal identity is let through.
Making features is the business of `feature_maker`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deponij.pipeline.backbones import describe, parse_spec
from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.pictures import Route
from deponij.project.extraction import identities
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.extraction.given import refuse_given
from deponij.project.in_force import run_of_results, weights_record
from deponij.store.errors import BackboneError, IdentityError, StoreError, UsageError
from deponij.store.identity import Identity


@dataclass(frozen=True, slots=True)
class Needed:
    """Features that a classifier takes, and the results folder of the head that learned from them."""

    source: FeatureSource
    folder: Path


def find_backbones(needed: Sequence[Needed], specs: Sequence[str] = ()) -> tuple[FoundBackbone, ...]:
    """The backbone of each source.

    Looked for in this order: among `specs`; by what the run that holds the head wrote down when it
    looked for weights; by its name in the catalog.

    Args:
        specs: registry names, folders or `family:…` forms that the user named.

    Raises:
        BackboneError: a backbone is not known or its weights are not here.
        IdentityError: a backbone makes other features than the source's; each difference is named.
        StoreError: a source does not say how its features were made.
    """
    named = [[_made(one, spec) for spec in specs] for one in needed]
    fits = [
        [made for made in of_one if made.identity == _wanted(one)]
        for one, of_one in zip(needed, named, strict=True)
    ]
    used = {made.spec for of_one in fits for made in of_one}
    for place, spec in enumerate(specs):
        if spec not in used:
            _refuse([(one, of_one[place]) for one, of_one in zip(needed, named, strict=True)])
    return tuple(of_one[0] if of_one else _recorded(one) for one, of_one in zip(needed, fits, strict=True))


def _refuse(pairs: Sequence[tuple[Needed, FoundBackbone]]) -> None:
    """Say how a backbone that the user named differs from the nearest one that is needed."""
    one, made = min(pairs, key=lambda pair: len(pair[1].identity.differences(_wanted(pair[0]))))
    _require(made, one)


def _recorded(one: Needed) -> FoundBackbone:
    refuse_given(_wanted(one), one.source.backbone)
    spec = _spec(one.folder, one.source.backbone)
    try:
        backbone = _made(one, spec)
    except BackboneError as error:
        raise BackboneError(
            f"{error}\n  ({one.folder} was learned from features of {one.source.backbone}; a folder that holds "
            "its weights can be named with --backbone-spec FOLDER)"
        ) from error
    _require(backbone, one)
    return backbone


def _require(backbone: FoundBackbone, one: Needed) -> None:
    """Refuse other features; by `Identity`, which shortens the text of a transform."""
    try:
        _wanted(one).require_equal(backbone.identity, f"what {backbone.spec} makes")
    except IdentityError as error:
        raise IdentityError(
            f"the head in {one.folder} was learned from {one.source.fingerprint} of {one.source.backbone}; "
            f"{error}. It does not belong to this backbone: name the one it was learned with (--backbone-spec "
            "FOLDER), or learn a head from this one's features"
        ) from error


def _spec(folder: Path, name: str) -> str:
    """What a backbone was called when its weights were last looked for, else its name in the catalog."""
    run = run_of_results(folder) if Path(name).name == name else None
    if run is not None and (record := weights_record(run, name)) is not None:
        return str(record["spec"])
    try:
        parse_spec(name)
    except (UsageError, BackboneError) as error:
        where = (
            f"; {run.weights / name}.json would say where its weights lie, but is not there" if run else ""
        )
        raise BackboneError(
            f"{folder} was learned from features of {name!r}, which is no backbone of the catalog{where}. "
            "Name the folder that holds its weights with --backbone-spec FOLDER"
        ) from error
    return name


def _wanted(one: Needed) -> Identity:
    try:
        identity = Identity.from_dict(one.source.identity)
    except StoreError as error:
        raise StoreError(
            f"{one.folder} does not say how the features of {one.source.backbone} were made ({error}); learn it "
            "again"
        ) from error
    if identity.fingerprint != one.source.fingerprint:
        raise StoreError(
            f"{one.folder}: the fingerprint {one.source.fingerprint} of {one.source.backbone} is not that of the "
            f"identity beside it ({identity.fingerprint}); the card was changed: learn the head again"
        )
    return identity


def _made(one: Needed, spec: str) -> FoundBackbone:
    return made_by(spec, _wanted(one), one.source.backbone)


def made_by(spec: str, expected: Identity, name: str) -> FoundBackbone:
    """What the backbone `spec` makes by the kind, decoding and precision of an identity.

    Whether that is this very identity is for the caller to see. Args: name: of the wanted backbone, for people.

    Raises:
        BackboneError: the backbone is not known or its weights are not here.
        IdentityError: the features were given, or this version cannot decode pictures in that way.
    """
    refuse_given(expected, name)
    kind, route = Kind.parse(expected.kind), _route(expected)
    description, input_px = describe(spec), None
    same_model = (description.architecture, description.weights_sha256) == (
        expected.backbone,
        expected.weights,
    )
    size = expected.squashed_px
    if same_model and size is not None and description.transform.identity != expected.transform:
        squashed = describe(spec, input_px=size)
        if squashed.transform.identity == expected.transform:
            description, input_px = squashed, size
    identity = identities.of_pictures(description, kind, route, expected.precision, expected.stored)
    return FoundBackbone(name, spec, description, identity, kind, route, input_px)


def _route(identity: Identity) -> Route:
    for route in Route:
        if route.identity == identity.decode:
            return route
    known = ", ".join(route.identity for route in Route)
    raise IdentityError(
        f"the head was learned from pictures decoded by {identity.decode!r}; this version decodes by {known}. "
        "Extract the features and learn it again"
    )
