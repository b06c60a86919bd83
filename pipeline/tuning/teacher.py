"""What a teacher says of pictures: known beforehand where they always look the same, or of each batch as it is mixed.

Shape letters: n pictures, C classes, m pictures that are known.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Teacher:
    """A network that no longer learns: pixels to logits, in evaluation mode, without gradients.

    It is no module: a student that has one keeps it out of its own weights and modes.

    Args:
        network: pixels [n, 3, h, w] to logits [n, C]; it is frozen from now on. See `Renormalised` for one whose pixels are
            prepared otherwise than the student's. None where what it says is known.
        known: logits float32 [m, C] of all pictures, in the order of their numbers. Where augmentation or mixing draws,
            there must be a network instead.
    """

    def __init__(self, network: nn.Module | None, known: Tensor | None = None) -> None:
        if (network is None) is (known is None):
            raise ValueError("a teacher is a network, or what it says is known")
        self._network = None if network is None else network.requires_grad_(False).eval()
        self._known = known

    def says(self, pixels: Tensor, numbers: Tensor) -> Tensor:
        """Logits float32 [n, C] of a batch, on its device.

        Args:
            pixels: as they are here.
            numbers: of the pictures, int64 [n], which count only where what it says is known.
        """
        if self._known is not None:
            return self._known[numbers.cpu()].to(pixels.device)
        assert self._network is not None
        # Somebody may have set the network to training in the meantime, and the student decides where it is.
        self._network.eval().to(pixels.device)
        with torch.no_grad():
            answer: Tensor = self._network(pixels)
        return answer.float()


class Renormalised(nn.Module):
    """forward(pixels as a student sees them) -> what a teacher with another mean, deviation and size says.

    Args:
        network: the teacher's.
        own, theirs: (mean, std) of each channel of the student and of the teacher.
        size_px: (height, width) of the teacher, to which pixels are resized (bilinear, smoothed); as they come by default.
    """

    factor: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        own: tuple[Sequence[float], Sequence[float]],
        theirs: tuple[Sequence[float], Sequence[float]],
        size_px: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.size_px = network, size_px
        (mean, std), (to_mean, to_std) = (
            [torch.tensor(one).view(3, 1, 1) for one in pair] for pair in (own, theirs)
        )
        self.register_buffer("factor", std / to_std, persistent=False)
        self.register_buffer("shift", (mean - to_mean) / to_std, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        pixels = pixels * self.factor + self.shift
        if self.size_px not in (None, tuple(pixels.shape[2:])):
            pixels = nn.functional.interpolate(pixels, self.size_px, mode="bilinear", antialias=True)
        logits: Tensor = self.network(pixels)
        return logits
