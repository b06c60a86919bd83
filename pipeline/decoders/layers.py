"""Parts that decoders are built of: units, spatial pyramid pooling, blends, and the step from features to classes.

The units are SwiftNet's (Oršić et al. 2019, `models/util.py` and `resnet_single_scale.py`): batch norm, ReLU, convolution
without bias.

Shape letters: n pictures, C classes, d width of class vectors; c channels, h and w sides.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, interpolate, normalize

from deponij.pipeline.decoders.cosines import upsampled_cosine
from deponij.pipeline.decoders.decoder import Level
from deponij.store.errors import UsageError

Size = tuple[int, int]


class OnMaps(nn.Module, ABC):
    """A module that was made for certain levels, finest first."""

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        self.channels = [one.channels for one in levels]

    def forward(self, maps: Sequence[Tensor], size_px: Size) -> Tensor:
        """Maps [n, c, h, w] each, float32 or as they are stored, to logits [n, C, *size_px].

        Raises:
            UsageError: maps of other levels.
        """
        channels = [int(one.shape[1]) for one in maps]
        if channels != self.channels:
            raise UsageError(
                f"the decoder was made for maps of {self.channels} channels, finest first; got {channels}"
            )
        return self.logits(
            [one.to(torch.float32, memory_format=torch.channels_last) for one in maps], size_px
        )

    @abstractmethod
    def logits(self, maps: list[Tensor], size_px: Size) -> Tensor:
        """What `forward` gives, of maps that fit."""


def resized(values: Tensor, size: Sequence[int]) -> Tensor:
    """[n, c, h, w] to [n, c, *size], bilinear, corners not aligned."""
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return interpolate(values, size=tuple(size), mode="bilinear", align_corners=False)


class Unit(nn.Sequential):
    """Batch norm, ReLU, convolution without bias."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 1) -> None:
        super().__init__(
            nn.BatchNorm2d(n_in),
            nn.ReLU(),
            nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=False),
        )


class SpatialPyramidPooling(nn.Module):
    """Means over grids of several sizes, brought back and joined with the map itself.

    Grid g has g rows and max(1, round(g·w/h)) columns.

    Args:
        width: after the first unit.
        level_width: of each grid.
        n_out: after the last unit.
    """

    def __init__(
        self, n_in: int, width: int, level_width: int, n_out: int, grids: Sequence[int] = (6, 3, 2, 1)
    ) -> None:
        super().__init__()
        self.grids = tuple(grids)
        self.first = Unit(n_in, width)
        self.levels = nn.ModuleList(Unit(width, level_width) for _ in self.grids)
        self.fuse = Unit(width + level_width * len(self.grids), n_out)

    def forward(self, values: Tensor) -> Tensor:
        """[n, n_in, h, w] to [n, n_out, h, w]."""
        values = self.first(values)
        height, width = values.shape[-2:]
        parts = [values]
        for grid, level in zip(self.grids, self.levels, strict=True):
            cells = (grid, max(1, round(grid * width / height)))
            parts.append(resized(level(adaptive_avg_pool2d(values, cells)), (height, width)))
        fused: Tensor = self.fuse(torch.cat(parts, dim=1))
        return fused


class Blend(nn.Module):
    """A coarser map brought to the size of a skip, added to it, and mixed by a 3x3 unit."""

    def __init__(self, n_skip: int, width: int) -> None:
        super().__init__()
        self.skip = Unit(n_skip, width)
        self.mix = Unit(width, width, 3)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """[n, width, …] and [n, n_skip, h, w] to [n, width, h, w]."""
        mixed: Tensor = self.mix(self.skip(skip) + resized(coarse, tuple(skip.shape[-2:])))
        return mixed


class ClassCosine(nn.Module):
    """Cosine of each pixel's features with class vectors over a temperature.

    Args:
        vectors: float32 [C, d].
        learned: whether they learn too; those of words stay as they are.
        before: upsample the features, then normalise them (Kombol 2023); else normalise, and upsample logits (LSeg).
    """

    def __init__(self, vectors: Tensor, temperature: float, *, before: bool, learned: bool = False) -> None:
        super().__init__()
        unit = normalize(vectors.float(), dim=1)
        if learned:
            self.vectors = nn.Parameter(unit)
        else:
            self.register_buffer("vectors", unit)
        self.temperature = temperature
        self.before = before

    def forward(self, features: Tensor, size: Size) -> Tensor:
        """[n, d, h, w] to logits [n, C, *size]. Always in float32: half a cosine over 0.01 is off by whole logits."""
        with torch.autocast(features.device.type, enabled=False):
            features, vectors = features.float(), normalize(self.vectors, dim=1)
            if self.before:
                return upsampled_cosine(features, vectors, size) / self.temperature
            cosines = conv2d(normalize(features, dim=1), vectors[:, :, None, None])
            return resized(cosines / self.temperature, size)


class LearnedClasses(nn.Module):
    """A linear layer in the place of words; it commutes with bilinear upsampling, so that few channels are upsampled."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.linear = nn.Conv2d(width, n_classes, 1)

    def forward(self, features: Tensor, size: Size) -> Tensor:
        """[n, width, h, w] to logits [n, C, *size]."""
        return resized(self.linear(self.norm(features).relu()), size)


def classes_of(
    width: int, n_classes: int, class_vectors: Tensor | None, temperature: float, *, before: bool
) -> nn.Module:
    """From features [n, width, h, w] to logits: the comparison with words, or a linear layer where there are none."""
    if class_vectors is None:
        return LearnedClasses(width, n_classes)
    return ClassCosine(class_vectors, temperature, before=before)
