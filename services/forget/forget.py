"""`deponij forget`: one picture, or several, out of a run and its depot. This is no stage.

A picture is what it shows: every item of the run with the same content goes, and in the depot its rows under every
identity. Out of items, views and splits their rows are taken; what was computed from them (heads that remember
examples, indexes, suspects, maps, pages with pictures in them) is removed whole, to be made again of what is left. Names
and keys are written into `RUN/forgetting.json` first, which is the last thing to go: after a kill the same command goes on.

What cannot be reached from here (the original, other runs, DVC's and git's copies) is told in `Report.left`.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deponij.pipeline.data.known_files import NAME, KnownFiles
from deponij.pipeline.data.splitting.leakage import leakage_report
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.project.frame.layout import COMPUTED, Layout
from deponij.project.frame.settings import Section
from deponij.project.last_run import RunRecord, record_of
from deponij.project.meant import Meant
from deponij.project.report.summary import PAGE_NAME
from deponij.services.forget.originals import Originals
from deponij.services.forget.targets import Item, Targets, begin, items_of
from deponij.store.atomic import PART, make_folder, read_table, write_bytes
from deponij.store.caches import cache_folder
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError, explained
from deponij.store.file_names import DAMAGED
from deponij.store.items import Items
from deponij.store.keys import KEY_CHARS
from deponij.store.locks import hold, release
from deponij.store.sealed import read_sealed, sealed
from deponij.store.upkeep import forgetting
from deponij.store.view import View

JOURNAL = "forgetting.json"
# What is computed from items, views and splits, below a run's folder.
DERIVED = (
    *COMPUTED,
    "indexes",
    # Whole photographs with their label maps, and what their decoders have not finished learning.
    *("scenes", "dense", "unfinished"),
    *(
        f"metrics/{stage}.json"
        for stage in (
            "heads",
            "multilabel",
            "tables",
            "ensembles",
            "retrieval",
            "index",
            "scenes",
            "decoders",
        )
    ),
)
_KEY = re.compile(rf"[0-9a-f]{{{KEY_CHARS}}}")


class Removed(Section):
    """One kind of thing that went (or would go): how many, and where from."""

    what: str
    n: int
    where: str


class Report(Section):
    """What `forget` did, or would do.

    Attributes:
        items: ids that were forgotten.
        keys: of what they show.
        removed: what went.
        left: what was not reached, each with what to do.
        must_remake: what was computed from the items was removed.
    """

    run: str
    dry_run: bool
    items: tuple[str, ...]
    keys: tuple[str, ...]
    removed: tuple[Removed, ...]
    left: tuple[str, ...]
    must_remake: bool


def run(meant: Meant, targets: Targets, depot: str | None, *, dry_run: bool, with_file: bool) -> Report:
    """Forget.

    Args:
        depot: folder or URL; None for the run's.
        with_file: delete the original files too.

    Raises:
        StoreError: something is damaged, held by another process, or cannot be written. What went stays gone, and the
            same command goes on.
    """
    at = meant.at
    record = record_of(at)
    location = depot or _depot_of(at, record)
    there, originals = {**items_of(at), **targets.items}, Originals.of(meant)
    with _held(at, dry_run):
        if not dry_run:
            begin(at, targets)
        removed, left = _from_depot(location, targets, dry_run)
        if any(path.is_file() for path in _of_tuned(at)):
            left.append(
                f"{location} keeps rows of other pictures by tuned backbones, which have learned from what they were shown; "
                f"`deponij depot gc {location} --keep-view VIEW … --delete`, naming the views that are left, drops them"
            )
        removed += _from_run(at, targets, dry_run)
        known, unreached = _from_known_files(targets, dry_run)
        files, kept = _from_files(originals, there, targets, with_file, dry_run)
    has_changed = any(one.where.startswith(str(at.root)) for one in removed)
    return Report(
        run=str(at.root),
        dry_run=dry_run,
        items=tuple(targets.items),
        keys=tuple(sorted(targets.keys)),
        removed=(*removed, *known, *files),
        left=(*left, *unreached, *kept, *_elsewhere(at, targets)),
        must_remake=has_changed or not (at.report / PAGE_NAME).is_file(),
    )


@contextmanager
def _held(at: Layout, dry_run: bool) -> Iterator[None]:
    """While this goes on no `deponij run` writes the run; what one left when it was killed goes."""
    if dry_run:
        yield
        return
    beside = _beside(at)
    with explained(f"cannot write {at.root}"):
        make_folder(beside)
        held = hold(beside)
    if held is None:
        raise StoreError(f"another process is writing {at.root}; wait for it to end")
    try:
        yield
        shutil.rmtree(beside, ignore_errors=True)
    finally:
        release(held)


def _beside(at: Layout) -> Path:
    """Where `deponij run` makes the beginning of a run, and which it holds while it does."""
    return at.root / f"next-run{PART}"


def _from_depot(location: str, targets: Targets, dry_run: bool) -> tuple[list[Removed], list[str]]:
    if "://" not in location and not Path(location).is_dir():
        return [], [f"there is no depot at {location}; name the one that has its rows with --depot"]
    store = FeatureStore(location)
    report = forgetting.drop_from_depot(store, targets.keys, dry_run=dry_run)
    n = sum(line.n_rows_gone for line in report.lines.values())
    left = [
        f"{location}/{name} is in use by a running extraction; forget again when it has ended"
        for name in report.in_use
    ]
    left += [
        f"{location}/{name} is damaged, so that nothing was taken out of it; `deponij depot verify {location} --repair`, "
        f"then delete {location}/{DAMAGED}"
        for name in {*report.damaged, *store.damaged}
    ]
    if any(name.startswith(f"{DAMAGED}/") for name in store.folder.names()):
        left.append(
            f"{store.location}/{DAMAGED} holds damaged shards that nobody can search; delete the folder"
        )
    if store.uncleared is not None:
        left.append(f"{store.uncleared} cannot be cleared: it may still hold keys of the picture; delete it")
    return ([Removed(what="rows of features", n=n, where=location)] if n else []), left


def _from_run(at: Layout, targets: Targets, dry_run: bool) -> list[Removed]:
    """Views first and items last, so that a kill leaves names that the items still know."""
    removed, ids = [], set(targets.items)
    places = ("views/*.h5", "views/texts/*.h5", "views/patch_tokens/*/*.h5")
    views = [path for place in places for path in sorted(at.root.glob(place))]
    for path in sorted({*views} - {*_of_tuned(at)}):
        view = View(path)
        gone = (ids | targets.captions) & {*view.ids.tolist(), *(one for one, _ in view.failures)}
        if gone:
            removed.append(Removed(what="rows of a view", n=len(gone), where=str(path)))
            if not dry_run:
                forgetting.drop_from_view(path, gone)
    for path in sorted(at.splits.glob("*.parquet")):
        n = len(ids & set(read_table(path, ["item_id"])["item_id"].to_pylist()))
        if n:
            removed.append(Removed(what="rows of a split", n=n, where=str(path)))
        if not dry_run:
            forgetting.drop_from_table(path, ids)
            _report_anew(at, path.stem, ids)
    there = ids & set(Items(at.items).ids)
    if there or removed:
        removed += _features_of_tuned(at, dry_run)
        removed += _computed(at, dry_run)
    if there:
        removed.append(Removed(what="items", n=len(there), where=str(at.items)))
        if not dry_run:
            forgetting.drop_items(at.items, there)
    return removed


def _from_known_files(targets: Targets, dry_run: bool) -> tuple[list[Removed], list[str]]:
    path = cache_folder() / NAME
    if not path.is_file():
        return [], []
    with KnownFiles(path) as known:
        n = known.forget(targets.keys, dry_run=dry_run)
        left = [] if known.problem is None else [f"{known.problem}: it may still know the picture; delete it"]
    return ([Removed(what="known picture files", n=n, where=str(path))] if n else []), left


def _of_tuned(at: Layout) -> list[Path]:
    """Views of tuned backbones with the records beside them: what computed them goes, and with it what it has learned."""
    tuned, records = at.tuned("any").parent, at.tuned_record("any").parent
    names = sorted(
        {path.name for path in tuned.glob("*") if path.is_dir()}
        | {path.stem for path in records.glob("*.json")}
    )
    return [path for name in names for path in (at.view(name), at.tuned_record(name))]


def _features_of_tuned(at: Layout, dry_run: bool) -> list[Removed]:
    """Before the folders of these backbones, by which a call that goes on knows them."""
    gone = [path for path in _of_tuned(at) if path.is_file()]
    if not dry_run:
        for path in gone:
            path.unlink()
    names = ", ".join(str(path.relative_to(at.root)) for path in gone)
    what = "files of features by a tuned backbone"
    return [Removed(what=what, n=len(gone), where=f"{at.root}: {names}")] if gone else []


def _computed(at: Layout, dry_run: bool) -> list[Removed]:
    """All that was computed from items, and what killed processes left half written."""
    derived = [path for name in DERIVED if (path := at.root / name).exists()]
    if not dry_run:
        halves = [path for path in at.root.rglob(f"*{PART}") if path.name != _beside(at).name]
        for path in [*derived, *halves]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    names = ", ".join(dict.fromkeys(path.relative_to(at.root).parts[0] for path in derived))
    return [Removed(what="things computed", n=len(derived), where=f"{at.root}: {names}")] if derived else []


def _report_anew(at: Layout, split: str, ids: set[str]) -> None:
    """What is written of a split names pairs of items that look alike."""
    path = at.split_report(split)
    if not path.is_file():
        return
    body = read_sealed(path, "run the stage that splits again")
    part_of = dict(
        zip(*(read_table(at.split(split))[name].to_pylist() for name in ("item_id", "part")), strict=True)
    )
    table = Items(at.items).table(["item_id", "image_id", "phash"])
    rows = [row for row in table.to_pylist() if row["item_id"] not in ids]
    parts = [part_of.get(row["item_id"]) for row in rows]
    columns = [[row[name] for row in rows] for name in ("item_id", "image_id", "phash")]
    leakage = leakage_report(columns[0], parts, columns[1], columns[2])
    body |= {
        "n": {name: parts.count(name) for name in PARTS},
        "n_outside": parts.count(None),
        "leakage": leakage.to_json(),
        "leakage_summary": leakage.summary,
        "notes": [note for note in body.get("notes", ()) if not any(one in note for one in ids)],
    }
    write_bytes(path, sealed(body))


def _from_files(
    originals: Originals, there: Mapping[str, Item], targets: Targets, with_file: bool, dry_run: bool
) -> tuple[list[Removed], list[str]]:
    """The originals: deleted where that is wanted and they show nothing else."""
    removed, left = [], []
    shown: dict[str, list[str]] = {one.photo: [] for one in targets.items.values()}
    for item_id, one in there.items():
        if one.photo in shown:
            shown[one.photo].append(item_id)
    for photo, ids in shown.items():
        is_whole = len(ids) == 1 and "#" not in ids[0]
        path = originals.file(photo, there[ids[0]].key, is_whole=is_whole)
        others = set(ids) - set(targets.items)
        if path is None:
            left.append(f"no file of {photo!r} was found; where it lies elsewhere, delete it there")
        elif others:
            more = "1 other item" if len(others) == 1 else f"{len(others)} other items"
            left.append(f"{path} shows {more} too; `deponij forget {path}` forgets all of it")
        elif not with_file:
            left.append(
                f"{path}, the original, stays, so that a new run would bring it back; --file deletes it"
            )
        else:
            removed.append(Removed(what="original files", n=1, where=str(path)))
            if not dry_run:
                with explained(f"cannot delete {path}"):
                    path.unlink(missing_ok=True)
    left += [f"{path} may still name it, or hold it; take it out there" for path in originals.naming]
    return removed, left


def _elsewhere(at: Layout, targets: Targets) -> list[str]:
    """Copies that are not this command's."""
    left = []
    for folder in sorted(path for path in {*Path("runs").glob("*/items"), *at.root.parent.glob("*/items")}):
        if folder.resolve() == at.items.resolve():
            continue
        try:
            has_it = bool(targets.keys & {key for key in Items(folder).keys if key is not None})
        except StoreError as error:
            left.append(
                f"{folder.parent} cannot be read ({error}); look yourself whether it holds the picture"
            )
            continue
        if has_it:
            name = next(iter(sorted(targets.keys)))
            left.append(
                f"{folder.parent} holds the picture too; `deponij forget {name} --run {folder.parent}`"
            )
    if Path(".dvc").is_dir():
        left.append(
            "DVC's cache holds earlier outputs; when `dvc repro` has made the new ones and dvc.lock is committed, "
            "`dvc gc --workspace` clears it (with --cloud the remote, too)"
        )
    left.append(
        "copies that were made of the files (git, backups, a running `deponij serve`) are not reached"
    )
    return left


def _depot_of(at: Layout, record: RunRecord | None) -> str:
    if record is None or os.environ.get("DEPONIJ_DEPOT"):
        return os.environ.get("DEPONIJ_DEPOT", "depot")
    return record.depot if "://" in record.depot else str(record.path(at, record.depot))
