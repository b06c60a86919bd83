"""CutMix and Mixup of a batch by torchvision's own, and targets that say how much of each class is in a picture.

Shape letters: n pictures, C classes, h and w sides in px.
"""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from deponij.pipeline.backbones.lean_imports import without_compiler
from deponij.pipeline.tuning.drawing import drawing
from deponij.store.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


class MixParams(BaseModel):
    """How pictures of a batch are mixed; by default not at all. DeiT has mixup 0.8, cutmix 1.0, smoothing 0.1.

    Attributes:
        mixup, cutmix: α of the Beta distribution that the share is drawn from, or None. With both, each has half of the
            mixed batches.
        probability: that a batch is mixed.
        smoothing: share of each target that is spread evenly over all classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixup: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    cutmix: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    probability: float = Field(default=1.0, ge=0, le=1)
    smoothing: float = Field(default=0.0, ge=0, lt=1)

    @property
    def draws(self) -> bool:
        """Whether pictures are ever mixed."""
        return self.probability > 0 and (self.mixup is not None or self.cutmix is not None)


class Mixer:
    """Batches and class numbers to mixed batches and soft targets.

    A picture is mixed with the one before it in the batch, so batches must be shuffled. The draws are those of the seed, the
    epoch and the batch's number, the same on every device.

    Args:
        n_classes: C.

    Raises:
        UsageError: mixing of fewer than two classes.
    """

    def __init__(self, params: MixParams, n_classes: int, *, seed: int = 0) -> None:
        if n_classes < 2:
            raise UsageError(f"there are targets of at least 2 classes, not of {n_classes}")
        self.params, self.n_classes, self.seed = params, n_classes, seed

    def __call__(
        self, pixels: "Tensor", labels: "Tensor", epoch: int, number: int
    ) -> "tuple[Tensor, Tensor]":
        """Mixed pixels, and targets float32 [n, C] whose rows sum to 1; what comes in is left as it is.

        With CutMix a target's share is exactly the share of the pixels that are kept.

        Args:
            pixels: float [n, 3, h, w].
            labels: int64 [n].
            number: the batch's, in its epoch.

        Raises:
            DataError: a class number is not below C.
        """
        import torch
        from torch.nn.functional import one_hot

        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.n_classes:
            raise DataError(f"class numbers go to {int(labels.max())}; there are {self.n_classes} classes")
        params = self.params
        kinds = [one for one in ("mixup", "cutmix") if getattr(params, one) is not None]
        with drawing(self.seed, "mix", epoch, number):
            if kinds and float(torch.rand(())) < params.probability:
                kind = kinds[int(torch.randint(len(kinds), ()))]
                pixels, targets = self._mixed(kind, pixels, labels)
            else:
                targets = one_hot(labels, self.n_classes).float()
        return pixels, smoothed(targets, params.smoothing)

    def _mixed(self, kind: str, pixels: "Tensor", labels: "Tensor") -> "tuple[Tensor, Tensor]":
        with without_compiler():
            from torchvision.transforms import v2
        made = v2.MixUp if kind == "mixup" else v2.CutMix
        mixed, targets = made(alpha=getattr(self.params, kind), num_classes=self.n_classes)(pixels, labels)
        return mixed, targets.float()


def smoothed(targets: "Tensor", smoothing: float) -> "Tensor":
    """Targets [n, C] of which a share is spread evenly over all classes, as torch's `label_smoothing` does."""
    return targets * (1 - smoothing) + smoothing / targets.shape[1]
