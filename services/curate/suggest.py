"""`deponij suggest`: which pictures to label first, in batches without repeats. This is no stage.

    from deponij.services.curate.suggest import SuggestRequest, choose_batch
    batch = choose_batch(SuggestRequest(run=Path("runs/mine"), n=20), RunOptions())

The classifier is the one that validation chooses among the run's heads of one backbone. Candidates are the run's items
without a label, a folder of new pictures (whose features are computed as the run's were), or items with a view. How they
are chosen: `deponij.pipeline.likeness.suggesting`.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deponij.pipeline.data.corrections import Correction, read_corrections, write_corrections
from deponij.pipeline.heads.head import Head
from deponij.pipeline.reports.sheets import FAINT, INK, Block, Tile, draw_sheet
from deponij.project.advice.pools import Pool, Suggested, chosen_result, head_of, suggested
from deponij.project.extraction.found_backbones import made_by
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section
from deponij.project.frame.toys import toys_of
from deponij.project.in_force import weights_record
from deponij.project.learning.item_columns import read_labels
from deponij.project.meant import run_meant
from deponij.project.thumbnails import images_of
from deponij.stages import extract
from deponij.stages import items as making
from deponij.store.atomic import write_bytes
from deponij.store.errors import DataError, IdentityError, UsageError
from deponij.store.items import Items
from deponij.store.texts import in_percent
from deponij.store.view import View

_LABEL_COLUMNS = ("label", "category")


@dataclass(frozen=True, slots=True)
class SuggestRequest:
    """What a person asks for; None is what the run has.

    Attributes:
        run: its folder; None for that of the profile in force.
        folder: of new pictures.
        items, features: of new ones that were extracted already.
        done: earlier batches.
        between: two classes that only are of interest.
    """

    run: Path | None = None
    folder: Path | None = None
    items: Path | None = None
    features: Path | None = None
    n: int = 20
    done: tuple[Path, ...] = ()
    between: tuple[str, ...] = ()
    labels: str | None = None
    backbone: str | None = None
    seed: int = 0


class Suggestion(Section):
    """One picture to label.

    Attributes:
        path: of its file, where it is of a folder; None for items.
        doubt: 0 to 1; None without a classifier.
        answers: its likeliest classes with their probabilities.
    """

    item_id: str
    path: str | None
    doubt: float | None
    answers: tuple[tuple[str, float], ...]


class Batch(Section):
    """What to label first, the most doubtful first.

    Attributes:
        run, source: the run, and where candidates come from.
        head: folder of the classifier's results; None where the run has none.
        n_candidates: pictures without a label that could be chosen, n_done: those of earlier batches left out.
    """

    run: str
    source: str
    labels: str
    backbone: str
    head: str | None
    n_candidates: int
    n_done: int
    pictures: tuple[Suggestion, ...]
    notes: tuple[str, ...]


def choose_batch(request: SuggestRequest, options: RunOptions, *, sheet: Path | None = None) -> Batch:
    """The pictures to label first, and a page of them (PNG) if asked for.

    Raises:
        UsageError: what was named does not go together, or is not there.
        DataError: there is nothing to choose from.
        IdentityError: new features are not like the run's.
        StoreError: files that are damaged or do not belong together.
    """
    _check(request)
    done = {one.item_id for file in request.done for one in read_corrections(file)}
    at = run_meant(request.run).at
    table = Items(at.items)
    labels = _labels(request, table)
    head_folder, view = _chosen(at, request, labels)
    head = None if head_folder is None else head_of(head_folder)
    if request.between and head is None:
        raise UsageError("--between asks a classifier, and this run has none for these features")
    label_of = read_labels(table, labels) if labels in table.column_names else {}
    known = Pool.of(view, table, [one for one, label in label_of.items() if label is not None])
    with _candidates(request, at, table, view, label_of, options) as (source, new_view, new_items, ids):
        pool = Pool.of(new_view, new_items, ids)
        left = pool.without(done)
        if not left.ids:
            gone = f", {len(pool.ids):,} of them in earlier batches" if pool.ids else ""
            raise DataError(
                f"there is no picture without a label to choose from in {source}{gone}; name new ones with --folder"
            )
        pictures = suggested(left, known, head, request.n, request.seed, request.between)
        if sheet is not None:
            _draw(sheet, pictures, new_items, source)
    return Batch(
        run=str(at.root),
        source=source,
        labels=labels,
        backbone=view.backbone,
        head=None if head_folder is None else str(head_folder),
        n_candidates=len(left.ids),
        n_done=len(pool.ids) - len(left.ids),
        pictures=tuple(_suggestion(one, request.folder) for one in pictures),
        notes=tuple(_notes(request, pictures, head, len(left.ids))),
    )


def write_batch(path: Path, batch: Batch) -> None:
    """A file of corrections whose labels are to be filled in.

    Raises:
        StoreError: it cannot be written.
    """
    rows = [
        Correction(
            item_id=one.item_id,
            column=batch.labels,
            note=" or ".join(f"{n} {in_percent(p)}" for n, p in one.answers),
        )
        for one in batch.pictures
    ]
    write_corrections(path, rows)


def _check(request: SuggestRequest) -> None:
    if (request.items is None) != (request.features is None):
        raise UsageError("--items ITEMS and --features VIEW go together")
    if request.folder is not None and request.items is not None:
        raise UsageError("name new pictures once: --folder, or --items with --features")
    if request.between and len(set(request.between)) != 2:
        raise UsageError(
            f"--between takes two classes, got {', '.join(map(repr, request.between))}; give it twice"
        )


def _labels(request: SuggestRequest, table: Items) -> str:
    if request.labels is not None:
        if request.labels not in table.column_names:
            raise UsageError(
                f"the items have no column {request.labels!r}; they have {', '.join(table.column_names)}"
            )
        return request.labels
    return next((name for name in _LABEL_COLUMNS if name in table.column_names), _LABEL_COLUMNS[0])


def _chosen(at: Layout, request: SuggestRequest, labels: str) -> tuple[Path | None, View]:
    """The classifier, and the features that it takes; without one, the first features."""
    views = {path.stem: path for path in sorted(at.root.glob("views/*.h5"))}
    if request.backbone is not None and request.backbone not in views:
        raise UsageError(
            f"{at.root} has no features of {request.backbone!r}; it has {', '.join(views) or 'none'}"
        )
    chosen = chosen_result(at, labels, backbone=request.backbone) if at.all_results.is_dir() else None
    if chosen is not None and (path := views.get(chosen[1].backbone)) is not None:
        view = View(path)
        if view.fingerprint == chosen[1].fingerprint:
            return chosen[0], view
    toys = toys_of(at.weights)
    names = [request.backbone] if request.backbone else sorted(views, key=lambda name: name in toys)
    if not names:
        raise UsageError(f"{at.root} has no features; `deponij run` or `dvc repro` makes them")
    return None, View(views[names[0]])


@contextmanager
def _candidates(
    request: SuggestRequest,
    at: Layout,
    table: Items,
    view: View,
    label_of: dict[str, str | None],
    options: RunOptions,
) -> Iterator[tuple[str, View, Items, list[str]]]:
    """Where candidates come from, their features, their items, and their ids."""
    if request.folder is not None:
        # Features of the new pictures stay known in the depot.
        with tempfile.TemporaryDirectory(prefix="deponij-suggest-") as name:
            new = Layout(Path(name))
            making.run("folder", {"folder": request.folder}, out=new.items, run_options=options)
            _extract(at, view, new, options)
            fresh = Items(new.items)
            yield str(request.folder), _same(view, View(new.view("new"))), fresh, list(fresh.ids)
    elif request.items is not None and request.features is not None:
        other = Items(request.items)
        yield str(request.items), _same(view, View(request.features)), other, list(other.ids)
    else:
        yield str(at.items), view, table, [one for one in table.ids if label_of.get(one) is None]


def _extract(at: Layout, view: View, new: Layout, options: RunOptions) -> None:
    """Make the features of new items as those of the run were made."""
    record = weights_record(at, view.backbone)
    spec = view.backbone if record is None else str(record["spec"])
    made = made_by(spec, view.identity, view.backbone)
    params = extract.ExtractParams(
        kind=view.kind,
        precision=view.identity.precision,
        stored=view.identity.stored,
        decode=made.route,
        input_px=made.input_px,
    )
    extract.run(
        params, items=new.items, backbone=spec, out=new.view("new"), options=options, name=view.backbone
    )


def _same(view: View, new: View) -> View:
    if differences := view.identity.differences(new.identity):
        raise IdentityError(
            f"{new.path} was not encoded as the run's features {view.path} ({view.backbone}): {'; '.join(differences)}; "
            "extract it with that backbone and its settings"
        )
    return new


def _suggestion(one: Suggested, folder: Path | None) -> Suggestion:
    answers = tuple((name, round(prob, 6)) for name, prob in one.answers)
    path = None if folder is None else str(folder / one.item_id)
    return Suggestion(
        item_id=one.item_id,
        path=path,
        doubt=None if one.doubt is None else round(one.doubt, 6),
        answers=answers,
    )


def _notes(request: SuggestRequest, pictures: list[Suggested], head: Head | None, n: int) -> Iterator[str]:
    if head is None:
        yield "the run has no classifier of these features: chosen is what covers the pictures best"
    if len(pictures) < min(request.n, n):
        yield f"{len(pictures):,} of {request.n:,}: the others are near-duplicates of these or of pictures with a label"
    if request.folder is not None:
        yield f"ids are paths below {request.folder}: copy the pictures into the run's own folder under them, then run again"


def _draw(path: Path, pictures: list[Suggested], items: Items, source: str) -> None:
    images = images_of(items, {one.item_id for one in pictures})
    blocks = []
    for number, one in enumerate(pictures, 1):
        lines = [
            (f"{name} {in_percent(prob)}", INK if place == 0 else FAINT)
            for place, (name, prob) in enumerate(one.answers)
        ]
        blocks.append(Block((Tile(images.get(one.item_id), tuple(lines), one.item_id),), f"{number}."))
    title = f"To label first: {len(pictures)} pictures"
    write_bytes(path, draw_sheet(blocks, title, f"{source}\nbelow each what the classifier takes it for", ""))
