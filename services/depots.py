"""Housekeeping of depots and views for the command line: `deponij.store.upkeep.inspection` with progress, and in words."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ByteSize

from deponij.project.frame.console import counted
from deponij.project.frame.settings import RunOptions
from deponij.store.depot import FeatureStore
from deponij.store.errors import IdentityError, UsageError
from deponij.store.items import Items
from deponij.store.upkeep import export as exporting
from deponij.store.upkeep import inspection as upkeep
from deponij.store.upkeep import tidying
from deponij.store.view import View

if TYPE_CHECKING:
    from deponij.project.extraction.feature_maker import FoundBackbone

Report = dict[str, Any]
# Facts of provenance that a person is told; `--json` has all of them.
_TOLD = {"as": "backbone", "on": "device", "with torch": "versions.torch", "from": "source"}
# Features of one row on another device or library release; far above rounding, far below another picture's.
MAX_DRIFT = 1e-2


def info(depot: str) -> Report:
    """What a depot holds."""
    return asdict(upkeep.info(FeatureStore(depot)))


def verify(
    depot: str, *, repair: bool, items: Path | None, backbone: str | None, n_rows: int, seed: int
) -> Report:
    """Check every byte, and with items and backbone extract random rows again.

    Raises:
        UsageError: only one of items and backbone is given.
        StoreError: there is no depot.
    """
    if (items is None) != (backbone is None):
        raise UsageError("to extract rows again give both --items and --backbone")
    store = FeatureStore(depot)
    with counted("verify", None, "shards") as progress:
        report: Report = asdict(upkeep.verify(store, repair=repair, progress=progress))
    report["sound"] = not report["damaged"] or repair
    report |= {"drift": [], "unchecked": []}
    if items is not None and backbone is not None:
        report |= _extract_again(store, Items(items), backbone, n_rows, seed)
        report["sound"] = report["sound"] and all(
            line["max_relative"] <= MAX_DRIFT and not line["failures"] for line in report["drift"]
        )
    return report


def _extract_again(store: FeatureStore, items: Items, backbone: str, n_rows: int, seed: int) -> Report:
    """Drift of each identity of this backbone, whatever its kind, precision and input size, and which have none.

    An identity that this version of Deponij, its libraries or the backbone's record would not make today is
    `unchecked`, with the reason.
    """
    from deponij.pipeline.backbones import describe
    from deponij.pipeline.backbones.kinds import TEXT
    from deponij.project.extraction.found_backbones import made_by

    weights = describe(backbone).weights_sha256
    keys = {key for key in items.keys if key is not None}
    drift, unchecked = [], []
    for identity in store.identities().values():
        known = sorted(keys - set(store.missing(identity, keys)))
        if identity.kind == TEXT or identity.weights != weights or not known:
            continue
        try:
            made = made_by(backbone, identity, backbone)
            made.identity.require_equal(identity, "what is made today")
        except IdentityError as error:
            facts = {"fingerprint": identity.fingerprint, "kind": identity.kind, "n_rows": len(known)}
            unchecked.append(facts | {"reason": str(error)})
            continue
        chosen = np.random.default_rng(seed).choice(known, min(n_rows, len(known)), replace=False)
        drift.append(_drift(store, items, made, chosen.tolist()))
    if not drift and not unchecked:
        raise UsageError(
            f"{store.location} has no rows of {backbone} for these items; run `deponij extract` first"
        )
    return {"drift": drift, "unchecked": unchecked}


def _drift(store: FeatureStore, items: Items, made: "FoundBackbone", chosen: list[str]) -> Report:
    """Largest difference between stored and newly computed rows of some keys."""
    from deponij.project.extraction.feature_maker import FeatureMaker, pictures_of

    maker = FeatureMaker(made, RunOptions.from_environment())
    progress = maker.progress()
    differences = [(0.0, 0.0)]
    for batch in maker.rows(pictures_of(items, chosen), progress):
        stored = store.read(batch.keys, made.identity)
        for name, values in batch.arrays.items():
            old = stored[name].astype(np.float64)
            gap = np.abs(values - old).reshape(len(old), -1).max(1)
            scale = np.abs(old).reshape(len(old), -1).max(1) + 1e-12
            differences += list(zip(gap, gap / scale, strict=True))
    return {
        "fingerprint": made.identity.fingerprint,
        "kind": made.identity.kind,
        "input_px": list(made.description.input_px),
        "n_rows": progress.n_rows,
        "max_absolute": float(max(gap for gap, _ in differences)),
        "max_relative": float(max(relative for _, relative in differences)),
        "failures": [{"key": key, "reason": reason} for key, reason in progress.failures],
    }


def merge(source: str, depot: str) -> Report:
    """Bring rows of one depot into another."""
    other = FeatureStore(source)
    with counted("merge", None, "shards") as progress:
        return asdict(tidying.merge(FeatureStore(depot, create=True), other, progress=progress))


def compact(depot: str) -> Report:
    """Many small shards into few."""
    with counted("compact", None, "shards") as progress:
        return asdict(tidying.compact(FeatureStore(depot), progress=progress))


def gc(depot: str, keep_views: Sequence[Path], keep_items: Sequence[Path], *, delete: bool) -> Report:
    """Drop what no named view or items need.

    Raises:
        UsageError: nothing is named, so everything would go.
    """
    if not keep_views and not keep_items:
        raise UsageError(
            "name what to keep: --keep-view FILE or --keep-items ITEMS, else everything would go"
        )
    store = FeatureStore(depot)
    everywhere = {key for folder in keep_items for key in Items(folder).keys if key is not None}
    keep: dict[str, set[str]] = {}
    if keep_items:
        keep = {fingerprint: set(everywhere) for fingerprint in store.identities()}
    for path in keep_views:
        view = View(path)
        keep.setdefault(view.fingerprint, set()).update(view.keys.tolist())
    with counted("gc", None, "shards") as progress:
        return asdict(tidying.gc(store, keep, dry_run=not delete, progress=progress))


def migrate(depot: str) -> Report:
    """Bring an older depot to this format."""
    from deponij.store.upkeep.migration import migrate as migrate_depot

    return {"depot": depot, "steps": migrate_depot(depot)}


def view_info(path: Path) -> Report:
    """What a view holds."""
    facts: Report = asdict(exporting.view_info(path))
    facts["failures"] = [{"item_id": item_id, "reason": reason} for item_id, reason in facts["failures"]]
    return facts


def export(view: Path, out: Path, items: Path | None) -> str:
    """Write a view's vectors in another format; says what was written."""
    opened = View(view)
    exporting.export_view(opened, out, items=None if items is None else Items(items))
    return f"{len(opened)} rows -> {out}"


