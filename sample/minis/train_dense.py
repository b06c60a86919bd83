"""Trains the mini whose every position speaks the language of words: an OpenCLIP with a ConvNeXt.

In each step crops learn their captions, as in CLIP; regions of whole scenes the captions of their objects or words for the
ground (as in RegionCLIP: Zhong et al. 2022); and every position the words of what it shows, by a softmax over all words at
hand (as in LSeg: Li et al. 2022). Positions are those of the last stage, normalised and projected each, as `pyramid@K`
stores them. Regions are pooled from them, and once more from all stages together, through layers that are thrown away, so
that finer stages learn what things are, too (deep supervision: Lee et al. 2015).

Shape letters: n windows, r regions of them, d width of the joint space.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deponij.pipeline.tuning.losses import clip_loss
from deponij.sample.minis import models
from deponij.sample.minis.crops import Views, normalise
from deponij.sample.minis.objectives import cell_loss, pooled, region_loss
from deponij.sample.minis.scenes import GROUND, Seen, Windows, ground_words
from deponij.sample.minis.steps import Optimiser, Recipe, Run, batches, tell

DENSE_RECIPE = Recipe(steps=1000, batch=64, lr=2e-3)
_WINDOWS = 12  # a step
_LEAST_SHARE = 0.15  # of one cell; what takes up less has nowhere to be seen
_FINE_WEIGHT = 0.5

Tokenise = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class _Regions:
    """What can be named in a batch of windows: r rows, the ground of a window among them.

    Attributes:
        window: int64 [r], the window that it lies in.
        mask: float32 [r, size, size], 1 where it is seen.
        texts: r captions or words.
        ground: of each, the kind of ground; "" for objects.
        anywhere: bool [r], whether the text would do for any ground.
    """

    window: Tensor
    mask: Tensor
    texts: list[str]
    ground: list[str]
    anywhere: Tensor

    @property
    def alike(self) -> Tensor:
        """bool [r, r]: whether text j would do for region i."""
        texts, grounds = np.array(self.texts), np.array(self.ground)
        same = texts[:, None] == texts[None]
        is_ground = grounds != ""
        same |= (grounds[:, None] == grounds[None]) & is_ground[:, None]
        same |= is_ground[:, None] & self.anywhere.numpy()[None]
        return torch.from_numpy(same)


class _AllStages(nn.Module):
    """The sum of all stages, each normalised and brought to d channels, at stride 8; only for the training."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(one), nn.Conv2d(one, models.WIDTH, 1)) for one in channels
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Stages of strides 4 to 32 to [n, d, h / 8, w / 8]."""
        total: Tensor = F.avg_pool2d(self.layers[0](maps[0]), 2)
        for layer, one in zip(self.layers[1:], maps[1:], strict=True):
            total = total + F.interpolate(
                layer(one), size=total.shape[-2:], mode="bilinear", align_corners=False
            )
        return total


def train_convnext(seen: list[Seen], tokenise: Tokenise, recipe: Recipe, run: Run) -> nn.Module:
    """Contrast of crops and of regions with words.

    Args:
        seen: photographs.
        tokenise: texts to int64 [n, 32].
    """
    model = models.convnext_mini().to(run.device)
    trunk = model.visual.trunk  # type: ignore[union-attr]
    aside = _AllStages([int(one["num_chs"]) for one in trunk.feature_info]).to(run.device)  # type: ignore[union-attr, arg-type]
    optimiser, views = Optimiser([model, aside], recipe), Views(models.IMAGE_PX, (0.75, 1.0), 0.2)
    crops = [crop for one in seen for crop in one.crops]
    pictures = torch.from_numpy(np.stack([crop.centred for crop in crops])).to(run.device)
    tokens = tokenise([crop.caption for crop in crops])
    began_s = time.monotonic()
    for step, rows in batches(recipe, len(pictures), run):
        batch = normalise(views.cut(pictures[rows], run.generator), models.CLIP_MEAN, models.CLIP_STD)
        chosen = torch.randint(len(seen), (_WINDOWS,), generator=run.generator).tolist()
        windows, regions = _windows([seen[i] for i in chosen], run)
        words = torch.cat([tokens[rows], tokenise(regions.texts)]).to(run.device)
        with run.autocast():
            image, text = model.encode_image(batch), model.encode_text(words)  # type: ignore[operator]
            last, all_stages = _maps(model, aside, windows)
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        scale = model.logit_scale.exp()  # type: ignore[operator]
        loss = clip_loss(image, text[: len(rows)], scale)
        named = text[len(rows) :]
        loss = loss + _of_regions(last.float(), regions, named, scale, by_cell=True)
        loss = loss + _FINE_WEIGHT * _of_regions(all_stages.float(), regions, named, scale)
        optimiser.descend(loss, recipe.rate(step))
        with torch.no_grad():  # CLIP clips the inverse temperature at 100
            model.logit_scale.clamp_(0, math.log(100))  # type: ignore[operator]
        tell(run, "convnext", step, recipe, loss.item(), began_s)
    return model.cpu().eval()


def _maps(model: nn.Module, aside: _AllStages, windows: Tensor) -> tuple[Tensor, Tensor]:
    """The projected last stage [n, d, h / 32, w / 32], and all stages [n, d, h / 8, w / 8]."""
    visual: Any = model.visual
    maps: list[Tensor] = visual.trunk.forward_intermediates(windows, intermediates_only=True)[-4:]
    last = F.conv2d(visual.trunk.head.norm(maps[-1]), visual.head.proj.weight[:, :, None, None])
    return last, aside(maps)


def _of_regions(
    maps: Tensor, regions: _Regions, texts: Tensor, scale: Tensor, *, by_cell: bool = False
) -> Tensor:
    """Contrast of pooled regions with their texts; `by_cell` of every position, too, most of which are ground."""
    cell = regions.mask.shape[-1] // maps.shape[-1]
    shares = F.avg_pool2d(regions.mask, cell).to(maps.device)  # [r, h, w]
    large = shares.amax((1, 2)) >= _LEAST_SHARE
    shares, texts, maps = shares[large], texts[large], maps[regions.window][large]
    alike = regions.alike.to(maps.device)[large][:, large]
    # Squared: cells that a region fills say most of it.
    loss = region_loss(pooled(maps, shares**2), texts, alike, scale)
    return loss + cell_loss(maps, shares, texts, alike, scale) if by_cell else loss


def _windows(seen: list[Seen], run: Run) -> tuple[Tensor, _Regions]:
    """Random windows of photographs, normalised [n, 3, size, size], and what is in them."""
    pictures = torch.from_numpy(np.stack([one.picture for one in seen]))
    numbers = torch.from_numpy(np.stack([one.regions for one in seen]))
    windows, where = Windows().cut(pictures, numbers, run.generator)
    rows: list[tuple[int, int]] = []
    texts, grounds, anywhere = [], [], []
    for window, one in enumerate(seen):
        for number in np.unique(where[window].numpy()).tolist():
            text, fits_all = (
                ground_words(one.ground, run.generator)
                if number == GROUND
                else (one.crops[number - 1].caption, False)
            )
            rows.append((window, number))
            texts.append(text)
            grounds.append(one.ground if number == GROUND else "")
            anywhere.append(fits_all)
    mask = torch.stack([where[window] == number for window, number in rows]).float()
    regions = _Regions(torch.tensor([row[0] for row in rows]), mask, texts, grounds, torch.tensor(anywhere))
    normed = normalise(windows, models.CLIP_MEAN, models.CLIP_STD).to(run.device)
    return normed, regions
