"""Stage `items`: a data set in, a table of items out (crops of instances, or whole pictures).

python -m deponij.stages.items
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from deponij.pipeline.data.adapters.registry import FileSource, Source, open_source
from deponij.pipeline.data.adapters.whole import Reading
from deponij.pipeline.data.corrections import Corrections
from deponij.pipeline.data.item import ToAct
from deponij.pipeline.data.known_files import NAME, KnownFiles
from deponij.pipeline.data.try_out import part_told
from deponij.project.frame.cluster import workers_of
from deponij.project.frame.console import bar, note, say, warn
from deponij.project.frame.harness import run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section
from deponij.store.caches import cache_folder
from deponij.store.compact import Distinct
from deponij.store.errors import DataError, UsageError
from deponij.store.items import ItemWriter
from deponij.store.references import home_of

# A copy of more costs disk and minutes; up to here items that hold their pictures are worth it: they can be moved, and
# are read in one go.
COPIED_BYTES = 1_000_000_000
CopyPictures = Literal["auto", "always", "never"]


class DataParams(Section):
    """Which data set.

    Attributes:
        adapter: a name of `deponij.pipeline.data.adapters`, such as `coco`, `folder` or `webdataset`.
        root: folder below which everything lies that the adapter reads; DVC watches it.
        options: the adapter's own parameters, checked by it (`deponij.pipeline.data.adapters.registry`).
        corrections: files of decisions about single items (`deponij.pipeline.data.corrections`), below `root` too.
        keep: a list of the only items that stay, as `deponij duplicates --keep` writes it.
        limit: only so many items, for a try-out; which ones, the adapter's note says.
        copy_pictures: whether items hold whole pictures that lie as files: `always`, `never` (they name the file, its size
            and hash), or `auto`: up to a gigabyte of them (`COPIED_BYTES`).
    """

    adapter: str
    root: Path
    options: dict[str, Any] = Field(default_factory=dict)
    corrections: tuple[Path, ...] = ()
    keep: Path | None = None
    limit: int | None = Field(default=None, ge=1)
    copy_pictures: CopyPictures = "auto"


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    data: DataParams


class ItemsResult(BaseModel):
    """What was made."""

    n_items: int
    n_distinct: int
    n_failed: int
    n_photographs: int
    notes: list[str]
    seconds: float


def run(
    adapter: str,
    options: Mapping[str, Any],
    *,
    out: Path,
    run_options: RunOptions,
    corrections: Sequence[Path] = (),
    keep: Path | None = None,
    limit: int | None = None,
    copy_pictures: CopyPictures = "auto",
) -> ItemsResult:
    """Turn a data set into items.

    Args:
        corrections, keep, limit, copy_pictures: see `DataParams`.

    Raises:
        DataError: the data set cannot be used at all, or not one item of it. Single pictures that
            cannot be read become rows with a reason.
        UsageError: the adapter is unknown or its options are wrong, or its pictures do not lie as files and are not to be
            copied.
    """
    start = time.perf_counter()
    decided = Corrections.read(corrections, keep)
    source = open_source(adapter, {**options, **({} if limit is None else {"limit": limit})})
    by_reference = _by_reference(source, copy_pictures)
    # Before the work, which may take an hour.
    for told in source.notes:
        (warn if isinstance(told, ToAct) else note)(told)
    if run_options.cluster and not isinstance(source, FileSource):
        # Read here they would be sent to a worker and back.
        note("no pictures lie as files of their own, so the items are made without the cluster")
        run_options = run_options.model_copy(update={"cluster": ""})
    keys, photographs, first_failure = Distinct(), Distinct(), None
    with (
        workers_of(run_options) as workers,
        bar("items", source.n_items, "items") as advance,
        KnownFiles(cache_folder() / NAME) as known,
        ItemWriter(
            out, source.metadata_schema, by_reference=by_reference, part=part_told(source.notes)
        ) as writer,
    ):
        if isinstance(source, FileSource):
            # Other processes do not know this one's files.
            reading = Reading(by_reference, known if isinstance(workers, int) else None, home_of(out))
            found = source.items(workers=workers, progress=advance, reading=reading)
        else:
            found = source.items(workers=workers, progress=advance)
        for item in decided.applied(found, source.metadata_schema):
            writer.add(
                item_id=item.item_id,
                key=item.key,
                content=item.content,
                reference=item.reference,
                image_id=item.image_id,
                width_px=item.width_px,
                height_px=item.height_px,
                phash=item.phash,
                failure=item.failure,
                given=item.given,
                metadata=item.metadata,
            )
            if item.key is not None:
                keys.add(item.key)
            photographs.add(item.image_id)
            first_failure = first_failure or item.failure
        decided.check()
        if writer.n_items == writer.n_failed:
            why = f"; the first reason: {first_failure}" if first_failure else ""
            raise DataError(f"not one of {writer.n_items} items could be made{why}")
    for told in decided.notes:
        warn(told)
    if known.problem is not None and isinstance(source, FileSource):
        warn(
            f"what was seen of picture files is not remembered, so that they are read again next time: {known.problem}"
        )
    return ItemsResult(
        n_items=writer.n_items,
        n_distinct=len(keys),
        n_failed=writer.n_failed,
        n_photographs=len(photographs),
        notes=[*source.notes, *decided.notes],
        seconds=round(time.perf_counter() - start, 3),
    )


def _by_reference(source: Source, copy_pictures: CopyPictures) -> bool:
    if copy_pictures == "always":
        return False
    files = source.picture_files() if isinstance(source, FileSource) else iter(())
    if copy_pictures == "never":
        if next(files, None) is None:
            raise UsageError(
                "pictures can only be named instead of copied where whole ones lie as files; here they are cut out, or lie "
                "within other files: leave `copy_pictures: never` (--copy never) out"
            )
        return True
    n_bytes = 0
    for path in files:
        with suppress(OSError):
            # One that is not there is a failure later.
            n_bytes += path.stat().st_size
        if n_bytes > COPIED_BYTES:
            note(
                f"items name the pictures' files instead of copying them, for there are over {COPIED_BYTES / 1e9:g} GB; "
                "keep them where they are (--copy always copies them)"
            )
            return True
    return False


def summary(result: ItemsResult) -> str:
    """One line for a person."""
    return (
        f"{result.n_items} items ({result.n_distinct} distinct) of {result.n_photographs} photographs, "
        f"{result.n_failed} failed ({result.seconds:.1f} s)"
    )


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """The data set of the profile."""
    data = params.data
    files = [*data.corrections, *([] if data.keep is None else [data.keep])]
    for file in files:
        # DVC watches nothing else: a change of it would go unseen.
        if options.under_dvc and not file.resolve().is_relative_to(data.root.resolve()):
            raise UsageError(
                f"{file} must lie below data.root, {data.root}, for DVC to see its changes; move it there"
            )
    result = run(
        data.adapter,
        data.options,
        out=at.items,
        run_options=options,
        corrections=data.corrections,
        keep=data.keep,
        limit=data.limit,
        copy_pictures=data.copy_pictures,
    )
    say(summary(result))
    if result.n_failed:
        warn(f"{result.n_failed} items failed; their rows carry the reason (column `failure`)")


if __name__ == "__main__":
    run_stage("items", Params, main)
