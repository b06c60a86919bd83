"""What a tuning is told, and what it has once its data are read: the same in every process that takes part in it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deponij.pipeline.backbones import parse_spec
from deponij.pipeline.training.loop import Step, Training, train
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.trackers import Tracking
from deponij.project.extraction.extracting import FeatureParams, found_backbone
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.frame.console import note, warn
from deponij.project.frame.device import pick_device
from deponij.project.frame.settings import RunOptions, Section
from deponij.project.frame.training_bar import training_bar
from deponij.project.learning.results import left_out
from deponij.project.tuning.lessons import LESSONS, Asked, Lesson, Prepared
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.pictures import decoded
from deponij.project.tuning.task import PictureTask
from deponij.project.tuning.teaching import Teaching
from deponij.store.errors import UsageError


class Job(Section):
    """What is tuned on what.

    Attributes:
        name: of the tuned backbone.
        spec: of the one that it is tuned from.
        labels: column of the items that holds what is learned.
        teacher: what the recipe's teacher is loaded by; as the recipe names it by default.
    """

    name: str
    recipe: Recipe
    spec: str
    items: Path
    split: Path
    labels: str
    teacher: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether the backbone is a network that has learned nothing."""
        return parse_spec(self.spec).network is not None


@dataclass(frozen=True, slots=True)
class Running:
    """How it is carried out, which changes no result beyond rounding.

    Attributes:
        unfinished: folder of checkpoints and decoded pictures; an interrupted training goes on from there.
        keeps_time: whether the record says how long it took; not under DVC, whose outputs hold nothing of a machine.
        tracking: who is told how it goes.
    """

    options: RunOptions
    unfinished: Path
    keeps_time: bool = True
    tracking: Tracking | None = None

    @property
    def checkpoint(self) -> Path:
        """Of the training."""
        return self.unfinished / "checkpoint"


@dataclass(frozen=True, slots=True)
class Begun:
    """A tuning that can train."""

    recipe: Recipe
    training: TrainingParams
    backbone: FoundBackbone
    teaching: Teaching | None
    lesson: Lesson
    made: Prepared
    device: str


def begin(job: Job, running: Running, *, is_shown: bool = True) -> Begun:
    """Read what it learns from, and make what learns; the same for the same job, whoever asks.

    Args:
        is_shown: whether anybody is told what is out of the ordinary.

    Raises:
        DeponijError: what cannot be used or learned from; the message says why.
    """
    options = running.options
    recipe = job.recipe.begun_on(is_new=job.is_new)
    if job.is_new and recipe.recipe != "full" and is_shown:
        note(
            f"{job.spec} has learned nothing: with recipe {recipe.recipe} most of it stays random; recipe: full learns all"
        )
    training = recipe.trained_by(f"the training of {job.name!r}")
    found = found_backbone(FeatureParams(decode=recipe.decode, input_px=recipe.input_px), job.spec)
    teaching = None
    if recipe.teacher is not None:
        teacher = job.teacher or recipe.teacher.backbone
        teaching = Teaching(found_backbone(FeatureParams(decode=recipe.decode), teacher))
    where = job.items, job.split, job.labels
    lesson = LESSONS[recipe.learns](Asked(job.name, recipe, training, found, teaching, *where, options))
    for said in left_out(lesson.data.examples, job.labels) if is_shown else ():
        note(said)
    pictures = decoded(
        lesson.data.items,
        lesson.data.rows.tolist(),
        found,
        route=recipe.decode,
        n_threads=options.n_workers,
        folder=running.unfinished / "pictures",
    )
    if pictures.were_there and is_shown:
        note(f"{len(lesson.data.rows):,} pictures are decoded already, in {running.unfinished}")
    if pictures.failures and is_shown:
        first = next(iter(pictures.failures.values()))
        warn(
            f"pictures that cannot be read, and are not learned from: {len(pictures.failures):,}; the first: {first}"
        )
    lesson.data = lesson.data.readable(pictures.failures)
    device = pick_device(options.device)
    made = lesson.prepare(pictures, device, options.n_workers if device.startswith("cuda") else 0)
    if training.patience is not None and not made.task.chooses:
        raise UsageError(
            f"patience: {training.patience} waits for a better epoch on val, and {job.split} has nothing to tell one by: "
            "leave it away, or split with a part val"
        )
    return Begun(recipe, training, found, teaching, lesson, made, device)


def trained(
    name: str,
    task: PictureTask,
    training: TrainingParams,
    running: Running,
    device: str,
    *,
    is_shown: bool = True,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Training:
    """The training of a task in this process.

    Args:
        is_shown: whether anybody is told of it.
        on_step: told each step, whoever else is.
    """
    with training_bar(name) as show:

        def stepped(step: Step) -> None:
            on_step(step)
            if is_shown:
                show(step)

        return train(
            task,
            training,
            device=device,
            n_threads=running.options.n_threads,
            checkpoint=running.checkpoint,
            tracking=running.tracking if is_shown else None,
            on_step=stepped,
            on_note=note if is_shown else lambda said: None,
        )
