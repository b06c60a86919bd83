"""One backbone tuned on items and judged: what the stage `finetune` does for a recipe, and `deponij tune`.

What learns, and how it is written, is the business of `deponij.pipeline.tuning`; what a training is, of
`deponij.pipeline.training`. What a tuned backbone has learned from lies in its folder
(`deponij.project.extraction.tuned_on`).

Shape letters: n pictures, d width of the embedding, C classes.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deponij.pipeline.backbones import load
from deponij.pipeline.training.estimate import trial
from deponij.pipeline.training.loop import Training, train
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.trackers import Tracking
from deponij.pipeline.tuning.learning import let_learn
from deponij.pipeline.tuning.network import Network
from deponij.pipeline.tuning.saved import save_tuned
from deponij.pipeline.tuning.tower import Tower
from deponij.project.extraction.devices import free_memory_bytes
from deponij.project.extraction.extracting import FeatureParams, found_backbone
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.extraction.tuned_on import LEARNED_FROM, learned_from_table
from deponij.project.frame.console import note, say
from deponij.project.frame.device import pick_device
from deponij.project.frame.settings import RunOptions
from deponij.project.frame.training_bar import training_bar
from deponij.project.learning.results import judge, write_results
from deponij.project.tuning.card import CARD, card
from deponij.project.tuning.data import TuningData, read_data
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.pictures import decoded
from deponij.project.tuning.record import METHOD, TunedRecord
from deponij.project.tuning.room import training_room
from deponij.project.tuning.task import NamingTask, naming_task
from deponij.store.atomic import make_folder
from deponij.store.errors import StoreError, explained
from deponij.store.locks import hold, release


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
    toy: bool = False,
    licence: str | None = None,
) -> TunedRecord:
    """Tune a backbone on `train`, choose the epoch on `val`, judge every part by the network's own classifier.

    Args:
        name: of the tuned backbone. spec: of the one that it is tuned from.
        out: folder of the tuned backbone, which `deponij extract` and everything else takes as one.
        results: folder of the answers; None writes none.

    Raises:
        DeponijError: what cannot be used or learned from; the message says why. An interrupted training leaves a
            checkpoint, and the same call goes on from there.
    """
    begin = time.perf_counter()
    if running.tracking is not None:
        running.tracking.check()
    training = recipe.trained_by(f"the training of {name!r}")
    with _alone(running.unfinished):
        found = found_backbone(FeatureParams(decode=recipe.decode, input_px=recipe.input_px), spec)
        data = read_data(found, items, split, labels, running.options)
        pictures = decoded(
            data.items,
            data.rows.tolist(),
            found,
            route=recipe.decode,
            n_threads=running.options.n_workers,
            folder=running.unfinished / "pictures",
        )
        network, n_weights, n_learned = _network(recipe, found, data, training.seed)
        device = pick_device(running.options.device)
        workers = running.options.n_workers if device.startswith("cuda") else 0
        task = naming_task(recipe, training, network, found, data, pictures, workers)
        training = _fitted(task, training, device, running)
        trained = _trained(name, task, training, running)
        logits = task.logits(data.rows)
        judged = judge(
            logits,
            data.classes.tolist(),
            data.examples,
            method=METHOD,
            title="the tuned network's own classifier",
            protocol=_protocol(recipe, training, trained),
            backbone=name,
            fingerprint=found.identity.fingerprint,
            labels=labels,
            split=split.stem,
        )
        record = TunedRecord(
            name=name,
            base=spec,
            base_name=recipe.backbone,
            base_weights=found.description.weights_sha256,
            licence=licence,
            recipe=recipe.model_dump(mode="json"),
            said=recipe.said,
            labels=labels,
            split=split.stem,
            classes=tuple(data.classes.tolist()),
            n_train=len(data.of("train")),
            n_val=len(data.of("val")),
            n_weights=n_weights,
            n_learned=n_learned,
            history=tuple({"loss": one.loss, "lr": one.lr, **one.figures} for one in trained.history),
            kept=trained.kept,
            top1={part: scores.top1 for part, scores in judged.evaluation.parts.items()},
            size_bytes=4 * n_weights,
            toy=toy,
            seconds=time.perf_counter() - begin if running.keeps_time else None,
        )
        files = {LEARNED_FROM: learned_from_table(data.learned_from()), CARD: card(record).encode()}
        network.tower.cpu()
        save_tuned(out, network.tower, spec, record.model_dump(mode="json"), files)
        if results is not None:
            write_results(results, judged.evaluation, judged.predictions, judged.logits)
        shutil.rmtree(running.unfinished, ignore_errors=True)
    return record


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


def _network(recipe: Recipe, found: FoundBackbone, data: TuningData, seed: int) -> tuple[Network, int, int]:
    """The network as it begins; the weights of its tower, adapters not counted, and how many numbers of it learn."""
    import torch

    tower = Tower(load(found.spec, input_px=found.input_px), checkpointing=recipe.checkpointing)
    n_weights = sum(one.numel() for one in tower.parameters())
    n_learned = let_learn(tower, recipe.learning, seed)
    begun = data.probe() if recipe.start == "probe" else data.nothing()
    return Network(tower, *(torch.from_numpy(one) for one in begun)), n_weights, n_learned


def _fitted(task: NamingTask, training: TrainingParams, device: str, running: Running) -> TrainingParams:
    """What it takes is tried and said; a batch that does not fit is halved, and as many of them accumulated."""
    size = training.batch_size
    sizes = sorted({max(1, size // 8), max(1, size // 4)})
    tried = trial(task, task.stand_in, sizes, training, device=device, n_threads=running.options.n_threads)
    room = training_room(tried, size, len(task.rows), free_memory_bytes(device))
    say(str(room))
    task.batch_size = room.batch_size
    return training.model_copy(
        update={"batch_size": room.batch_size, "accumulate": training.accumulate * room.accumulate}
    )


def _trained(name: str, task: NamingTask, training: TrainingParams, running: Running) -> Training:
    with training_bar(name) as on_step:
        return train(
            task,
            training,
            device=pick_device(running.options.device),
            n_threads=running.options.n_threads,
            checkpoint=running.unfinished / "checkpoint",
            on_step=on_step,
            on_note=note,
            tracking=running.tracking,
        )


def _protocol(recipe: Recipe, training: TrainingParams, trained: Training) -> str:
    """In words: what learned from what, and what was chosen on what."""
    kept = f"the best of {len(trained.history)} on val kept" if training.keep == "best" else "the last kept"
    begun = "started from the probe of the frozen features" if recipe.start == "probe" else "started at zero"
    return f"{recipe.said} and a linear classifier, {begun}, learn on train; {training.epochs} epochs, {kept}"
