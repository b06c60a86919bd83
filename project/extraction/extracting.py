"""Features of items into the depot, and their view: what the stages that run a frozen backbone on pictures share.

Rows that the depot has are not computed again; with nothing to compute no backbone is imported. Maps take a lot of
room, which is estimated and checked before they are computed (`dense_room`). This is no stage.
"""

import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from deponij.pipeline.backbones import describe
from deponij.pipeline.backbones.extraction import Progress
from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.pictures import Route
from deponij.project.extraction import identities, on_cluster
from deponij.project.extraction.dense_room import require_room, room_for
from deponij.project.extraction.feature_maker import FeatureMaker, FoundBackbone, pictures_of
from deponij.project.extraction.filling import fill
from deponij.project.extraction.tuned_on import learned_from
from deponij.project.frame.console import bar, note, say, warn
from deponij.project.frame.settings import Section
from deponij.store.depot import FeatureStore
from deponij.store.items import Items
from deponij.store.presence import why_no_locks
from deponij.store.view import TUNED_ON, write_view


class FeatureParams(Section):
    """What is computed; all of it is part of the rows' identity.

    Attributes:
        kind: `embedding`, `tokens@K`, `dense@K` or `pyramid@K`; of maps also `+flip`, those of the mirrored picture.
        precision: of computing.
        stored: dtype on disk; by default float32, for maps float16.
        decode: `full`, or `draft` for reduced decoding of big JPEG pictures.
        input_px: (height, width) other than the model's own, for maps.
    """

    kind: str = "embedding"
    precision: str = Field(default="fp32", pattern="^(fp32|bf16|fp16)$")
    stored: str | None = Field(default=None, pattern="^(float32|float16)$")
    decode: Route = Route.DRAFT
    input_px: tuple[int, int] | None = None


class ExtractResult(BaseModel):
    """What an extraction did.

    Attributes:
        n_known: distinct pictures whose rows the depot had.
        seconds: wall time of everything.
        load_s: of importing and loading the model.
        pictures_per_s: from encoded pictures to committed rows, the model once loaded.
        rates: pictures per second that each part could do on its own.
    """

    backbone: str
    kind: str
    fingerprint: str
    view: str
    depot: str
    n_items: int
    n_distinct: int
    n_known: int
    n_computed: int
    n_failed: int
    seconds: float
    load_s: float = 0.0
    pictures_per_s: float | None = None
    rates: dict[str, float] = {}
    bottleneck: str | None = None


def found_backbone(params: FeatureParams, backbone: str, name: str | None = None) -> FoundBackbone:
    """The backbone that will be run, and the identity of what it makes.

    Args:
        backbone: registry name, folder or `family:…` form.
        name: what the features are called after; the backbone's own name by default.

    Raises:
        DeponijError: an unknown name or kind of feature, or its weights are not here.
    """
    kind = Kind.parse(params.kind)
    description = describe(backbone, input_px=params.input_px)
    stored = params.stored or kind.default_dtype
    identity = identities.of_pictures(description, kind, params.decode, params.precision, stored)
    called = name or description.name
    return FoundBackbone(called, backbone, description, identity, kind, params.decode, params.input_px)


