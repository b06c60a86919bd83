"""What a backbone can learn, classes or captions: what is read for it, what is trained, and how it is judged.

All that is the same for both is in `learn`.

Shape letters: n pictures, d width of the embedding, C classes, m captions.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deponij.pipeline.backbones import load
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.pipeline.training.loop import Training
from deponij.pipeline.training.params import TrainingParams
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.frame.settings import RunOptions
from deponij.project.frame.training_bar import keeps_the_best
from deponij.project.learning.result_files import METRICS_NAME
from deponij.project.learning.results import judge, write_results
from deponij.project.tuning.caption_task import caption_task
from deponij.project.tuning.data import ToldItems, TuningData, read_captions, read_data
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.pictures import Pictures
from deponij.project.tuning.recalls import Hits, brought, hits
from deponij.project.tuning.record import METHOD
from deponij.project.tuning.task import PictureTask, naming_task
from deponij.project.tuning.teaching import Teaching
from deponij.store.bundle import write_bundle

if TYPE_CHECKING:
    from deponij.pipeline.tuning.tower import Tower
    from deponij.project.tuning.caption_task import CaptionTask


_BEGUN = {
    "probe": "started from the probe of the frozen features",
    "zero": "started at zero",
    "plain": "started from random weights",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: a recipe, its training, the backbone that is tuned, who teaches it, and on what."""

    name: str
    recipe: Recipe
    training: TrainingParams
    backbone: FoundBackbone
    teaching: Teaching | None
    items: Path
    split: Path
    labels: str
    options: RunOptions


@dataclass(frozen=True, slots=True)
class Prepared:
    """A training that can begin.

    Attributes:
        n_weights: of what is tuned, adapters not counted.
        n_learned: numbers of it that learn.
    """

    task: PictureTask
    tower: "Tower"
    n_weights: int
    n_learned: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        facts: fields of the record.
        write: writes a results folder, of the features that have this fingerprint.
    """

    facts: Mapping[str, Any]
    write: Callable[[Path, str], None]


class Lesson(ABC):
    """One thing that is learned.

    Attributes:
        data: that it is learned from.
    """

    data: ToldItems

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    @abstractmethod
    def prepare(self, pictures: Pictures, device: str, workers: int) -> Prepared:
        """The task, whose pictures these are."""

    @abstractmethod
    def judge(self, trained: Training) -> Outcome:
        """Of the task's model as it is now."""

    def _tower(self) -> "tuple[Tower, int, int]":
        """As it begins; its weights, and how many numbers of it learn."""
        from deponij.pipeline.tuning.learning import let_learn
        from deponij.pipeline.tuning.tower import Tower

        asked = self.asked
        backbone = load(asked.backbone.spec, input_px=asked.backbone.input_px)
        tower = Tower(backbone, checkpointing=asked.recipe.checkpointing)
        n_weights = sum(one.numel() for one in tower.parameters())
        return tower, n_weights, let_learn(tower, asked.recipe.learning, asked.training.seed)

    def _kept(self, trained: Training) -> str:
        n = len(trained.history)
        is_best = keeps_the_best(trained, self.asked.training)
        kept = f"the best of {n} on val kept" if is_best else "the last kept"
        return f"{self.asked.training.epochs} epochs, {kept}"


