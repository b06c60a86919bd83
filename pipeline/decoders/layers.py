"""Parts that decoders are built of: units, spatial pyramid pooling, blends, and the step from features to classes.

The units are SwiftNet's (Oršić et al. 2019, `models/util.py` and `resnet_single_scale.py`): batch norm, ReLU, convolution
without bias.

Shape letters: n pictures, C classes, d width of class vectors; c channels, h and w sides.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, interpolate, normalize

from deponij.pipeline.decoders.decoder import Level
from deponij.store.errors import UsageError

Size = tuple[int, int]


class OnMaps(nn.Module):
    """A module that was made for certain levels, finest first."""

    def __init__(self, levels: Sequence[Level]) -> None:
        super().__init__()
        self.channels = [one.channels for one in levels]

    def forward(self, maps: Sequence[Tensor], size_px: Size) -> Tensor:
        """Maps [n, c, h, w] each, float32 or as they are stored, to logits [n, C, *size_px].

        Raises:
            UsageError: maps of other levels.
        """
        found = [int(one.shape[1]) for one in maps]
        if found != self.channels:
            raise UsageError(
                f"the decoder was made for maps of {self.channels} channels, finest first; got {found}"
            )
        return self.logits(
            [one.to(torch.float32, memory_format=torch.channels_last) for one in maps], size_px
        )

    def logits(self, maps: list[Tensor], size_px: Size) -> Tensor:
        """What `forward` gives, of maps that fit."""
        raise NotImplementedError


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
        width: after the first unit. level_width: of each grid. n_out: after the last unit.
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
        vectors: float32 [C, d]. learned: whether they learn too; those of words stay as they are.
        before: upsample the features, then normalise them (the thesis); else normalise, and upsample logits (LSeg).
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
        """[n, d, h, w] to logits [n, C, *size]."""
        vectors = normalize(self.vectors, dim=1)
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


def upsampled_cosine(features: Tensor, vectors: Tensor, size: Size) -> Tensor:
    """Cosine of bilinearly upsampled features with class vectors, without upsampling d channels: [n, C, *size].

    The products with the vectors commute with the upsampling, which is linear. The length of a mean of four neighbours
    comes from their dot products, |Σ wᵢ xᵢ|² = Σ wᵢ wⱼ xᵢ·xⱼ, of which five small maps hold all. Exact up to rounding.

    Args:
        features: [n, d, h, w]. vectors: [C, d] of unit length.
    """
    if tuple(features.shape[-2:]) == tuple(size):
        return conv2d(normalize(features, dim=1), vectors[:, :, None, None])
    products = resized(conv2d(features, vectors[:, :, None, None]), size)
    return products / _upsampled_length(features, size)


def _upsampled_length(features: Tensor, size: Size) -> Tensor:
    """Lengths of the upsampled features, [n, 1, *size]."""
    device, dtype = features.device, features.dtype
    top, down = _between(features.shape[2], size[0], device, dtype)
    left, right = _between(features.shape[3], size[1], device, dtype)
    below = torch.cat([features[:, :, 1:], features[:, :, -1:]], dim=2)
    beside = torch.cat([features[..., 1:], features[..., -1:]], dim=3)
    across = torch.cat([below[..., 1:], below[..., -1:]], dim=3)

    def at(one: Tensor, other: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return (one * other).sum(dim=1)[:, rows][:, :, columns]  # [n, H, W]

    end = features.shape[2] - 1, features.shape[3] - 1
    rows, columns = top, left
    rows_1, columns_1 = (top + 1).clamp(max=end[0]), (left + 1).clamp(max=end[1])
    y1, x1 = down[:, None], right[None, :]
    y0, x0 = 1 - y1, 1 - x1
    squared = (
        at(features, features, rows, columns) * (y0 * x0) ** 2
        + at(features, features, rows, columns_1) * (y0 * x1) ** 2
        + at(features, features, rows_1, columns) * (y1 * x0) ** 2
        + at(features, features, rows_1, columns_1) * (y1 * x1) ** 2
    )
    mixed = (
        at(features, beside, rows, columns) * (y0 * y0 * x0 * x1)
        + at(features, beside, rows_1, columns) * (y1 * y1 * x0 * x1)
        + at(features, below, rows, columns) * (y0 * y1 * x0 * x0)
        + at(features, below, rows, columns_1) * (y0 * y1 * x1 * x1)
        + at(features, across, rows, columns) * (y0 * y1 * x0 * x1)
        + at(beside, below, rows, columns) * (y0 * y1 * x0 * x1)
    )
    # As `normalize`: no division by nothing.
    return (squared + 2 * mixed).clamp(min=1e-24).sqrt().unsqueeze(1)


def _between(n_cells: int, n_pixels: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of each pixel the cell before it and the weight of the one after, as `interpolate` takes them."""
    place = (torch.arange(n_pixels, device=device, dtype=torch.float64) + 0.5) * (n_cells / n_pixels) - 0.5
    place = place.clamp(min=0)
    before = place.floor().long().clamp(max=n_cells - 1)
    return before, (place - before).to(dtype)


def classes_of(
    width: int, n_classes: int, class_vectors: Tensor | None, temperature: float, *, before: bool
) -> nn.Module:
    """From features [n, width, h, w] to logits: the comparison with words, or a linear layer where there are none."""
    if class_vectors is None:
        return LearnedClasses(width, n_classes)
    return ClassCosine(class_vectors, temperature, before=before)
