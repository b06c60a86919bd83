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
from deponij.pipeline.backbones.presets import preset
from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.splitting.strategies import SplitParams
from deponij.pipeline.given.files import ENDINGS
from deponij.project.data_sets import SourceChoice
from deponij.project.extraction.default_backbones import is_drawn
from deponij.project.extraction.extracting import found_backbone
from deponij.project.extraction.forecast import Forecast, Offer, forecasts, offer
from deponij.project.frame.console import say, warn
from deponij.project.frame.harness import timed
from deponij.project.frame.lacking import lack_of
from deponij.project.frame.layout import COMPUTED, Layout
from deponij.project.frame.settings import RunOptions, check
from deponij.project.how_to_split import SplitWish
from deponij.project.in_force import InForce, profile_of
from deponij.project.last_run import record_of, remember
from deponij.project.learning.label_columns import LabelColumns, label_columns
from deponij.project.learning.zero_shot_answers import check_classes
from deponij.project.meant import is_meant, run_meant
from deponij.project.report.summary import Record, collect
from deponij.stages.extract import ExtractParams
from deponij.stages.registry import STAGES, Stage, is_current
from deponij.store.atomic import PART, make_folder
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.items import CORE, Items
from deponij.store.locks import hold, release
from deponij.store.manifest import MANIFEST

# Who made a run, as its record says it.
_BY = "deponij run"
# After this stage there is a table to look at.
_FIRST_RESULTS = "heads"
# What a new run clears below its folder, beside what it puts in its place.
CLEARED = (*COMPUTED, "views", "metrics", "scenes", "dense", "unfinished")


@dataclass(frozen=True)
class Plan:
    """What to do with the pictures.

    Attributes:
        input_px: height and width of what backbones see, other than their own.
        tune: recipes by which the first backbone is tuned on these pictures, to be compared with it frozen.
        tune_arguments: NAME=VALUE of all of them, see `deponij.project.tuning.asked`.
        offered: a preset; what it would take is said beside what the backbones take.
    """

    source: SourceChoice
    backbones: tuple[str, ...]
    labels: tuple[str, ...] = ()
    strategy: str | None = None
    group_by: str | None = None
    fractions: tuple[float, float, float] | None = None
    n_folds: int | None = None
    seed: int = 0
    precision: str = "fp32"
    offered: str | None = None
    input_px: tuple[int, int] | None = None
    tune: tuple[str, ...] = ()
    tune_arguments: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    embeddings: tuple[Path, ...] = ()
    ids: str | None = None
    corrections: tuple[Path, ...] = ()
    keep: Path | None = None
    limit: int | None = None
    copy_pictures: str = "auto"


@dataclass(frozen=True)
class WorkAhead:
    """What extracting will take, and what an offered preset would."""

    forecasts: tuple[Forecast, ...]
    offer: Offer | None


