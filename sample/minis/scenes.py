"""What the mini that sees whole scenes learns from: photographs, where each object lies in them, and words for all of it.

Here: rendering, region maps, random windows, words for the ground. Not here: losses and loops (`train_dense`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from deponij.sample.minis.crops import UNSEEN, Crop, cut_out
from deponij.sample.painter import render
from deponij.sample.painter.scene import Scene
from deponij.sample.painter.writer import in_processes

SCENE_PX = 256  # scenes are squashed to a square, as dense features are extracted
GROUND = 0  # region number of what no object covers


@dataclass(frozen=True, slots=True)
class Seen:
    """One photograph: the whole, and its objects cut out.

    Attributes:
        picture: uint8 [SCENE_PX, SCENE_PX, 3].
        regions: uint8 [SCENE_PX, SCENE_PX]; 0 is ground, k is crop k - 1, the uppermost object at each pixel.
        ground: what lies under everything, a key of `deponij.sample.painter.ground.GROUNDS`.
        crops: the objects, in the order of the regions.
    """

    picture: NDArray[np.uint8]
    regions: NDArray[np.uint8]
    ground: str
    crops: list[Crop]


def training_scenes(
    seed: int, scenes: int, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> list[Seen]:
    """Photograph scenes without the unseen classes once each.

    Args:
        seed: of the scenes; must not be a seed that anything is evaluated on.
        scenes: how many to render.
        workers: processes; the result does not depend on it.
        progress: called with (photographs done, photographs).
    """
    seen: list[Seen] = []
    for one in _photographs(seed, scenes, workers):
        seen.append(one)
        if progress is not None:
            progress(len(seen), scenes)
    return seen


def _photographs(seed: int, scenes: int, workers: int) -> Iterator[Seen]:
    return in_processes(_see, [(seed, index) for index in range(scenes)], workers, chunk=8)


def _see(job: tuple[int, int]) -> Seen:
    seed, index = job
    scene = render(seed, index, without=UNSEEN)
    picture = scene.image.resize((SCENE_PX, SCENE_PX), Image.Resampling.BICUBIC)
    return Seen(np.asarray(picture), _regions(scene), scene.ground, cut_out(scene, index))


def _regions(scene: Scene) -> NDArray[np.uint8]:
    regions = Image.new("L", (SCENE_PX, SCENE_PX), GROUND)
    draw = ImageDraw.Draw(regions)
    scale = SCENE_PX / np.array(scene.image.size)
    for number, instance in enumerate(scene.instances, start=1):
        for points in instance.polygons:
            draw.polygon([(float(x), float(y)) for x, y in points * scale], fill=number)
    return np.asarray(regions)


@dataclass(frozen=True, slots=True)
class Windows:
    """Random windows of scenes, each brought to the same size.

    Attributes:
        size_px: side of a window as the model sees it.
        share: side of a window over the scene's, from and to.
    """

    size_px: int = 192
    share: tuple[float, float] = (0.5, 1.0)

    def cut(self, pictures: Tensor, regions: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pictures uint8 [n, s, s, 3] and regions uint8 [n, s, s] to float32 [n, 3, size_px, size_px], 0 to 1, and int64
        [n, size_px, size_px]. Half of the windows are mirrored, their light and colours vary.
        """
        n = len(pictures)
        grid = self._grid(n, generator)
        seen = F.grid_sample(pictures.permute(0, 3, 1, 2).float() / 255, grid, align_corners=False)
        where = F.grid_sample(regions[:, None].float(), grid, mode="nearest", align_corners=False)
        light = 1 + 0.2 * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
        cast = 1 + 0.06 * (2 * torch.rand(n, 3, 1, 1, generator=generator) - 1)
        return (seen * light * cast).clamp(0, 1), where[:, 0].long()

    def _grid(self, n: int, generator: torch.Generator) -> Tensor:
        low, high = self.share
        half = low + (high - low) * torch.rand(n, 2, generator=generator)
        middle = (2 * torch.rand(n, 2, generator=generator) - 1) * (1 - half)
        flip = 2.0 * torch.randint(0, 2, (n,), generator=generator) - 1
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = half[:, 0] * flip, half[:, 1]
        theta[:, :, 2] = middle
        return F.affine_grid(theta, [n, 3, self.size_px, self.size_px], align_corners=False)


_PLAIN = ("background", "the background", "ground", "a photo of background")
_OF_KIND = ("{}", "a photo of {}", "background of {}", "{} and nothing else")


def ground_words(ground: str, generator: torch.Generator) -> tuple[str, bool]:
    """What a person might say of a place where no litter lies, and whether it would do for any ground."""
    draw = int(torch.randint(2 * len(_PLAIN), (), generator=generator))
    if draw < len(_PLAIN):
        return _PLAIN[draw], True
    return _OF_KIND[draw - len(_PLAIN)].format(ground), False
