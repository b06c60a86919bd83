"""Learning to name pictures, as `pipeline.training` wants it: batches, loss, validation.

Shape letters: n pictures, C classes, h and w sides of the input.
"""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.backbones.transform import Transform
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import ParameterGroup
from deponij.pipeline.tuning.augmenting import Augmenter
from deponij.pipeline.tuning.loading import augmented_batches
from deponij.pipeline.tuning.mixing import Mixer
from deponij.pipeline.tuning.sampling import class_weights, epoch_indices
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.tuning.data import ToldItems, TuningData
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.pictures import Pictures, Pixels
from deponij.project.tuning.teaching import Teaching
from deponij.store.errors import DataError
from deponij.store.sealed import sha256_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deponij.pipeline.tuning.network import Logits, Network
    from deponij.pipeline.tuning.teacher import Teacher

Rows = NDArray[np.int64]


@dataclass(kw_only=True)
class PictureTask(ABC):
    """A model that learns from pictures; what it learns is its subclasses' own.

    Attributes:
        model: forward(pixels float32 [n, 3, h, w]) -> outputs [n, …].
        pictures: holds those of `rows` and `val_rows`, rows of the items.
        targets, val_targets: int64, numbers of what they show.
        transform: makes pictures ready where nothing is drawn.
        augmenter: does where something is; None for nothing.
        seed: of all draws.
        identity: stands for all that shapes the training.
        parts: what learns, and how fast.
        balance: power of 1/frequency by which pictures are drawn; 0: each comes once.
        workers: processes that augment; with 0 the training does it itself. They change nothing of what comes out.
        asked: pictures a forward pass of validation.
    """

    accumulates: ClassVar[bool] = True

    model: "nn.Module"
    pictures: Pictures
    rows: Rows
    targets: Rows
    val_rows: Rows
    val_targets: Rows
    batch_size: int
    transform: Transform
    augmenter: Augmenter | None
    seed: int
    identity: str
    parts: Sequence[ParameterGroup]
    balance: float = 0.0
    workers: int = 0
    asked: int = 64

    def groups(self) -> Sequence[ParameterGroup]:
        """What learns."""
        return self.parts

    @property
    def chooses(self) -> bool:
        """Whether there is anything by which one epoch is better than another."""
        return len(self.val_rows) > 0

    def n_batches(self) -> int:
        """Of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def batches(self, epoch: int, first: int = 0) -> "Iterator[tuple[Tensor, ...]]":
        """Those of one epoch from this one on, as `loss` takes them; the same for the same epoch."""
        plan = self._plan(epoch)[first:]
        with closing(self._looked_at(plan, epoch)) as seen:
            for number, (places, pixels) in enumerate(zip(plan, seen, strict=True), first):
                yield self._batch(pixels, places, epoch, number)

    def _plan(self, epoch: int) -> list[list[int]]:
        """Places of each batch's pictures. Batches differ by one picture at most: none is too small for a batch norm, or to
        contrast."""
        order = epoch_indices(self.targets, seed=self.seed, epoch=epoch, power=self.balance)
        return [one.tolist() for one in np.array_split(order, self.n_batches())]

    @abstractmethod
    def _batch(self, pixels: "Tensor", places: list[int], epoch: int, number: int) -> "tuple[Tensor, ...]":
        """Of pictures of these places, as they are seen."""

    def _looked_at(self, plan: Sequence[list[int]], epoch: int) -> "Generator[Tensor, None, None]":
        if self.augmenter is None:
            for places in plan:
                yield self.seen(self.pictures.read(self.rows[places].tolist()))
            return

        def decode(place: int) -> Pixels:
            pixels: Pixels = self.pictures.read([int(self.rows[place])])[0]
            return pixels

        drawn = augmented_batches(decode, self.augmenter, plan, epoch, workers=self.workers)
        with closing(drawn):
            for _, pixels in drawn:
                yield pixels

    def seen(self, pixels: Pixels) -> "Tensor":
        """uint8 [n, h, w, 3] as the backbone sees them, float32 [n, 3, h, w]."""
        import torch

        return torch.from_numpy(np.stack([self.transform.normalise(one) for one in pixels]))

    @abstractmethod
    def loss(self, batch: "tuple[Tensor, ...]") -> "Tensor":
        """Of one batch."""

    def counts(self, batch: "tuple[Tensor, ...]") -> float:
        """Its pictures."""
        return len(batch[0])

    @abstractmethod
    def stand_in(self, n: int) -> "tuple[Tensor, ...]":
        """A batch of n pictures that nobody took, to try what a step costs."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures of the pictures to choose on, which are seen as they are."""

    def outputs(self, rows: Rows) -> NDArray[np.float32]:
        """float32 [n, …] of pictures as they are, the model being in evaluation mode."""
        import torch

        device = next(self.model.parameters()).device
        answers = []
        with torch.inference_mode():
            for start in range(0, len(rows), self.asked):
                pixels = self.seen(self.pictures.read(rows[start : start + self.asked].tolist()))
                answers.append(self.model(pixels.to(device)).float().cpu().numpy())
        return np.concatenate(answers)

    def epoch_s(self, step_s: float, n: int) -> float:
        """Seconds of an epoch and its validation on the model's device, some pictures of both being tried.

        Args:
            step_s: of a picture's part in a step.
            n: pictures of validation that are tried, at most.
        """
        begin = time.perf_counter()
        n_read = len(next(replace(self, workers=0).batches(0))[0])
        read_s = (time.perf_counter() - begin) / n_read
        # Workers read the next batches during a step.
        picture_s = max(step_s, read_s / self.workers) if self.workers else step_s + read_s
        return len(self.rows) * picture_s + len(self.val_rows) * self._judged_s(n)

    def _judged_s(self, n: int) -> float:
        """Seconds of a picture of validation."""
        rows, was_training = self.val_rows[:n], self.model.training
        if not len(rows):
            return 0.0
        self.model.eval()
        begin = time.perf_counter()
        self.outputs(rows)
        judged_s = (time.perf_counter() - begin) / len(rows)
        self.model.train(was_training)
        return judged_s


