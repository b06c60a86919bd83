"""`deponij run`: somebody's own pictures through every stage, without DVC."""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deponij.pipeline.backbones import Description, describe, list_backbones
from deponij.pipeline.data.adapters.listed import names_pictures
from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.splitting.strategies import SplitParams
from deponij.pipeline.given.files import ENDINGS
from deponij.project.extraction.default_backbones import is_drawn
from deponij.project.frame.console import say, warn
from deponij.project.frame.harness import timed
from deponij.project.frame.lacking import lack_of
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, check
from deponij.project.in_force import profile_in_force, profile_of
from deponij.project.learning.label_columns import LabelColumns, label_columns
from deponij.project.learning.zero_shot_answers import check_classes
from deponij.project.report.summary import Record, collect
from deponij.stages.registry import STAGES, Stage, is_current
from deponij.store.atomic import PART, make_folder
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.items import CORE, Items
from deponij.store.locks import hold, release
from deponij.store.manifest import MANIFEST
from deponij.store.what_is import instead

# After this stage there is a table to look at.
_FIRST_RESULTS = "heads"
# Flags of data sets, as they are written.
_DATA_SETS = {
    "--folder": "--folder DIR",
    "--table": "--table FILE",
    "--coco": "--coco FILE --images DIR",
    "--yolo": "--yolo FILE",
    "--voc": "--voc DIR",
    "--parquet": "--parquet FILE",
}


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
    classes: tuple[str, ...] = ()
    embeddings: tuple[Path, ...] = ()
    ids: str | None = None


def source_of(
    *,
    folder: Path | None = None,
    table: Path | None = None,
    coco: Path | None = None,
    images: Path | None = None,
    yolo: Path | None = None,
    voc: Path | None = None,
    parquet: Sequence[Path] | None = None,
    treat: Mapping[str, str] | None = None,
    boxes: str | None = None,
    keep_crowds: bool = False,
    links_into: Sequence[Path] = (),
    embeddings: Sequence[Path] = (),
    ids: str | None = None,
    offered: Collection[str] = tuple(_DATA_SETS),
) -> SourceChoice:
    """The data set that the flags name.

    Args:
        embeddings, ids: that are given; alone, or beside a table without paths, they are of items without pictures.
        offered: flags of data sets that the command has, for messages.

    Raises:
        UsageError: none or several of them, or a flag of another kind of data set.
    """
    named: dict[str, tuple[str, dict[str, Any]]] = {
        "--folder": ("folder", {"folder": folder}),
        "--table": ("listed", {"table": table}),
        "--coco": ("coco", {"annotations": coco}),
        "--yolo": ("yolo", {"data": yolo}),
        "--voc": ("voc", {"folder": voc}),
        "--parquet": ("parquet", {"files": tuple(parquet or ())}),
    }
    if embeddings and not any(all(where.values()) for _, where in named.values()):
        beside = {"ids": ids} if ids else {}
        return SourceChoice("unpictured", {"table": embeddings[0], "has_vectors": True, **beside})
    if embeddings and table is not None and images is None and not names_pictures(table):
        named["--table"] = ("unpictured", {"table": table})
    given = [flag for flag, (_, where) in named.items() if all(where.values())]
    if len(given) != 1:
        raise UsageError(
            f"name one data set: {' or '.join(_DATA_SETS[flag] for flag in offered)}; got "
            f"{' and '.join(given) or 'none'}"
        )
    adapter, where = named[given[0]]
    if adapter == "coco" and images is None:
        raise UsageError("--coco FILE and --images DIR go together")
    if adapter not in ("coco", "listed") and images is not None:
        raise UsageError(
            f"--images is for a COCO file or a table; {given[0]} says by itself where pictures are"
        )
    if adapter in ("folder", "listed", "parquet", "unpictured") and (boxes or keep_crowds):
        flag = "--boxes" if boxes else "--keep-crowds"
        raise UsageError(f"{flag} is for annotated instances; {given[0]} names whole pictures")
    if adapter != "coco" and boxes:
        raise UsageError(f"--boxes is for a COCO file (--coco); {given[0]} knows the form of its own")
    if adapter in ("parquet", "unpictured") and links_into:
        raise UsageError(f"--links-into is for pictures in folders, and {given[0]} names none")
    more: dict[str, Any] = {
        "images": images,
        "treat": dict(treat or {}),
        "links_into": tuple(links_into),
        "boxes": boxes,
        "crop": {"keep_crowds": True} if keep_crowds else None,
    }
    return SourceChoice(adapter, where | {name: value for name, value in more.items() if value})


