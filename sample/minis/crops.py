"""What the minis learn from: crops of generated photographs with their captions, and random views of them.

Every scene's litter is photographed twice, in other poses, on another ground and in another light.

Here: rendering, cropping by the tight box, augmentation in batches. Not here: losses and loops (`train`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from deponij.sample.painter import render
from deponij.sample.painter.scene import Scene
from deponij.sample.painter.writer import in_processes

# Never shown in training, neither as a picture nor in a caption.
UNSEEN: tuple[str, ...] = ("beverage carton", "glove")
SIDE_PX = 80  # crops are kept a little larger than the models' 64, so that views can be cut from them


@dataclass(frozen=True)
class Crops:
    """Training pictures uint8 [n, SIDE_PX, SIDE_PX, 3] and their captions.

    `centred`: shortest side scaled, middle cut out (OpenCLIP, DINOv2). `squashed`: both sides scaled (SigLIP).
    `twins` [m, 2]: rows of the same object in its scene's two photographs, for objects seen in both.
    """

    centred: NDArray[np.uint8]
    squashed: NDArray[np.uint8]
    captions: list[str]
    twins: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Crop:
    """One object of a photograph, see `Crops`; `thing` is the number of its scene and its own there."""

    thing: tuple[int, int]
    centred: NDArray[np.uint8]
    squashed: NDArray[np.uint8]
    caption: str


def training_crops(
    seed: int, scenes: int, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> Crops:
    """Photograph scenes without the unseen classes twice each and cut out every object.

    Args:
        seed: of the scenes; must not be a seed that anything is evaluated on.
        scenes: how many to render.
        workers: processes; the result does not depend on it.
        progress: called with (photographs done, photographs).
    """
    crops: list[Crop] = []
    for done, part in enumerate(_photographs(seed, scenes, workers), start=1):
        crops.extend(part)
        if progress is not None:
            progress(done, 2 * scenes)
    rows: dict[tuple[int, int], list[int]] = {}
    for row, crop in enumerate(crops):
        rows.setdefault(crop.thing, []).append(row)
    return Crops(
        np.stack([crop.centred for crop in crops]),
        np.stack([crop.squashed for crop in crops]),
        [crop.caption for crop in crops],
        np.array([pair for pair in rows.values() if len(pair) == 2], dtype=np.int64).reshape(-1, 2),
    )


def _photographs(seed: int, scenes: int, workers: int) -> Iterator[list[Crop]]:
    jobs = [(seed, index, photograph) for index in range(scenes) for photograph in (0, 1)]
    return in_processes(_cut, jobs, workers, chunk=8)


def _cut(job: tuple[int, int, int]) -> list[Crop]:
    seed, index, photograph = job
    return cut_out(render(seed, index, without=UNSEEN, photograph=photograph), index)


def cut_out(scene: Scene, index: int) -> list[Crop]:
    """Every object of scene number `index`, by its tight box."""
    crops = []
    for instance in scene.instances:
        corners = np.concatenate(instance.polygons)
        x0, y0 = np.floor(corners.min(0)).astype(int)
        x1, y1 = np.ceil(corners.max(0)).astype(int)
        crop = scene.image.crop((int(x0), int(y0), max(int(x1), int(x0) + 1), max(int(y1), int(y0) + 1)))
        squashed = np.asarray(crop.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
        thing = (index, instance.number)
        crops.append(Crop(thing, np.asarray(_middle(crop)), squashed, instance.caption))
    return crops


def _middle(crop: Image.Image) -> Image.Image:
    factor = SIDE_PX / min(crop.size)
    width, height = (max(SIDE_PX, round(side * factor)) for side in crop.size)
    left, top = (width - SIDE_PX) // 2, (height - SIDE_PX) // 2
    scaled = crop.resize((width, height), Image.Resampling.BICUBIC)
    return scaled.crop((left, top, left + SIDE_PX, top + SIDE_PX))


@dataclass(frozen=True)
class Views:
    """How random views are cut.

    Attributes:
        size_px: side of a view.
        area: share of the picture seen, from and to.
        colour: strength of the jitter of brightness, contrast, saturation and cast.
        turn: largest rotation, in radians.
        grey, blur: probabilities that a view is grey or soft.
        hue: largest rotation of the colours, in half turns.
    """

    size_px: int
    area: tuple[float, float]
    colour: float
    turn: float = 0.15
    grey: float = 0.0
    hue: float = 0.0
    blur: float = 0.0

    def cut(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """Random views of a batch.

        Args:
            pictures: uint8 [n, s, s, 3], on any device.
            generator: source of all randomness, on the CPU, so that the device does not change the views.

        Returns:
            float32 [n, 3, size_px, size_px], 0 to 1.
        """
        x = pictures.permute(0, 3, 1, 2).float() / 255
        x = F.grid_sample(
            x, self._grid(len(x), generator).to(x.device), padding_mode="reflection", align_corners=False
        )
        if self.blur > 0:
            soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
            x = torch.where(_uniform(x, generator) < self.blur, soft, x)
        return self._recolour(x, generator).clamp(0, 1)

    def _grid(self, n: int, generator: torch.Generator) -> Tensor:
        share = self.area[0] + (self.area[1] - self.area[0]) * torch.rand(n, generator=generator)
        stretch = torch.exp((torch.rand(n, generator=generator) - 0.5) * 0.5)
        half_x, half_y = (share.sqrt() * stretch).clamp(max=1), (share.sqrt() / stretch).clamp(max=1)
        shift = torch.rand(n, 2, generator=generator) * 2 - 1
        angle = (torch.rand(n, generator=generator) * 2 - 1) * self.turn
        flip = torch.randint(0, 2, (n,), generator=generator) * 2 - 1
        cos, sin = angle.cos(), angle.sin()
        theta = torch.empty(n, 2, 3)
        theta[:, 0] = torch.stack([cos * half_x * flip, -sin * half_y, shift[:, 0] * (1 - half_x)], 1)
        theta[:, 1] = torch.stack([sin * half_x * flip, cos * half_y, shift[:, 1] * (1 - half_y)], 1)
        return F.affine_grid(theta, [n, 3, self.size_px, self.size_px], align_corners=False)

    def _recolour(self, x: Tensor, generator: torch.Generator) -> Tensor:
        c = self.colour
        x = x * (1 + c * (_uniform(x, generator) * 2 - 1))
        mean = x.mean((1, 2, 3), keepdim=True)
        x = mean + (x - mean) * (1 + c * (_uniform(x, generator) * 2 - 1))
        grey = x.mean(1, keepdim=True)
        colourful = (1 + c * (_uniform(x, generator) * 2 - 1)) * (_uniform(x, generator) >= self.grey)
        x = grey + (x - grey) * colourful
        x = self._turn_hue(x, generator)
        cast = 1 + 0.3 * c * (torch.rand(len(x), 3, 1, 1, generator=generator).to(x.device) * 2 - 1)
        return x * cast

    def _turn_hue(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Rotate the colours about the grey axis by up to `hue` half turns."""
        if self.hue == 0:
            return x
        angle = _uniform(x, generator).reshape(-1, 1, 1).mul(2).sub(1).mul(self.hue * torch.pi)
        third = torch.full((3, 3), 1 / 3, device=x.device)
        cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=x.device) / 3**0.5
        turn = (
            angle.cos() * (torch.eye(3, device=x.device) - third) + angle.sin() * cross + third
        )  # [n, 3, 3]
        return torch.einsum("nij,njhw->nihw", turn, x)


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, generator=generator).to(x.device)


def normalise(pictures: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Pictures [n, 3, h, w] of 0 to 1, normalised per channel."""
    centre, spread = (torch.tensor(values, device=pictures.device)[:, None, None] for values in (mean, std))
    return (pictures - centre) / spread