@dataclass(kw_only=True)
class NamingTask(PictureTask):
    """A backbone with a classifier on top that learns classes of pictures; `outputs` are logits [n, C].

    Attributes:
        mixer: pixels, targets int64 [n], epoch, number of the batch -> pixels, targets [n, C].
        loss_of: logits [n, C], or those of both classifiers, targets [n, C], what the teacher says [n, C] -> a number.
        teacher: whom it learns from beside the labels, by a picture's place in `rows`; or None.
    """

    mixer: Mixer
    loss_of: "Callable[[Logits, Tensor, Tensor | None], Tensor]"
    teacher: "Teacher | None"

    def _batch(self, pixels: "Tensor", places: list[int], epoch: int, number: int) -> "tuple[Tensor, ...]":
        """Pixels float32 [n, 3, h, w], targets [n, C] and places in `rows` int64 [n]."""
        import torch

        mixed = self.mixer(pixels, torch.from_numpy(self.targets[places]), epoch, number)
        return *mixed, torch.tensor(places)

    def loss(self, batch: "tuple[Tensor, ...]") -> "Tensor":
        """Of one batch."""
        pixels, targets, places = batch
        said = None if self.teacher is None else self.teacher.says(pixels, places)
        return self.loss_of(self.model(pixels), targets, said)

    def stand_in(self, n: int) -> "tuple[Tensor, ...]":
        """As in `PictureTask`."""
        import torch

        pixels = torch.zeros(n, 3, *self.transform.input_px)
        targets = torch.full((n, self.mixer.n_classes), 1 / self.mixer.n_classes)
        return pixels, targets, torch.zeros(n, dtype=torch.int64)

    def validate(self) -> dict[str, float]:
        """Top-1 and loss of the pictures to choose on, which are seen as they are."""
        if not self.chooses:
            return {}
        logits = self.outputs(self.val_rows)
        right = (logits.argmax(1) == self.val_targets).mean()
        top = logits.max(1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(1))
        surprise = float((log_sum - logits[np.arange(len(logits)), self.val_targets]).mean())
        return {"top1": float(right), "val_loss": surprise}