def extract_items(
    maker: FeatureMaker, items: Path, out: Path, *, room_is_told: bool = False
) -> ExtractResult:
    """Bring every item's features into the depot and write their view.

    Args:
        room_is_told: the caller has seen to it that there is room for maps.

    Raises:
        DeponijError: items, backbone or depot cannot be used, an older version made the items, or maps have no room.
            Single pictures that cannot be read are recorded in the view's failure table instead.
    """
    start = time.perf_counter()
    backbone, options = maker.backbone, maker.options
    identity = backbone.identity
    table = Items(items)
    table.require_current()
    store = FeatureStore(options.depot, create=True)
    if store.damaged:
        warn(f"{len(store.damaged)} damaged sidecar(s) in the depot are ignored; see `deponij depot verify`")
    distinct = dict.fromkeys(key for key in table.keys if key is not None)
    missing = store.missing(identity, distinct)
    store.sweep()
    progress = Progress(options.n_workers, options.batch_size)
    if missing:
        if why := why_no_locks(store.folder):
            note(f"{store.location}: leases tell who is at work there, since locks do not ({why})")
        if not backbone.kind.in_view and not room_is_told:
            require_room(room_for([maker], table, store), say)
        progress = _compute(store, table, missing, maker)
    failures = dict(progress.failures)
    _write_view(store, table, failures, backbone, out)
    seconds = time.perf_counter() - start
    n_failed = len(table.failures) + sum(key in failures for key in table.keys)
    return ExtractResult(
        backbone=backbone.name,
        kind=str(backbone.kind),
        fingerprint=identity.fingerprint,
        view=str(out),
        depot=store.location,
        n_items=len(table),
        n_distinct=len(distinct),
        n_known=len(distinct) - len(missing),
        n_computed=progress.n_rows,
        n_failed=n_failed,
        seconds=round(seconds, 3),
        load_s=round(progress.load_s, 3),
        pictures_per_s=round(progress.n_rows / progress.working_s, 2) if progress.n_rows else None,
        rates={part: round(rate, 1) for part, rate in progress.rates().items()},
        bottleneck=progress.bottleneck,
    )


def _compute(store: FeatureStore, table: Items, missing: list[str], maker: FeatureMaker) -> Progress:
    if maker.options.cluster:
        return on_cluster.compute(store, table, missing, maker)
    with bar(f"extract {maker.backbone.description.name}", len(missing), "pictures") as advance:
        return fill(
            store,
            maker,
            pictures_of(table, missing),
            str(table.path),
            lambda n, progress: advance(n, _parts(progress)),
        )


def _write_view(
    store: FeatureStore, table: Items, failed: dict[str, str], backbone: FoundBackbone, out: Path
) -> None:
    failures = list(table.failures)
    failures += [(i, failed[k]) for i, k in zip(table.ids, table.keys, strict=True) if k in failed]
    present = [
        (i, k) for i, k in zip(table.ids, table.keys, strict=True) if k is not None and k not in failed
    ]
    keys = [key for _, key in present]
    # Dense maps stay in the depot; their checksums tie the view to them.
    names = ["checksums", str(backbone.kind.name)] if backbone.kind.in_view else ["checksums"]
    seen = learned_from(backbone.spec, backbone.description.weights_sha256)
    arrays = store.read(keys, backbone.identity, names) if keys else {"checksums": np.empty(0, np.uint32)}
    write_view(
        out,
        identity=backbone.identity,
        backbone=backbone.name,
        ids=[item_id for item_id, _ in present],
        keys=keys,
        checksums=arrays.pop("checksums"),
        arrays=arrays,
        columns={TUNED_ON: [seen.get(key, "") for key in keys]} if seen else None,
        failures=failures,
    )


def _parts(progress: Progress) -> str:
    """The rate of each part while it runs; the slowest is marked."""
    marks = {progress.bottleneck: "*"}
    return " ".join(f"{part} {rate:,.0f}{marks.get(part, '')}" for part, rate in progress.rates().items())


def summary(result: ExtractResult) -> str:
    """One or two lines for a person."""
    text = (
        f"{result.backbone}: {result.n_items} items, {result.n_computed} computed, {result.n_known} already in the depot, "
        f"{result.n_failed} failed ({result.seconds:.1f} s) -> {result.view}"
    )
    if result.pictures_per_s is not None:  # None where all that was tried could not be read
        parts = ", ".join(f"{part} {rate:,.0f}" for part, rate in result.rates.items())
        text += f"\n  {result.pictures_per_s:,.1f} pictures/s; each part alone: {parts}; slowest: {result.bottleneck}"
    return text
