"""Learning to segment, as `pipeline.training` wants it: batches, loss, validation. And the answers of what has learned.

Shape letters: n pictures, C classes, h and w sides in pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.decoders.losses import counted
from deponij.pipeline.metrics.segmentation import Figures, confusion, margins
from deponij.pipeline.training.task import ParameterGroup
from deponij.project.segmentation.drawing import Cut, Drawn
from deponij.project.segmentation.sources import SceneSource

if TYPE_CHECKING:
    from torch import Tensor, nn

Loss = Callable[["Tensor", "Tensor"], "Tensor"]
LabelMap = NDArray[np.uint8]


@dataclass
class SegmentationTask:
    """A network that learns to segment scenes.

    Attributes:
        model: forward(what `source` gives, size_px) -> logits [n, C, h, w].
        ids: pictures to learn from.
        val_ids: to choose on; may be none.
        loss_of: from logits and targets int64 [n, h, w] to a number, a mean over pixels that have a class.
        identity: stands for all that shapes the training, so that no other one's checkpoint is gone on with.
        parts: what learns, and how fast; all that can, alike, by default.
        weights: of each class [C], where that mean is weighted; or None.
    """

    accumulates: ClassVar[bool] = True

    model: "nn.Module"
    source: SceneSource
    ids: Sequence[str]
    val_ids: Sequence[str]
    drawn: Drawn
    loss_of: Loss
    identity: str
    parts: Sequence[ParameterGroup] | None = None
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.drawn.window_px is not None:
            self.source.frame.cells(self.drawn.window_px)

    def groups(self) -> Sequence[ParameterGroup]:
        """What learns."""
        learning = [one for one in self.model.parameters() if one.requires_grad]
        return [ParameterGroup(learning)] if self.parts is None else self.parts

    def n_batches(self) -> int:
        """Of an epoch."""
        return self.drawn.n_batches(len(self.ids))

    def batches(self, epoch: int, first: int = 0) -> Iterator[tuple[Any, "Tensor"]]:
        """Inputs and targets of one epoch from this batch on, read ahead; the same for the same epoch."""
        import torch

        frame = self.source.frame
        with closing(self.source.batches(self.drawn.plan(self.ids, frame, epoch)[first:])) as read:
            for cuts, inputs in read:
                labels = frame.targets(self.source.scenes, cuts)
                yield inputs, torch.from_numpy(labels.astype(np.int64))

    def loss(self, batch: tuple[Any, "Tensor"]) -> "Tensor":
        """Of one batch."""
        inputs, truth = batch
        return self.loss_of(self.model(inputs, tuple(truth.shape[-2:])), truth)

    def counts(self, batch: tuple[Any, "Tensor"]) -> float:
        """Its pixels that have a class."""
        import torch

        return float(counted(batch[1], None if self.weights is None else torch.tensor(self.weights)))

    def validate(self) -> dict[str, float]:
        """mIoU on the pictures to choose on, whole and not mirrored."""
        if not self.val_ids:
            return {}
        n_classes = len(self.source.scenes.classes)
        total = np.zeros((n_classes, n_classes), np.int64)
        for _, truth, answer in answers(self.model, self.source, self.val_ids):
            total += confusion(truth, answer, n_classes)
        return {"miou": float(Figures(n_classes).miou(margins(total[None]).astype(np.float64))[0])}


def answers(
    model: "nn.Module",
    source: SceneSource,
    ids: Sequence[str],
    *,
    both_ways: bool = False,
    batch_size: int = 4,
) -> Iterator[tuple[str, LabelMap, LabelMap]]:
    """(id, label map, answer) of whole pictures, uint8 [h, w] each, in the order of ids.

    Label maps keep their own size: logits are brought to it, as upsampling is part of what decoders do.

    Args:
        both_ways: average the probabilities of the picture and of the mirrored one.
    """
    import torch

    was_training = model.training
    model.eval()
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    with torch.inference_mode(), ExitStack() as stack:
        batches = list(_of_one_size(source, ids, batch_size))
        ways = [
            stack.enter_context(
                closing(source.batches([[Cut(one, None, flip) for one in batch] for batch in batches]))
            )
            for flip in ((False, True) if both_ways else (False,))
        ]
        for batch, *by_way in zip(batches, *ways, strict=True):
            truths = [source.scenes.label_map(one) for one in batch]
            logits = [model(_moved(inputs, device), truths[0].shape) for _, inputs in by_way]
            if both_ways:
                logits = [logits[0].softmax(1) + logits[1].flip(-1).softmax(1)]
            rows = logits[0].argmax(1).to(torch.uint8).cpu().numpy()
            yield from zip(batch, truths, rows, strict=True)
    model.train(was_training)


def _moved(inputs: Any, device: Any) -> Any:
    return [one.to(device) for one in inputs] if isinstance(inputs, list) else inputs.to(device)


def _of_one_size(source: SceneSource, ids: Sequence[str], most: int) -> Iterator[list[str]]:
    """Pictures in runs whose label maps have one size."""
    batch: list[str] = []
    size: tuple[int, ...] = ()
    for one in ids:
        its = source.scenes.label_map(one).shape
        if batch and (len(batch) == most or its != size):
            yield batch
            batch = []
        batch.append(one)
        size = its
    if batch:
        yield batch
