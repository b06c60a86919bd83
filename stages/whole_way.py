"""`deponij run`: somebody's own pictures through every stage, without DVC."""

import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.backbones import describe
from pipeline.curves import CURVES
from pipeline.data.folder import PICTURE_ENDINGS
from pipeline.data.given import given_part
from pipeline.data.splits import SplitParams
from pipeline.mistakes.records import MISTAKES
from stages import (
    curves,
    extract,
    extract_text,
    items,
    mistakes,
    probe,
    report,
    retrieval,
    split,
    text_retrieval,
    weights,
    zero_shot,
)
from stages import index as index_stage
from stages import map as map_stage
from stages.console import say, warn
from stages.default_backbones import is_drawn
from stages.harness import record_time
from stages.layout import Layout
from stages.printing import collect
from stages.rankings import RetrievalParams, write_retrieval
from stages.settings import RunOptions
from stages.toys import toys_of
from store.atomic import PART, make_folder, write_bytes
from store.errors import DataError, StoreError, UsageError
from store.items import CORE, Items
from store.locks import hold, release
from store.manifest import MANIFEST
from store.view import View

# The label column where none is named: image folders and parquet, then COCO files.
_LABEL_COLUMNS = ("label", "category")


@dataclass(frozen=True)
class SourceChoice:
    """An adapter and its options."""

    adapter: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to do with the pictures."""

    source: SourceChoice
    backbones: tuple[str, ...]
    labels: tuple[str, ...] = ()
    strategy: str | None = None
    seed: int = 0
    precision: str = "fp32"


@dataclass
class WholeWay:
    """What came out."""

    table: dict[str, Any] = field(default_factory=dict)
    n_failed: int = 0


def source_of(
    *, folder: Path | None, coco: Path | None, images: Path | None, parquet: Sequence[Path] | None
) -> SourceChoice:
    """The data set that the flags name.

    Raises:
        UsageError: none or several of them.
    """
    given = [
        name for name, value in (("--folder", folder), ("--coco", coco), ("--parquet", parquet)) if value
    ]
    if len(given) != 1:
        raise UsageError(
            f"name one data set: --folder DIR, --coco FILE --images DIR, or --parquet FILE; got {given or 'none'}"
        )
    if (coco is None) != (images is None):
        raise UsageError("--coco FILE and --images DIR go together")
    if folder is not None:
        return SourceChoice("folder", {"folder": folder})
    if coco is not None:
        return SourceChoice("coco", {"annotations": coco, "images": images})
    return SourceChoice("parquet", {"files": tuple(parquet or ())})


def run(plan: Plan, *, out: Path, options: RunOptions) -> WholeWay:
    """Items, split, features, probe, zero-shot where there is text, page.

    What the depot knows is not computed again, so an interrupted run goes on where it was.

    Raises:
        DeponijError: something cannot be used; the message says what to do.
    """
    at = Layout(out)
    # A wrong name or absent weights are said before an hour of cropping.
    descriptions = {backbone: describe(backbone) for backbone in plan.backbones}
    names = _slugs(plan.backbones)
    _refuse_foreign(at)
    with _beside(at) as new:
        is_ours = is_drawn(plan.source.options)
        weights.run({name: backbone for backbone, name in names.items()}, new.weights, is_drawn=is_ours)
        with _Timed(new, "items"):
            made = items.run(plan.source.adapter, plan.source.options, out=new.items, run_options=options)
        labels = _chosen_labels(plan, Items(new.items))
        with _Timed(new, "split"):
            params = _split_params(plan, Items(new.items), labels[0])
            divided = split.run(params, items=new.items, out=new.split(params.strategy))
            divided = divided.model_copy(update={"split": str(at.split(params.strategy))})
            write_bytes(new.split_report(params.strategy), divided.model_dump_json(indent=2).encode())
        _replace(at, new, names.values())
    say(items.summary(made.model_copy(update={"items": str(at.items)})))
    for note in made.notes:
        say(f"  note: {note}")
    say(split.summary(divided))
    n_failed = made.n_failed
    for backbone in plan.backbones:
        has_text = descriptions[backbone].has_text
        found = _one_backbone(plan, at, backbone, names[backbone], labels, options, params.strategy, has_text)
        n_failed = max(n_failed, found)
    for backbone, name in names.items():
        _ask(at, name, labels, params.strategy, descriptions[backbone].has_text)
        with _Timed(at, f"index@{name}"):
            _index(at, name, params.strategy, options)
        _look_closer(at, name, labels, params.strategy)
    with _Timed(at, "report"):
        report.run(
            report.ReportParams(),
            results=at.results(),
            items=at.items,
            views=[at.view(names[backbone]) for backbone in plan.backbones],
            split_reports=[at.split_report(params.strategy)],
            retrieval=_there([*map(at.retrieval, names.values()), *map(at.text_retrieval, names.values())]),
            curves=_there(at.curves(name) for name in names.values()),
            maps=_there(at.map(name) for name in names.values()),
            mistakes=_there(at.mistakes(name) for name in names.values()),
            toys=toys_of(at.weights),
            profile=out.name,
            out=at.report,
        )
    return WholeWay(collect(at, options.depot), n_failed)


def _one_backbone(
    plan: Plan,
    at: Layout,
    backbone: str,
    name: str,
    labels: Sequence[str],
    options: RunOptions,
    strategy: str,
    has_text: bool,
) -> int:
    with _Timed(at, f"extract@{name}"):
        params = extract.ExtractParams(precision=plan.precision)
        result = extract.run(
            params, items=at.items, backbone=backbone, out=at.view(name), options=options, name=name
        )
        say(extract.summary(result))
    if has_text:
        with _Timed(at, f"extract_text@{name}"):
            texts = extract_text.TextParams(precision=plan.precision)
            prompts = extract_text.prompts_from_labels(at.items, labels, texts.templates)
            said = extract_text.run(
                texts, prompts, backbone=backbone, out=at.texts(name), options=options, name=name
            )
            say(extract_text.summary(said))
    inputs = {"features": at.view(name), "items": at.items, "split": at.split(strategy)}
    for column in labels:
        folder = f"{strategy}-{column}"
        if has_text:
            with _Timed(at, f"zero_shot@{name}"):
                out = at.result("zero_shot", name) / folder
                zero_shot.run(
                    zero_shot.ZeroShotParams(), texts=at.texts(name), labels=column, out=out, **inputs
                )
        with _Timed(at, f"probe@{name}"):
            probe.run(probe.ProbeParams(), labels=column, out=at.result("probe", name) / folder, **inputs)
    return result.n_failed


def _ask(at: Layout, name: str, labels: Sequence[str], strategy: str, has_text: bool) -> None:
    """How well pictures, and words where the backbone has a text tower, find what belongs to them."""
    params = RetrievalParams()
    inputs = {"features": at.view(name), "items": at.items, "split": at.split(strategy)}
    with _Timed(at, f"retrieval@{name}"):
        write_retrieval(at.retrieval(name), [retrieval.run(params, labels=one, **inputs) for one in labels])
    if has_text:
        with _Timed(at, f"text_retrieval@{name}"):
            texts = at.texts(name)
            found = [text_retrieval.run(params, texts=texts, labels=one, **inputs) for one in labels]
            write_retrieval(at.text_retrieval(name), [one for both in found for one in both])


def _index(at: Layout, name: str, strategy: str, options: RunOptions) -> None:
    made = index_stage.run(
        index_stage.IndexParams(),
        features=at.view(name),
        items=at.items,
        out=at.index(name),
        splits={strategy: at.split(strategy)},
        latency=at.latency(name),
        threads=options.threads,
    )
    say(index_stage.summary(made))


def _look_closer(at: Layout, name: str, labels: Sequence[str], strategy: str) -> None:
    """Learning curve, labels worth a second look and a map; very small data may be too few for one of them."""
    inputs = {"features": at.view(name), "items": at.items}
    with _Timed(at, f"curves@{name}"), _optional("learning curve", name):
        rows = [
            row
            for column in labels
            for row in curves.run(curves.CurveParams(), split=at.split(strategy), labels=column, **inputs)
        ]
        write_bytes(at.curves(name), CURVES.dump(rows))
    with _Timed(at, f"mistakes@{name}"), _optional("list of doubtful labels", name):
        params, table = mistakes.MistakesParams(), Items(at.items)
        found = [mistakes.audit(params, View(at.view(name)), table, column) for column in labels]
        for one in found:
            mistakes.draw_sheets(one, table, at.mistake_sheets(name), params.n_shown)
        write_bytes(at.mistakes(name), MISTAKES.dump(found))
    with _Timed(at, f"map@{name}"), _optional("map", name):
        map_stage.run(map_stage.MapParams(), features=at.view(name), out=at.map(name))


@contextmanager
def _optional(what: str, name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        warn(f"{name}: no {what}: {error}")


def _there(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.is_file()]


def _chosen_labels(plan: Plan, table: Items) -> tuple[str, ...]:
    columns = table.table()
    filled = [name for name in columns.column_names if columns[name].null_count < columns.num_rows]
    unusable = [name for name in plan.labels if name not in filled]
    if unusable:
        could = ", ".join(filled)
        raise UsageError(f"these items have no values in a column {unusable[0]!r}; --labels can name {could}")
    if plan.labels:
        return plan.labels
    for name in _LABEL_COLUMNS:
        if name in filled:
            return (name,)
    if plan.source.adapter == "folder":
        raise DataError(f"these items have no labels: {_no_classes(Path(plan.source.options['folder']))}")
    others = ", ".join(name for name in filled if name not in CORE.names) or "but there is none with values"
    raise DataError(f"these items have no labels; name a column with --labels: {others}")


def _no_classes(folder: Path) -> str:
    """What is wrong with pictures that lie in no class folders, and what may have been meant."""
    here = folder.resolve()
    try:
        beside = [path.name for path in here.parent.iterdir() if _holds_pictures(path)]
    except OSError:
        # Folders that may not be read; then there is nothing to offer.
        beside = []
    if here.name in beside and len(beside) > 1 and not all(map(given_part, beside)):
        return f"there are no class folders below {folder}; did you mean its parent {here.parent}?"
    return (
        f"there are no class folders below {folder}; expected files such as {folder / 'CLASS' / 'NAME.jpg'}"
    )


def _holds_pictures(folder: Path) -> bool:
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    return any(path.suffix.lower() in PICTURE_ENDINGS for path in folder.iterdir())


def _split_params(plan: Plan, table: Items, labels: str) -> SplitParams:
    if plan.strategy is not None:
        return SplitParams(strategy=plan.strategy, labels=labels, seed=plan.seed)
    if any(part is not None for part in table.column("given")):
        return SplitParams(strategy="given", labels=labels, seed=plan.seed)
    # Whole pictures are their own photographs: then grouping would only cost the balance.
    shared = len(set(table.column("image_id"))) < len(table)
    return SplitParams(strategy="group" if shared else "random", labels=labels, seed=plan.seed)


def _slugs(backbones: Sequence[str]) -> dict[str, str]:
    """File names for backbones, which may be folders or `family:…` forms."""
    names: dict[str, str] = {}
    for backbone in backbones:
        plain = (
            "".join(c if c.isalnum() or c in "._-" else "-" for c in Path(backbone).name if c) or "backbone"
        )
        number = sum(name == plain or name.startswith(f"{plain}~") for name in names.values())
        names[backbone] = f"{plain}~{number + 1}" if number else plain
    return names


def _new(at: Layout) -> Layout:
    """Where a run's items and split are made before they take the place of an earlier run's."""
    return Layout(at.root / f"next-run{PART}")


def _refuse_foreign(at: Layout) -> None:
    """What is cleared below must be an earlier run's, never somebody's own folder `results`."""
    new, folder, others = _new(at), at.root, []
    if (at.items / MANIFEST).is_file():
        folder = at.items
        others = [p.name for p in folder.iterdir() if p.name != MANIFEST and not p.match("items-*.parquet")]
    elif at.root.is_dir() and not (new.items / MANIFEST).is_file():
        # A first run that was killed leaves its folder behind.
        others = [path.name for path in folder.iterdir() if path != new.root]
    if others:
        raise UsageError(
            f"{folder} holds other things than a run of Deponij (such as {min(others)!r}); "
            "name a new folder with --out"
        )


@contextmanager
def _beside(at: Layout) -> Iterator[Layout]:
    """A layout to make the beginning of a run in; it goes when the block ends, however it ends.

    Raises:
        StoreError: the folder cannot be written, or another run is writing it.
    """
    new = _new(at)
    try:
        make_folder(new.root)
        held = hold(new.root)
    except OSError as error:
        raise StoreError(f"cannot write {at.root}: {error.strerror or error}") from error
    if held is None:
        raise StoreError(f"another process is writing {at.root}; wait for it to end")
    try:
        if (new.items / MANIFEST).is_file() and not at.items.exists():
            # Killed between the two renames of `_replace`.
            new.items.rename(at.items)
        for stale in new.root.iterdir():
            shutil.rmtree(stale)
        yield new
    finally:
        shutil.rmtree(new.root, ignore_errors=True)
        release(held)


def _replace(at: Layout, new: Layout, names: Collection[str]) -> None:
    """Clear an earlier run and put the new beginning in its place.

    Results with other backbones or labels must not stand in this run's table. Indexes of backbones that
    are there again stay: new items are added to them.
    """
    for name in ("results", "views", "report", "retrieval", "curves", "mistakes", "maps"):
        shutil.rmtree(at.root / name, ignore_errors=True)
    for index in at.indexes.iterdir() if at.indexes.is_dir() else ():
        if index.name not in names:
            shutil.rmtree(index, ignore_errors=True)
    made, old = list(new.root.iterdir()), new.root / "old"
    try:
        old.mkdir()
        for folder in made:
            place = at.root / folder.name
            if place.exists():
                place.rename(old / place.name)
            folder.rename(place)
    except OSError as error:
        raise StoreError(f"cannot write {at.root}: {error.strerror or error}") from error


class _Timed:
    """Keeps a stage's wall time beside the run."""

    def __init__(self, at: Layout, stage: str) -> None:
        self._at, self._stage = at, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        record_time(self._at.timings, self._stage, time.perf_counter() - self._start)