# ------------------------------------------------------------------ in words


def describe_info(report: Report) -> str:
    """A depot in a few lines."""
    lines = [f"{report['location']}: {report['n_rows']:,} rows, {_size(report['n_bytes'])}"]
    for one in report["identities"]:
        identity = one["identity"]
        lines.append(
            f"  {one['fingerprint']}  {one['n_rows']:>8,} rows  {_size(one['n_bytes']):>9}  "
            f"{identity['backbone']}  {identity['kind']}  {identity['precision']} stored as {identity['stored']}"
        )
        lines.append(f"  {'':20}  computed {_provenance(one['provenance'])}")
    for title in ("damaged", "orphans", "set_aside"):
        if report[title]:
            lines.append(f"  {title.replace('_', ' ')}: {len(report[title])} (see `deponij depot verify`)")
    return "\n".join(lines)


def _provenance(facts: Report) -> str:
    """Which backbone names, devices, torch releases and days the rows come from."""
    told = [f"{name} {', '.join(facts[fact])}" for name, fact in _TOLD.items() if facts.get(fact)]
    days = sorted({date[:10] for date in facts.get("date", {})})
    return "; ".join(
        [*told, " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "at an unknown date"]
    )


def describe_verify(report: Report) -> str:
    """A check in a few lines."""
    lines = [
        f"{report['n_shards']} shards with {report['n_rows']:,} rows are whole ({_size(report['n_bytes'])})"
    ]
    lines += [f"  damaged {name}: {why}" for name, why in report["damaged"].items()]
    if report["damaged"]:
        repaired = "set aside; the next extraction computes their rows again"
        mend = repaired if report["repaired"] else "run with --repair to set them aside"
        lines.append(f"  {report['n_rows_lost']:,} rows are lost; {mend}")
    lines += [f"  left over: {name}" for name in report["orphans"]]
    lines += [f"  not the depot's: {name}" for name in report["foreign"]]
    for one in report["drift"]:
        lines.append(
            f"  {one['n_rows']} rows of {one['kind']} ({one['fingerprint']}) extracted again at "
            f"{'x'.join(map(str, one['input_px']))} px: largest difference {one['max_absolute']:.2e}, relative "
            f"{one['max_relative']:.2e}"
        )
        lines += [f"    {lost['key']} is not made any more: {lost['reason']}" for lost in one["failures"]]
    lines += [
        f"  {one['n_rows']:,} rows of {one['kind']} ({one['fingerprint']}) cannot be extracted again: {one['reason']}"
        for one in report["unchecked"]
    ]
    return "\n".join(lines)


def describe_view(report: Report) -> str:
    """A view in a few lines."""
    facts = {"backbone": report["backbone"], "fingerprint": report["fingerprint"], **report["identity"]}
    lines = [
        f"{report['path']}: {report['n_rows']:,} rows ({report['n_distinct']:,} distinct), {_size(report['n_bytes'])}",
        *(f"  {name:12} {value}" for name, value in facts.items()),
        f"  {len(report['failures'])} failed",
        *(f"    {one['item_id']}: {one['reason']}" for one in report["failures"]),
    ]
    return "\n".join(lines)


def _size(n_bytes: int) -> str:
    return ByteSize(n_bytes).human_readable(separator=" ")