def run(
    plan: Plan,
    *,
    out: Path,
    options: RunOptions,
    on_first_table: Callable[[Record], None] = lambda table: None,
) -> Record:
    """Every stage of the pipeline, in the order of the list, the quick ones first; what came out, as `collect` tells it.

    What the depot knows is not computed again, so an interrupted run goes on where it was.

    Args:
        on_first_table: given the results as soon as there are some, long before the end.

    Raises:
        DeponijError: something cannot be used; the message says what to do.
    """
    at = Layout(out)
    # A wrong name or absent weights are said before an hour of cropping.
    descriptions = {backbone: describe(backbone) for backbone in plan.backbones}
    names = _slugs((*plan.backbones, *map(str, plan.embeddings)))
    given = {names[str(path)]: path for path in plan.embeddings}
    sections: dict[str, Any] = {
        "profile": out.name,
        "data": {"adapter": plan.source.adapter, "root": ".", "options": plan.source.options},
        # Whose pictures these are decides which backbones are toys.
        "prepare": {"sample": None} if is_drawn(plan.source.options) else {},
        "backbones": {names[one]: {"spec": one} for one in plan.backbones}
        | {name: {"given": path, "ids": plan.ids} for name, path in given.items()},
        "text_backbones": [names[one] for one, found in descriptions.items() if found.has_text],
        "extract": {"precision": plan.precision},
        "texts": {"precision": plan.precision},
        "classes": list(plan.classes),
    }
    _refuse_without_words(plan, descriptions)
    if plan.source.adapter == "unpictured" and plan.backbones:
        raise UsageError(
            f"these items have no pictures for {plan.backbones[0]} to look at; leave --backbone out, or name the pictures"
        )
    _refuse_foreign(at)
    _refuse_strange_labels(plan)
    with _beside(at) as new:
        _run_stage("weights", sections, new, options)
        _run_stage("items", sections, new, options)
        table = Items(new.items)
        found = label_columns(table, plan.labels, plan.source.options.get("folder"))
        labels = found.columns
        _tell_lack(found)
        splits = [_split_params(plan, table, column) for column in labels[:1]]
        sections |= {"labels": list(labels), "splits": {one.strategy: one.model_dump() for one in splits}}
        _run_stage("split", sections, new, options)
        _replace(at, new, names.values())
    for stage in STAGES[STAGES.index(_stage("split")) + 1 :]:
        _run_stage(stage.name, sections, at, options)
        if stage.name == _FIRST_RESULTS and labels:
            on_first_table(collect(at, options.depot, is_current=is_current))
    return collect(at, options.depot, is_current=is_current)


def results(folder: Path | None = None) -> Record:
    """What a run has brought out, as `collect` tells it.

    Args:
        folder: of the run; None for that of the profile in force.

    Raises:
        UsageError: it is no run's folder, or no profile is in force.
        StoreError: there are no items yet, or results are damaged.
    """
    if folder is None:
        at = profile_in_force("name a run's folder, as in `deponij results runs/mine`").layout
    else:
        at = Layout(folder)
        if not at.items.is_dir():
            raise UsageError(
                f"{folder} is no folder of a run: there is no {at.items}; name one such as runs/mine{instead(folder)}"
            )
    profile = profile_of(at)
    backbones = None if profile is None else profile.backbones
    depot = os.environ.get("DEPONIJ_DEPOT", "depot")
    return collect(at, depot, backbones, is_current=is_current, is_in_force=profile is not None)


def _stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def _run_stage(name: str, sections: Mapping[str, Any], at: Layout, options: RunOptions) -> None:
    """One stage as DVC runs it, for each of its keys."""
    stage = _stage(name)
    chosen = {section: sections[section] for section in stage.params.model_fields if section in sections}
    params = check(stage.params, chosen, "this run")
    if lack_of(params):
        return
    for keys in [(key,) for key in sections[stage.over]] if stage.over else [()]:
        try:
            with timed(at, "@".join([name, *keys])):
                stage.main(params, at, options, *keys)
        except DataError as error:
            if not stage.may_lack_data:
                raise
            warn(f"no {name}: {error}")


def _refuse_strange_labels(plan: Plan) -> None:
    """Said before items are cut; whether a column has values is known of the items alone."""
    if plan.labels:
        source = open_source(plan.source.adapter, plan.source.options)
        names = source.metadata_schema.names
        if strangers := [name for name in plan.labels if name not in (*names, *CORE.names)]:
            raise UsageError(
                f"these data have no column {strangers[0]!r}; --labels can name {', '.join(names)}"
            )


def _refuse_without_words(plan: Plan, descriptions: Mapping[str, Description]) -> None:
    """Classes are asked for in words; said before anything is computed."""
    if plan.classes:
        check_classes(plan.classes)
        if not any(one.has_text for one in descriptions.values()):
            able = [str(row["name"]) for row in list_backbones() if row["has_text"] and not row["toy"]]
            raise UsageError(
                f"--classes asks in words, which {', '.join(plan.backbones) or 'given embeddings'} cannot read: add one "
                f"that can, such as --backbone {able[0]} (`deponij weights fetch {able[0]}` brings its weights; others: "
                f"{', '.join(able[1:])})"
            )


def _tell_lack(found: LabelColumns) -> None:
    """What is not learned from, and where nothing is, what labels would add."""
    for note in found.notes:
        warn(note)
    if not found.columns:
        passed = ", ".join(stage.name for stage in STAGES if stage.needs_labels)
        say(
            "note: without labels there is a map, what is alike, what stands apart, and search. Labels (class folders, or "
            f"--labels COLUMN) would add classifiers with their figures, and labels worth a second look ({passed})"
        )


def _split_params(plan: Plan, table: Items, labels: str) -> SplitParams:
    if plan.strategy is not None:
        return SplitParams(strategy=plan.strategy, labels=labels, seed=plan.seed)
    if any(part is not None for part in table.column("given")):
        return SplitParams(strategy="given", labels=labels, seed=plan.seed)
    # Whole pictures are their own photographs: then grouping would only cost the balance.
    shared = len(set(table.column("image_id"))) < len(table)
    return SplitParams(strategy="group" if shared else "random", labels=labels, seed=plan.seed)


def _slugs(backbones: Sequence[str]) -> dict[str, str]:
    """Names for files and parameters of backbones, which may be folders of any name, `family:…` forms or given files."""
    names: dict[str, str] = {}
    for backbone in backbones:
        file = Path(backbone).name
        name = Path(file).stem if file.lower().endswith(ENDINGS) else file
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-") or "backbone"
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
    for name in (
        "results",
        "views",
        "report",
        "retrieval",
        "curves",
        "mistakes",
        "maps",
        "tables",
        "likeness",
        "answers",
        "metrics",
        "plots",
    ):
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
