"""The folders that a tuning writes, looked at before it begins: hours later would be late."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from deponij.pipeline.backbones.catalog import Entry, parse_spec
from deponij.pipeline.tuning.saved import refuse_foreign_tuned
from deponij.store.bundle import refuse_foreign_bundle
from deponij.store.errors import UsageError


def require_places(out: Path, results: Path | None, read: Iterable[str]) -> None:
    """Refuse folders that hold anything else, lie in one another, or hold a backbone that is read.

    Args:
        out: of the tuned backbone.
        results: of its answers, if they are written.
        read: backbones, as they are loaded.

    Raises:
        UsageError: what is read would be overwritten, or one of both folders lies in the other.
        StoreError: a folder holds anything else.
    """
    for spec in read:
        for place in _places(parse_spec(spec)):
            if _lies_in(place, out):
                raise UsageError(
                    f"{out} holds {spec}, which is read, and would be replaced; name another --out"
                )
    if results is not None and (_lies_in(results, out) or _lies_in(out, results)):
        raise UsageError(
            f"--out {out} and --results {results} lie in one another; name two folders side by side"
        )
    refuse_foreign_tuned(out)
    if results is not None:
        refuse_foreign_bundle(results, what="results")


def _places(entry: Entry) -> Iterator[Path]:
    """Where a backbone lies that is the user's own, and what its adapter stands on."""
    if entry.base is not None:
        yield from _places(entry.base)
    yield from (one for one in (entry.folder, entry.weights_file) if one is not None)


def _lies_in(place: Path, folder: Path) -> bool:
    return place.resolve().is_relative_to(folder.resolve())
