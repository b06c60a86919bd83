"""One backbone tuned on items and judged: what the stage `finetune` does for a recipe, and `deponij tune`.

What learns, and how it is written, is the business of `deponij.pipeline.tuning`; what a training is, of
`deponij.pipeline.training`. What a tuned backbone has learned from lies in its folder
(`deponij.project.extraction.tuned_on`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from deponij.pipeline.backbones.access import locate
from deponij.pipeline.backbones.catalog import parse_spec
from deponij.pipeline.backbones.contract import Description
from deponij.pipeline.training.costs import PeakMemory
from deponij.pipeline.training.estimate import fitting, needed_bytes, trial
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.tuning.saved import RECORD, save_tuned
from deponij.project.extraction.devices import free_memory_bytes
from deponij.project.extraction.extracting import FeatureParams, found_backbone
from deponij.project.extraction.tuned_on import LEARNED_FROM, learned_from, learned_from_table
from deponij.project.frame.console import say
from deponij.project.tuning.begun import Job, Running, begin, trained
from deponij.project.tuning.card import CARD, card
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.places import require_places
from deponij.project.tuning.record import OF_FILES, TunedRecord, read_record
from deponij.project.tuning.room import training_room
from deponij.project.tuning.task import PictureTask
from deponij.project.tuning.together import train_together
from deponij.project.tuning.took import Stopwatch, Took
from deponij.store.atomic import discard_folder, make_folder
from deponij.store.errors import StoreError, UsageError, explained
from deponij.store.locks import hold, release
from deponij.store.manifest import MANIFEST
from deponij.store.sealed import sha256_of

# A step of learning takes longer; looking more often would slow it.
_LOOKED_EVERY_S = 0.02


def tune(
    name: str,
    recipe: Recipe,
    *,
    spec: str,
    items: Path,
    split: Path,
    labels: str,
    out: Path,
    results: Path | None,
    running: Running,
    teacher: str | None = None,
    toy: bool = False,
) -> TunedRecord:
    """Tune a backbone on `train`, choose the epoch on `val`, judge every part: classes by the network's own classifier,
    captions by what pictures and texts find of each other.

    Args:
        name: of the tuned backbone.
        spec: of the one that it is tuned from.
        out: folder of the tuned backbone, which `deponij extract` and everything else takes as one.
        labels: column of the items that holds what is learned.
        results: folder of the answers; None writes none.
        teacher: what the recipe's teacher is loaded by.

    Returns:
        The record, and what it took, which the folder itself says only where `running` keeps time.

    Raises:
        DeponijError: what cannot be used or learned from; the message says why. An interrupted training leaves a
            checkpoint, and the same call goes on from there.
    """
    if running.tracking is not None:
        running.tracking.check()
    taught_by = [] if recipe.teacher is None else [teacher or recipe.teacher.backbone]
    require_places(out, results, [spec, *taught_by])
    job = Job(name=name, recipe=recipe, spec=spec, items=items, split=split, labels=labels, teacher=teacher)
    with _alone(running.unfinished):
        watch = Stopwatch(running.unfinished)
        begun = begin(job, running)
        recipe, backbone, teaching, lesson, made = (
            begun.recipe,
            begun.backbone,
            begun.teaching,
            begun.lesson,
            begun.made,
        )
        training = _fitted(made.task, begun.training, begun.device, running)
        if running.options.processes > 1:
            train_together(job, begun, training, running)
            running = replace(running, tracking=None)  # the processes have told it
        try:
            with PeakMemory(begun.device, _LOOKED_EVERY_S) as peak:
                finished = trained(
                    name,
                    made.task,
                    training,
                    running,
                    begun.device,
                    on_step=lambda step: watch.step(step.done),
                )
        finally:
            watch.keep()
        watch.goes_on(finished.resumed_at > 0)
        outcome = lesson.judge(finished)
        data = lesson.data
        record = TunedRecord(
            name=name,
            base=spec,
            base_name=recipe.backbone,
            base_weights=backbone.description.weights_sha256,
            teacher_weights=None if teaching is None else teaching.backbone.description.weights_sha256,
            licence=_licence(spec),
            recipe=recipe.model_dump(mode="json"),
            training=training.model_dump(mode="json", exclude={"pieces"}),
            said=recipe.said,
            learns=recipe.learns,
            labels=labels,
            split=split.stem,
            items=items.resolve().name,
            items_sha256=sha256_of((items / MANIFEST).read_bytes()),
            n_without=data.examples.n_without_label,
            n_train=len(data.of("train")),
            n_val=len(data.of("val")),
            n_weights=made.n_weights,
            n_learned=made.n_learned,
            history=tuple({"loss": one.loss, "lr": one.lr, **one.figures} for one in finished.history),
            kept=finished.kept,
            toy=toy,
            **outcome.facts,
        )
        # What it was tuned from, or was taught by, may itself have learned from pictures.
        before = [backbone] if teaching is None else [backbone, teaching.backbone]
        seen = [learned_from(one.spec, one.description.weights_sha256) for one in before]
        parts = {key: part for one in (*seen, data.learned_from()) for key, part in one.items()}
        table = learned_from_table(parts)

        def files_of(tuned: Description) -> dict[str, bytes]:
            return {LEARNED_FROM: table, CARD: card(record, tuned.weights_sha256).encode()}

        made.task.model.cpu()
        # What other processes took of memory nobody here knows.
        took = Took(
            seconds=watch.seconds, peak_bytes=peak.n_bytes if running.options.processes == 1 else None
        )
        kept = record.model_copy(update=took.model_dump()) if running.keeps_time else record
        save_tuned(out, made.tower, spec, kept.model_dump(mode="json", exclude=OF_FILES), files_of)
        if results is not None:
            written = found_backbone(FeatureParams(decode=recipe.decode), str(out.absolute()), name)
            outcome.write(results, written.identity.fingerprint)
        discard_folder(running.unfinished)
    return read_record(out / RECORD).model_copy(update=took.model_dump())


def _licence(spec: str) -> str | None:
    """Of a backbone, where it is known: of one from the hub that was tuned its record says it."""
    entry = parse_spec(spec)
    if entry.licence is None and entry.repo is not None and (folder := locate(spec).folder) is not None:
        return parse_spec(str(folder)).licence
    return entry.licence


@contextmanager
def _alone(unfinished: Path) -> Iterator[None]:
    """The folder of what is not finished, for this process; of nothing that would be gone on with nothing is left.

    Raises:
        StoreError: another process has it.
    """
    with explained(f"cannot write {unfinished}"):
        make_folder(unfinished)
        held = hold(unfinished)
    if held is None:
        raise StoreError(
            f"another process is tuning this, in {unfinished}; wait for it to end, or tune under another name"
        )
    try:
        yield
    finally:
        with suppress(OSError):
            unfinished.rmdir()
        release(held)


def _fitted(task: PictureTask, training: TrainingParams, device: str, running: Running) -> TrainingParams:
    """What it takes is tried and said; a batch that does not fit is computed in pieces.

    Raises:
        UsageError: it does not fit, and the task would learn something else from smaller ones.
    """
    n_processes = running.options.processes
    n_parts = training.pieces * n_processes
    size = -(-training.batch_size // n_parts)
    # Two at least, for batch norms of maps that are a single position.
    small = max(2, size // 8)
    sizes = sorted({min(size, small), min(size, max(small + 1, size // 4))})
    tried = trial(task, task.stand_in, sizes, training, device=device, n_threads=running.options.n_threads)
    free_bytes = free_memory_bytes(device)
    if free_bytes is not None:
        # On a CPU all processes have one memory.
        free_bytes //= n_processes if device == "cpu" else 1
        # Nothing of a picture is kept in validation, which takes rather less than a step.
        task.asked = fitting(task.asked, partial(needed_bytes, tried), free_bytes)[0]
    epoch_s = task.epoch_s(tried[-1].picture_s, tried[-1].batch_size)
    by_one = 1 if device == "cpu" else n_processes
    room = training_room(tried, training.batch_size, free_bytes, epoch_s / by_one, n_parts)
    if room.pieces > 1 and not task.accumulates:
        raise UsageError(
            f"{room.needs}. Captions are told apart within a batch, so that pieces of it would learn something "
            f"else: ask for --batch {room.batch_size} (training.batch_size), or save memory by "
            "checkpointing: true, or precision: bf16 on a GPU"
        )
    say(str(room))
    return training.model_copy(update={"pieces": training.pieces * room.pieces})
