"""What is drawn of an epoch: the order of its pictures, how each is changed, how targets are mixed, and the loss of it.

All draws come from seed, epoch and batch, so that a training which was interrupted meets the same.

Shape letters: n pictures, C classes, h and w sides of the input.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.backbones.transform import Transform
from deponij.project.tuning.params import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Of a side: how far `light` shifts a picture at most.
_SHIFT = 0.125


@dataclass(frozen=True)
class Drawn:
    """The draws of one training.

    Attributes:
        targets: int64 [m], of the pictures to learn from.
    """

    recipe: Recipe
    seed: int
    transform: Transform
    targets: NDArray[np.int64]
    n_classes: int

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Places of the m pictures as an epoch meets them; with `balance` some come twice and some not at all."""
        draw = np.random.default_rng(_seed(self.seed, epoch))
        if not self.recipe.balance:
            return draw.permutation(len(self.targets))
        odds = self._rarity(self.recipe.balance)[self.targets]
        return draw.choice(len(self.targets), len(self.targets), p=odds / odds.sum())

    def prepared(
        self, pixels: "Tensor", targets: "Tensor", epoch: int, places: NDArray[np.int64], number: int
    ) -> "tuple[Tensor, Tensor]":
        """Pixels float32 [n, 3, h, w] as the model sees them, and targets float32 [n, C].

        Args:
            pixels: uint8 [n, 3, h, w]. targets: int64 [n]. places: of the pictures. number: of the batch.
        """
        import torch
        from torch.nn.functional import one_hot

        generator = torch.Generator().manual_seed(_seed(self.seed, epoch, number))
        soft = one_hot(targets, self.n_classes).float()
        soft = soft * (1 - self.recipe.label_smoothing) + self.recipe.label_smoothing / self.n_classes
        seen = self.seen(_changed(pixels, self.recipe.augment, generator))
        return self._mixed(seen, soft, np.random.default_rng(_seed(self.seed, epoch, number, 1)))

    def seen(self, pixels: "Tensor") -> "Tensor":
        """uint8 [n, 3, h, w] normalised, float32."""
        import torch

        rows = [self.transform.normalise(one) for one in pixels.permute(0, 2, 3, 1).numpy()]
        return torch.from_numpy(np.stack(rows))

    def loss(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Cross-entropy with soft targets [n, C], mean over the batch; rare classes count more where that is asked for."""
        import torch

        surprise = -torch.log_softmax(logits.float(), dim=1) * targets
        if self.recipe.class_weights:
            weights = torch.from_numpy(self._rarity(self.recipe.class_weights)).to(logits)
            return (surprise * weights).sum() / (targets * weights).sum()
        return surprise.sum(1).mean()

    def _rarity(self, power: float) -> NDArray[np.float64]:
        """1 / share of each class to a power, of mean 1 over the pictures; [C]."""
        shares = np.bincount(self.targets, minlength=self.n_classes) / len(self.targets)
        raw = np.maximum(shares, shares[shares > 0].min()) ** -power
        scaled: NDArray[np.float64] = raw / (raw * shares).sum()
        return scaled

    def _mixed(
        self, pixels: "Tensor", targets: "Tensor", draw: np.random.Generator
    ) -> "tuple[Tensor, Tensor]":
        """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019) with the batch in another order; of both, one by chance."""
        import torch

        ways = [
            name for name, alpha in (("mixup", self.recipe.mixup), ("cutmix", self.recipe.cutmix)) if alpha
        ]
        if not ways:
            return pixels, targets
        way = ways[draw.integers(len(ways))]
        alpha = self.recipe.mixup if way == "mixup" else self.recipe.cutmix
        kept = float(draw.beta(alpha, alpha))
        other = torch.from_numpy(draw.permutation(len(pixels)))
        if way == "mixup":
            pixels = kept * pixels + (1 - kept) * pixels[other]
        else:
            height, width = pixels.shape[2:]
            rows, columns = _box(height, width, kept, draw)
            pixels = pixels.clone()
            pixels[:, :, rows, columns] = pixels[other][:, :, rows, columns]
            # What is cut out at the border is smaller than what was drawn: the share that is seen counts.
            kept = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        return pixels, kept * targets + (1 - kept) * targets[other]


def _box(height: int, width: int, kept: float, draw: np.random.Generator) -> tuple[slice, slice]:
    """A box of 1 - kept of the area around a random pixel, as far as it lies inside."""
    share = np.sqrt(1 - kept)
    sides = []
    for side in (height, width):
        middle, half = int(draw.integers(side)), int(side * share) // 2
        sides.append(slice(max(0, middle - half), min(side, middle + half)))
    return sides[0], sides[1]


def _changed(pixels: "Tensor", how: str, generator: "torch.Generator") -> "Tensor":
    """uint8 [n, 3, h, w], half of them mirrored, and shifted by up to an eighth of a side."""
    import torch

    if how == "none":
        return pixels
    n, _, height, width = pixels.shape
    mirrored = torch.rand(n, generator=generator) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    if how == "flips":
        return pixels
    reach = (max(1, int(_SHIFT * height)), max(1, int(_SHIFT * width)))
    downs = torch.randint(-reach[0], reach[0] + 1, (n,), generator=generator)
    rights = torch.randint(-reach[1], reach[1] + 1, (n,), generator=generator)
    # Mirrored at the edge: index -1 is row 0, h is row h - 1.
    rows = _reflected(torch.arange(height)[None] + downs[:, None], height)
    columns = _reflected(torch.arange(width)[None] + rights[:, None], width)
    pictures, channels = torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None]
    return pixels[pictures, channels, rows[:, None, :, None], columns[:, None, None, :]]


def _reflected(index: "Tensor", side: int) -> "Tensor":
    import torch

    index = torch.where(index < 0, -1 - index, index)
    return torch.where(index >= side, 2 * side - 1 - index, index)


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:7], "big")
