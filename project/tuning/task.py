"""Learning to name pictures, as `pipeline.training` wants it: batches, loss, validation.

Shape letters: n pictures, C classes, h and w sides of the input.
"""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from deponij.project.tuning.data import TuningData
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.pictures import Pictures, Pixels
from deponij.store.errors import DataError
from deponij.store.sealed import sha256_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deponij.pipeline.tuning.network import Network

Rows = NDArray[np.int64]
_ASKED = 64  # pictures a forward pass of validation


@dataclass
class NamingTask:
    """A backbone with a classifier on top that learns classes of pictures.

    Attributes:
        model: forward(pixels float32 [n, 3, h, w]) -> logits [n, C].
        pictures: holds those of `rows` and `val_rows`, rows of the items.
        targets, val_targets: numbers of their classes.
        transform: makes pictures ready where nothing is drawn. augmenter: does where something is; None for nothing.
        mixer: pixels, targets int64 [n], epoch, number of the batch -> pixels, targets [n, C].
        balance: power of 1/frequency by which pictures are drawn; 0: each comes once.
        loss_of: logits [n, C], targets [n, C] -> a number.
        identity: stands for all that shapes the training. parts: what learns, and how fast.
        workers: processes that augment; with 0 the training does it itself. They change nothing of what comes out.
    """

    model: "nn.Module"
    pictures: Pictures
    rows: Rows
    targets: Rows
    val_rows: Rows
    val_targets: Rows
    batch_size: int
    transform: Transform
    augmenter: Augmenter | None
    mixer: Mixer
    seed: int
    balance: float
    loss_of: "Callable[[Tensor, Tensor], Tensor]"
    identity: str
    parts: Sequence[ParameterGroup]
    workers: int = 0

    def groups(self) -> Sequence[ParameterGroup]:
        """What learns."""
        return self.parts

    def n_batches(self) -> int:
        """Of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def batches(self, epoch: int, first: int = 0) -> "Iterator[tuple[Tensor, Tensor]]":
        """Pixels float32 [n, 3, h, w] and targets [n, C] of one epoch from this batch on; the same for the same epoch."""
        import torch

        order = epoch_indices(self.targets, seed=self.seed, epoch=epoch, power=self.balance)
        starts = range(0, len(order), self.batch_size)
        plan = [order[start : start + self.batch_size].tolist() for start in starts][first:]
        with closing(self._looked_at(plan, epoch)) as seen:
            for number, (places, pixels) in enumerate(zip(plan, seen, strict=True), first):
                yield self.mixer(pixels, torch.from_numpy(self.targets[places]), epoch, number)

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

    def loss(self, batch: "tuple[Tensor, Tensor]") -> "Tensor":
        """Of one batch."""
        pixels, targets = batch
        return self.loss_of(self.model(pixels), targets)

    def stand_in(self, n: int) -> "tuple[Tensor, Tensor]":
        """A batch of n pictures that nobody took, to try what a step costs."""
        import torch

        pixels = torch.zeros(n, 3, *self.transform.input_px)
        return pixels, torch.full((n, self.mixer.n_classes), 1 / self.mixer.n_classes)

    def validate(self) -> dict[str, float]:
        """Top-1 and loss of the pictures to choose on, which are seen as they are."""
        if not len(self.val_rows):
            return {}
        logits = self.logits(self.val_rows)
        right = (logits.argmax(1) == self.val_targets).mean()
        top = logits.max(1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(1))
        surprise = float((log_sum - logits[np.arange(len(logits)), self.val_targets]).mean())
        return {"top1": float(right), "loss": surprise}

    def logits(self, rows: Rows) -> NDArray[np.float32]:
        """float32 [n, C] of pictures as they are, the model being in evaluation mode."""
        import torch

        device = next(self.model.parameters()).device
        found = []
        with torch.inference_mode():
            for start in range(0, len(rows), _ASKED):
                pixels = self.seen(self.pictures.read(rows[start : start + _ASKED].tolist()))
                found.append(self.model(pixels.to(device)).float().cpu().numpy())
        return np.concatenate(found)


def naming_task(
    recipe: Recipe,
    training: TrainingParams,
    network: "Network",
    found: FoundBackbone,
    data: TuningData,
    pictures: Pictures,
    workers: int = 0,
) -> NamingTask:
    """What a recipe trains.

    Args:
        workers: processes that augment.

    Raises:
        DataError: nothing is left to learn from.
    """
    import torch

    from deponij.pipeline.tuning.learning import groups
    from deponij.pipeline.tuning.losses import soft_cross_entropy

    train, val = (
        np.array([one for one in data.of(part).tolist() if int(data.rows[one]) in pictures], np.int64)
        for part in ("train", "val")
    )
    if not len(train):
        raise DataError("no picture of the train part can be read")
    transform, targets, seed = found.description.transform, data.targets[train], training.seed
    augmented = recipe.augmented
    weights = None
    if recipe.class_weights:
        weights = torch.from_numpy(class_weights(targets, len(data.classes), power=recipe.class_weights))

    def loss(logits: "Tensor", wanted: "Tensor") -> "Tensor":
        return soft_cross_entropy(
            logits.float(), wanted, None if weights is None else weights.to(logits.device)
        )

    shaping = [found.identity.fingerprint, recipe.model_dump(mode="json"), data.classes.tolist()]
    shaping += [[str(data.items.keys[data.rows[one]]), int(data.targets[one])] for one in (*train, *val)]
    return NamingTask(
        model=network,
        pictures=pictures,
        rows=data.rows[train],
        targets=targets,
        val_rows=data.rows[val],
        val_targets=data.targets[val],
        batch_size=training.batch_size,
        transform=transform,
        augmenter=Augmenter(augmented, transform.input_px, mean=transform.mean, std=transform.std, seed=seed)
        if augmented.draws
        else None,
        mixer=Mixer(recipe.mix, len(data.classes), seed=seed),
        seed=seed,
        balance=recipe.balance,
        loss_of=loss,
        identity=sha256_of(json.dumps(shaping, sort_keys=True).encode()),
        parts=groups(network.tower, network.head, lr_decay=recipe.layer_decay, head_lr_factor=recipe.head_lr),
        workers=workers,
    )