def naming_task(
    recipe: Recipe,
    training: TrainingParams,
    network: "Network",
    backbone: FoundBackbone,
    data: TuningData,
    pictures: Pictures,
    teaching: Teaching | None = None,
    workers: int = 0,
) -> NamingTask:
    """What a recipe trains.

    Args:
        teaching: of the recipe's teacher.
        workers: processes that augment.

    Raises:
        DataError: nothing is left to learn from.
    """
    import torch

    from deponij.pipeline.tuning.learning import groups
    from deponij.pipeline.tuning.losses import distillation_loss, soft_cross_entropy

    taught_by = None if teaching is None else teaching.backbone.identity.fingerprint
    shared = shared_parts(recipe, training, backbone, data, pictures, taught_by)
    targets = shared["targets"]
    weights = None
    if recipe.class_weights:
        weights = torch.from_numpy(class_weights(targets, len(data.names), power=recipe.class_weights))

    def loss(logits: "Logits", truth: "Tensor", said: "Tensor | None") -> "Tensor":
        of_classes = None if weights is None else weights.to(truth.device)
        if said is None or recipe.teacher is None:
            assert not isinstance(logits, tuple), "two classifiers learn from a teacher"
            return soft_cross_entropy(logits.float(), truth, of_classes)
        own = (logits[0].float(), logits[1].float()) if isinstance(logits, tuple) else logits.float()
        return distillation_loss(own, truth, said, recipe.teacher, of_classes)

    return NamingTask(
        **shared,
        model=network,
        mixer=Mixer(recipe.mix, len(data.names), seed=training.seed),
        balance=recipe.balance,
        loss_of=loss,
        teacher=None if teaching is None else teaching.teacher(data, shared["rows"], backbone, recipe),
        parts=groups(
            network.tower, network.heads, lr_decay=recipe.layer_decay, head_lr_factor=recipe.head_lr
        ),
        workers=workers,
    )


def shared_parts(
    recipe: Recipe,
    training: TrainingParams,
    backbone: FoundBackbone,
    data: ToldItems,
    pictures: Pictures,
    taught_by: str | None = None,
) -> dict[str, Any]:
    """Fields of a `PictureTask` that do not depend on what is learned: those of its pictures.

    Args:
        taught_by: identity of the teacher's features.

    Raises:
        DataError: nothing is left to learn from.
    """
    train, val = data.of("train"), data.of("val")
    if not len(train):
        raise DataError("no picture of the train part can be read")
    transform, augmented = backbone.description.transform, recipe.augmented
    learned = [[str(data.items.keys[data.rows[one]]), int(data.targets[one])] for one in (*train, *val)]
    shaping = {
        "recipe": recipe.model_dump(mode="json", exclude={"training"}),
        "backbone": backbone.identity.fingerprint,
        "teacher": taught_by,
        "pictures and labels": sha256_of(json.dumps([data.names.tolist(), learned]).encode()),
    }
    return {
        "pictures": pictures,
        "rows": data.rows[train],
        "targets": data.targets[train],
        "val_rows": data.rows[val],
        "val_targets": data.targets[val],
        "batch_size": training.batch_size,
        "transform": transform,
        "augmenter": Augmenter(
            augmented, transform.input_px, mean=transform.mean, std=transform.std, seed=training.seed
        )
        if augmented.draws
        else None,
        "seed": training.seed,
        "identity": json.dumps(shaping),
    }
