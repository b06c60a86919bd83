"""Stage `extract`: items in, depot rows and a view out. The only stage that runs a frozen backbone on pictures.

    python -m deponij.stages.extract BACKBONE     (a key of `backbones` in params.yaml)

Rows that the depot has are not computed again; with nothing to compute no backbone is imported.
"""

import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from deponij.pipeline.backbones import describe
from deponij.pipeline.backbones.extraction import Progress
from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.pictures import Route
from deponij.project.extraction import given, identities
from deponij.project.extraction.feature_maker import FeatureMaker, FoundBackbone, pictures_of
from deponij.project.extraction.given_files import read_of_profile
from deponij.project.frame.console import bar, say, warn
from deponij.project.frame.harness import run_stage
from deponij.project.frame.lacking import leave_empty
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import BackboneParams, PatchTokens, RunOptions, Section, Slug
from deponij.store.depot import FeatureStore
from deponij.store.errors import UsageError
from deponij.store.items import Items
from deponij.store.view import write_view


class ExtractParams(Section):
    """What is computed; all of it is part of the rows' identity.

    Attributes:
        kind: `embedding`, `tokens@K` or `dense@K`.
        precision: of computing.
        stored: dtype on disk; by default float32, for dense maps float16.
        decode: `full`, or `draft` for reduced decoding of big JPEG pictures.
        input_px: (height, width) other than the model's own, for dense features.
    """

    kind: str = "embedding"
    precision: str = Field(default="fp32", pattern="^(fp32|bf16|fp16)$")
    stored: str | None = Field(default=None, pattern="^(float32|float16)$")
    decode: Route = Route.DRAFT
    input_px: tuple[int, int] | None = None


class Params(Section):
    """The sections of params.yaml that this stage reads.

    Attributes:
        patch_tokens: of which backbones they go into the depot too.
    """

    backbones: dict[Slug, BackboneParams]
    extract: ExtractParams = ExtractParams()
    patch_tokens: dict[Slug, PatchTokens] = Field(default_factory=dict)


class ExtractResult(BaseModel):
    """What an extraction did.

    Attributes:
        n_known: distinct pictures whose rows the depot had.
        seconds: wall time of everything; load_s: of importing and loading the model.
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


def run(
    params: ExtractParams,
    *,
    items: Path,
    backbone: str,
    out: Path,
    options: RunOptions,
    name: str | None = None,
) -> ExtractResult:
    """Bring every item's features into the depot and write their view.

    Args:
        backbone: registry name, folder or `family:…` form.
        name: what the view calls the backbone; its own name by default.

    Raises:
        DeponijError: items, backbone or depot cannot be used, or an older version made the items. Single
            pictures that cannot be read are recorded in the view's failure table instead.
    """
    start = time.perf_counter()
    table = Items(items)
    table.require_current()
    found = found_backbone(params, backbone, name)
    identity = found.identity
    store = FeatureStore(options.depot, create=True)
    if store.damaged:
        warn(f"{len(store.damaged)} damaged sidecar(s) in the depot are ignored; see `deponij depot verify`")
    distinct = dict.fromkeys(key for key in table.keys if key is not None)
    missing = store.missing(identity, distinct)
    store.sweep()
    progress = Progress(options.n_workers, options.batch_size)
    if missing:
        progress = _compute(store, table, missing, FeatureMaker(found, options))
    failures = dict(progress.failures)
    _write_view(store, table, failures, found, out)
    seconds = time.perf_counter() - start
    n_failed = len(table.failures) + sum(key in failures for key in table.keys)
    return ExtractResult(
        backbone=found.name,
        kind=str(found.kind),
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


def found_backbone(params: ExtractParams, backbone: str, name: str | None = None) -> FoundBackbone:
    """The backbone that will be run, and the identity of what it makes.

    Raises:
        DeponijError: an unknown name or kind of feature, or its weights are not here.
    """
    kind = Kind.parse(params.kind)
    description = describe(backbone, input_px=params.input_px)
    stored = params.stored or kind.default_dtype
    identity = identities.of_pictures(description, kind, params.decode, params.precision, stored)
    called = name or description.name
    return FoundBackbone(called, backbone, description, identity, kind, params.decode, params.input_px)


def _compute(store: FeatureStore, table: Items, missing: list[str], maker: FeatureMaker) -> Progress:
    found, progress = maker.found, maker.progress()
    n_threads = maker.options.n_threads
    facts = identities.provenance(found.spec, maker.device, n_threads, progress.batch_size, str(table.path))
    rows = maker.rows(pictures_of(table, missing), progress)
    label = f"extract {found.description.name}"
    with bar(label, len(missing), "pictures") as advance, store.writer(found.identity, facts) as out:
        n_seen, begun = 0, time.perf_counter()
        for batch in rows:
            begin = time.perf_counter()
            out.add(batch.keys, batch.arrays)
            progress.busy_s["write"] += time.perf_counter() - begin
            n_now = progress.n_rows + len(progress.failures)
            advance(n_now - n_seen, _parts(progress))
            n_seen = n_now
        begin = time.perf_counter()
        out.flush()
        progress.busy_s["write"] += time.perf_counter() - begin
        progress.working_s = time.perf_counter() - begun - progress.load_s
    return progress


def _write_view(
    store: FeatureStore, table: Items, failed: dict[str, str], found: FoundBackbone, out: Path
) -> None:
    failures = list(table.failures)
    failures += [(i, failed[k]) for i, k in zip(table.ids, table.keys, strict=True) if k in failed]
    present = [
        (i, k) for i, k in zip(table.ids, table.keys, strict=True) if k is not None and k not in failed
    ]
    keys = [key for _, key in present]
    # Dense maps stay in the depot; their checksums tie the view to them.
    names = ["checksums", str(found.kind.name)] if found.kind.in_view else ["checksums"]
    arrays = store.read(keys, found.identity, names) if keys else {"checksums": np.empty(0, np.uint32)}
    write_view(
        out,
        identity=found.identity,
        backbone=found.name,
        ids=[item_id for item_id, _ in present],
        keys=keys,
        checksums=arrays.pop("checksums"),
        arrays=arrays,
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
    wanted = {at.view(key): params.extract}
    for flip, kind in (tokens.kinds if tokens is not None else {}).items():
        wanted[at.maps(key, flip=flip)] = params.extract.model_copy(update={"kind": kind, "stored": None})
    for out, what in wanted.items():
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