class Naming(Lesson):
    """To tell classes apart, by a classifier on top."""

    data: TuningData

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        everyone = [asked.backbone] if asked.teaching is None else [asked.backbone, asked.teaching.backbone]
        has_features = asked.recipe.start != "plain" or asked.teaching is not None
        where = asked.items, asked.split, asked.labels, asked.options
        self.data = read_data(everyone, *where, has_features=has_features)

    def prepare(self, pictures: Pictures, device: str, workers: int) -> Prepared:
        """See `Lesson`."""
        import torch

        from deponij.pipeline.tuning.network import Network

        asked, data = self.asked, self.data
        tower, n_weights, n_learned = self._tower()
        match asked.recipe.start:
            case "plain":
                begun = data.plain(asked.backbone.description.dim, asked.training.seed)
            case "zero":
                begun = data.nothing()
            case _:
                begun = data.probe(data.features)
        is_distilled = asked.teaching is not None and tower.has_distillation_token
        network = Network(tower, *(torch.from_numpy(one) for one in begun), on_both_tokens=is_distilled)
        self.task = naming_task(
            asked.recipe, asked.training, network, asked.backbone, data, pictures, asked.teaching, workers
        )
        self._on_both_tokens = is_distilled
        return Prepared(self.task, tower, n_weights, n_learned)

    def judge(self, trained: Training) -> Outcome:
        """Every part by the network's own classifier."""
        asked, data = self.asked, self.data
        begun = _BEGUN[asked.recipe.start or "probe"]
        what = "a linear classifier"
        if self._on_both_tokens:
            what += " on each of both tokens, whose mean answers"
        judged = judge(
            self.task.outputs(data.rows),
            data.names.tolist(),
            data.examples,
            method=METHOD,
            title="the tuned network's own classifier",
            protocol=f"{asked.recipe.said} and {what}, {begun}, learn on train; {self._kept(trained)}",
            backbone=asked.name,
            fingerprint="",  # of weights that are still to be written
            labels=asked.labels,
            split=asked.split.stem,
        )
        parts = judged.evaluation.parts
        return Outcome(
            {
                "classes": tuple(data.names.tolist()),
                "n_judged": {part: scores.n for part, scores in parts.items()},
                "top1": {part: scores.top1 for part, scores in parts.items()},
                "top1_interval": {part: scores.top1_interval for part, scores in parts.items()},
            },
            lambda out, fingerprint: write_results(
                out,
                judged.evaluation.model_copy(update={"fingerprint": fingerprint}),
                judged.predictions,
                judged.logits,
            ),
        )


class Captioning(Lesson):
    """Which caption a picture has, by the contrast between those of a batch."""

    def __init__(self, asked: Asked) -> None:
        from deponij.pipeline.tuning.pairs import require_text

        super().__init__(asked)
        require_text(asked.backbone.description)
        self.data = read_captions(asked.backbone, asked.items, asked.split, asked.labels)

    def prepare(self, pictures: Pictures, device: str, workers: int) -> Prepared:
        """See `Lesson`; what the model finds before it learns is kept for `judge`."""
        from deponij.pipeline.tuning.pairs import Pairs

        asked = self.asked
        tower, n_weights, n_learned = self._tower()
        network = Pairs(tower, text_learns=asked.recipe.text == "learns")
        n_text = network.n_text_weights
        task = caption_task(
            asked.recipe, asked.training, network.to(device), asked.backbone, self.data, pictures, workers
        )
        self.task = task
        self._before = self._hits(task)
        return Prepared(task, tower, n_weights + n_text, n_learned + n_text)

    def judge(self, trained: Training) -> Outcome:
        """Recall both ways on every part, before and after."""
        data, after = self.data, self._hits(self.task)
        self.task.model.hold_scale()
        recalls = {
            part: brought(self._before[part], one, data.examples.groups[self.data.of(part)])
            for part, one in after.items()
        }
        told = {
            part: {
                way: {name: one.model_dump() for name, one in figures.items()}
                for way, figures in ways.items()
            }
            for part, ways in recalls.items()
        }
        content = (json.dumps(told, indent=2) + "\n").encode()
        return Outcome(
            {
                "n_captions": len(np.unique(data.targets[data.of("train")])),
                "n_judged": {part: len(data.of(part)) for part in recalls},
                "recalls": recalls,
            },
            lambda out, fingerprint: write_bundle(out, {METRICS_NAME: content}, what="results"),
        )

    def _hits(self, task: "CaptionTask") -> dict[str, Hits]:
        words = task.words()
        places = {part: self.data.of(part) for part in PARTS}
        return {
            part: hits(task.outputs(self.data.rows[one]), words, self.data.targets[one])
            for part, one in places.items()
            if len(one)
        }


LESSONS: Mapping[str, Callable[[Asked], Lesson]] = {"classes": Naming, "captions": Captioning}
