"""What a teacher says of pictures: once for all where they always look the same, or of each batch as it is mixed.

Shape letters: n pictures, C classes.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Teacher:
    """A network that no longer learns: pixels to logits, in evaluation mode, without gradients.

    It is no module: a student that has one keeps it out of its own weights and modes.

    Args:
        network: pixels [n, 3, h, w] to logits [n, C]; it is frozen from now on. See `Renormalised` for one whose pixels are
            prepared otherwise than the student's.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network.requires_grad_(False).eval()
        self._known: Tensor | None = None

    @property
    def knows_all(self) -> bool:
        """Whether `remember` was called."""
        return self._known is not None

    def logits(self, pixels: Tensor) -> Tensor:
        """[n, C] of pictures as they are here, float32, on their device."""
        # Somebody may have set the network to training in the meantime, and the student decides where it is.
        self._network.eval().to(pixels.device)
        with torch.no_grad():
            found: Tensor = self._network(pixels)
        return found.float()

    def remember(self, batches: Iterable[Tensor]) -> None:
        """Look at all pictures once.

        Args:
            batches: pixels, in the order of the pictures' numbers from 0, unaugmented.
        """
        self._known = torch.cat([self.logits(pixels).cpu() for pixels in batches])

    def says(self, pixels: Tensor, numbers: Sequence[int] | Tensor) -> Tensor:
        """Logits [n, C] of a batch, on its device: what is remembered, or of the pixels as they are.

        Args:
            numbers: of the pictures, which count only where the teacher remembers; where augmentation or mixing draws, it
                must not.
        """
        if self._known is None:
            return self.logits(pixels)
        places = torch.as_tensor(numbers, dtype=torch.long, device="cpu")
        return self._known[places].to(pixels.device)


class Renormalised(nn.Module):
    """forward(pixels as a student sees them) -> what a teacher with another mean, deviation and size says.

    Args:
        network: the teacher's. own, theirs: (mean, std) of each channel of the student and of the teacher.
        size_px: the teacher's side, to which pixels are resized (bilinear, smoothed); as they come by default.
    """

    factor: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        own: tuple[Sequence[float], Sequence[float]],
        theirs: tuple[Sequence[float], Sequence[float]],
        size_px: int | None = None,
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
        if self.size_px is not None and pixels.shape[2:] != (self.size_px, self.size_px):
            size = [self.size_px, self.size_px]
            pixels = nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        logits: Tensor = self.network(pixels)
        return logits