def run(
    plan: Plan,
    *,
    out: Path,
    options: RunOptions,
    on_work_ahead: Callable[[WorkAhead], None] = lambda ahead: None,
    on_first_table: Callable[[Record], None] = lambda table: None,
) -> Record:
    """Every stage of the pipeline, in the order of the list, the quick ones first; what came out, as `collect` tells it.

    What the depot knows is not computed again, so an interrupted run goes on where it was.

    Args:
        on_work_ahead: given what extracting will take, before it begins.
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
        "data": {
            "adapter": plan.source.adapter,
            "root": ".",
            "options": plan.source.options,
            "corrections": plan.corrections,
            "keep": plan.keep,
            "limit": plan.limit,
            "copy_pictures": plan.copy_pictures,
        },
        # Whose pictures these are decides which backbones are toys.
        "prepare": {"sample": None} if is_drawn(plan.source.options) else {},
        "backbones": {names[one]: {"spec": one} for one in plan.backbones}
        | {name: {"given": path, "ids": plan.ids} for name, path in given.items()},
        "text_backbones": [names[one] for one, found in descriptions.items() if found.has_text],
        "extract": {"precision": plan.precision, "input_px": plan.input_px},
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
        wish = SplitWish(plan.strategy, plan.group_by, plan.fractions, plan.n_folds, plan.seed)
        splits = [wish.params(table, column) for column in (*labels, *found.sets)[:1]]
        sections |= {"finetune": _recipes(plan, names, labels, splits)}
        sections |= {"labels": list(labels), "splits": {one.strategy: one.model_dump() for one in splits}}
        sections |= {"label_sets": list(found.sets)}
        if "folds" in sections["splits"]:
            # As many heads as folds are learned for each seed already.
            sections["tables"] = {"seeds": 1}
        _run_stage("split", sections, new, options)
        _replace(at, new, names.values())
    ahead = _work_ahead(plan, names, at, options)
    on_work_ahead(ahead)
    for stage in STAGES[STAGES.index(_stage("split")) + 1 :]:
        _run_stage(stage.name, sections, at, options)
        if stage.name == _FIRST_RESULTS and labels:
            on_first_table(collect(at, options.depot, is_current=is_current))
    told = {
        "forecast": [one.to_record() for one in ahead.forecasts],
        "offer": None if ahead.offer is None else ahead.offer.to_record(),
    }
    made_by = {name: sections[name] for name in InForce.model_fields if name in sections}
    remember(at, InForce.model_validate(made_by), by=_BY, depot=options.depot)
    return collect(at, options.depot, is_current=is_current, is_meant=True) | told


def relearn(at: Layout, options: RunOptions) -> bool:
    """Every stage behind extraction, of the items and features that a run of this command has now; what it tuned is tuned
    again.

    Returns:
        Whether it was done: not for a run that DVC made, or an earlier version, or that has not finished.
    """
    record = record_of(at)
    if record is None or record.by != _BY:
        return False
    sections = record.made_by.model_dump()
    behind = STAGES[STAGES.index(_stage(_FIRST_RESULTS)) :]
    for stage in (_stage("finetune"), _stage("extract_tuned"), *behind):
        _run_stage(stage.name, sections, at, options)
    remember(at, record.made_by, by=_BY, depot=record.depot)
    return True


def _recipes(
    plan: Plan, names: Mapping[str, str], labels: Sequence[str], splits: Sequence[SplitParams]
) -> dict[str, Any]:
    """The section `finetune` of a run.

    Raises:
        UsageError: there is nothing to learn from, or every item is tested.
    """
    if not plan.tune:
        return {}
    if not plan.backbones or not labels:
        raise UsageError(
            "--tune needs a backbone, and pictures with one label each: name their column with --labels COLUMN"
        )
    if any(one.strategy == "folds" for one in splits):
        raise UsageError(
            "--tune needs a part to learn from and one to test, and these pictures are cross-validated; add --split group "
            "(whole photographs) or --split random"
        )
    from deponij.project.tuning.asked import asked_recipe  # imports torch

    base = names[plan.backbones[0]]
    values = {"backbone": base, "input_px": plan.input_px}
    recipes = {one: asked_recipe(values | {"recipe": one}, plan.tune_arguments) for one in plan.tune}
    return {f"{base}-{name}": one.model_dump(exclude_unset=True) for name, one in recipes.items()}


def _work_ahead(plan: Plan, names: Mapping[str, str], at: Layout, options: RunOptions) -> WorkAhead:
    params = ExtractParams(precision=plan.precision, input_px=plan.input_px)
    found = [found_backbone(params, backbone, names[backbone]) for backbone in plan.backbones]
    told = forecasts(found, at.items, options)
    offered = None
    if plan.offered is not None and any(one.n_new for one in told):
        offered = offer(preset(plan.offered), told[0].n_pictures, plan.precision, options)
    return WorkAhead(told, offered)


def results(folder: Path | None = None) -> Record:
    """What a run has brought out, as `collect` tells it.

    Args:
        folder: of the run; None for the one that is meant here (`deponij.project.meant`).

    Raises:
        UsageError: it is no run's folder, or nothing says which is meant.
        StoreError: there are no items yet, or results are damaged.
    """
    at = run_meant(folder).at
    profile = profile_of(at)
    backbones = None if profile is None else profile.backbones
    record = record_of(at)
    depot = os.environ.get("DEPONIJ_DEPOT", "depot")
    if record is not None:
        depot = record.depot if "://" in record.depot else str(record.path(at, record.depot))
    return collect(at, depot, backbones, is_current=is_current, is_meant=is_meant(at))


def _stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


def _run_stage(name: str, sections: Mapping[str, Any], at: Layout, options: RunOptions) -> None:
    """One stage as DVC runs it, for each of its keys."""
    stage = _stage(name)
    chosen = {section: sections[section] for section in stage.params.model_fields if section in sections}
    params = check(stage.params, chosen, "this run")
    if lack_of(params):
        return
    for keys in [(key,) for key in sections.get(stage.over, ())] if stage.over else [()]:
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
    passed = ", ".join(stage.name for stage in STAGES if stage.needs_labels)
    if found.sets:
        which = f", and pass {', '.join(found.sets)} over" if found.columns else " are left out"
        say(
            f"note: {', '.join(found.sets)} holds several labels an item, so that each class is answered with yes or no; "
            f"stages for one label an item{which}: {passed}"
        )
    elif not found.columns:
        say(
            "note: without labels there is a map, what is alike, what stands apart, and search. Labels (class folders, or "
            f"--labels COLUMN) would add classifiers with their figures, and labels worth a second look ({passed})"
        )


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
    for place in (at.root / name for name in CLEARED):
        place.unlink() if place.is_file() else shutil.rmtree(place, ignore_errors=True)
    at.record.unlink(missing_ok=True)
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
