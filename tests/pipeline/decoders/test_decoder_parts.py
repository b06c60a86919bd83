"""Parts of decoders against plain computations in NumPy, and counts of weights against published ones."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from deponij.pipeline.decoders.adapter import Adapter
from deponij.pipeline.decoders.bilinear import Bilinear
from deponij.pipeline.decoders.cosines import upsampled_cosine
from deponij.pipeline.decoders.decoder import Level, numbers_of
from deponij.pipeline.decoders.fpn import FeaturePyramid
from deponij.pipeline.decoders.layers import Blend, ClassCosine, SpatialPyramidPooling, Unit
from deponij.pipeline.decoders.linear import Linear
from deponij.pipeline.decoders.lseg import LSeg
from deponij.pipeline.decoders.swiftnet import SwiftNet

Array = NDArray[np.float64]
STRIDES = (4, 8, 16, 32)
CONVNEXT_B = [
    Level(f"stride{stride}", n, stride) for stride, n in zip(STRIDES, (128, 256, 512, 640), strict=True)
]
EFFICIENTNET = [
    Level(f"stride{stride}", n, stride) for stride, n in zip(STRIDES, (24, 40, 112, 320), strict=True)
]


def unit_rows(n: int, width: int) -> Tensor:
    return normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def settled(module: nn.Module) -> nn.Module:
    """In evaluation, with statistics and weights of batch norms that are not those of the start."""
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d):
            for values in (one.running_mean, one.bias):
                nn.init.normal_(values)
            for values in (one.running_var, one.weight):
                nn.init.uniform_(values, 0.5, 2)
    return module.double().eval()


def plain_unit(unit: Unit, values: Array) -> Array:
    """Batch norm, ReLU and convolution of [c, h, w], by their definitions."""
    norm, _, conv = unit
    stats = [one.detach().numpy()[:, None, None] for one in (norm.running_mean, norm.running_var)]
    weight, bias = (one.detach().numpy()[:, None, None] for one in (norm.weight, norm.bias))
    values = np.maximum((values - stats[0]) / np.sqrt(stats[1] + norm.eps) * weight + bias, 0)
    kernel = conv.weight.detach().numpy()
    assert conv.bias is None
    side = kernel.shape[-1]
    padded = np.pad(values, ((0, 0), (side // 2,) * 2, (side // 2,) * 2))
    height, width = values.shape[1:]
    return sum(
        np.einsum("oc,chw->ohw", kernel[:, :, i, j], padded[:, i : i + height, j : j + width])
        for i in range(side)
        for j in range(side)
    )


def plain_bilinear(values: Array, size: tuple[int, int]) -> Array:
    """[c, h, w] to [c, *size]: centres of pixels aligned, edges held."""
    for axis, n_out in ((1, size[0]), (2, size[1])):
        n_in = values.shape[axis]
        place = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
        low = np.floor(place).astype(int)
        share = (place - low).reshape([-1 if one == axis else 1 for one in range(3)])
        high = np.minimum(low + 1, n_in - 1)
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values


def plain_pooling(values: Array, cells: tuple[int, int]) -> Array:
    """Means of [c, h, w] over a grid whose cells begin at floor(i·h/g) and end before ceil((i+1)·h/g)."""
    bounds = [
        [(i * n // g, -(-(i + 1) * n // g)) for i in range(g)]
        for n, g in zip(values.shape[1:], cells, strict=True)
    ]
    return np.array(
        [[values[:, a:b, c:d].mean(axis=(1, 2)) for c, d in bounds[1]] for a, b in bounds[0]]
    ).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("size", "cells"),
    [
        # round(g·w/h) by hand; Python rounds 2.5 to 2 and 7.5 to 8, as SwiftNet does.
        ((11, 15), [(6, 8), (3, 4), (2, 3), (1, 1)]),
        ((12, 15), [(6, 8), (3, 4), (2, 2), (1, 1)]),
        ((22, 45), [(6, 12), (3, 6), (2, 4), (1, 2)]),
        ((15, 3), [(6, 1), (3, 1), (2, 1), (1, 1)]),
        ((2, 3), [(6, 9), (3, 4), (2, 3), (1, 2)]),
    ],
)
def test_pyramid_pooling(size: tuple[int, int], cells: list[tuple[int, int]]) -> None:
    pooling = settled(SpatialPyramidPooling(5, 4, 3, 6))
    assert isinstance(pooling, SpatialPyramidPooling)
    seen: list[tuple[int, ...]] = []
    for level in pooling.levels:
        level.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:])))
    values = torch.randn(2, 5, *size, dtype=torch.float64)
    found = pooling(values).detach().numpy()
    assert seen == cells
    assert found.shape == (2, 6, *size)
    for one, wanted in zip(values.numpy(), found, strict=True):
        first = plain_unit(pooling.first, one)
        parts = [first]
        for level, grid in zip(pooling.levels, cells, strict=True):
            parts.append(plain_bilinear(plain_unit(level, plain_pooling(first, grid)), size))
        np.testing.assert_allclose(plain_unit(pooling.fuse, np.concatenate(parts)), wanted, atol=1e-12)


@pytest.mark.parametrize(("coarse", "skip"), [((22, 30), (45, 60)), ((11, 15), (22, 30)), ((4, 5), (4, 5))])
def test_a_blend_goes_to_the_skips_own_size(coarse: tuple[int, int], skip: tuple[int, int]) -> None:
    blend = settled(Blend(4, 5))
    assert isinstance(blend, Blend)
    values = torch.randn(1, 5, *coarse, dtype=torch.float64)
    side = torch.randn(1, 4, *skip, dtype=torch.float64)
    found = blend(values, side)[0].detach().numpy()
    joined = plain_unit(blend.skip, side[0].numpy()) + plain_bilinear(values[0].numpy(), skip)
    np.testing.assert_allclose(found, plain_unit(blend.mix, joined), atol=1e-12)


@pytest.mark.parametrize(
    ("cells", "size"),
    [
        ((11, 15), (352, 480)),
        ((22, 30), (45, 60)),
        ((3, 4), (12, 16)),
        ((5, 7), (5, 7)),
        ((7, 5), (3, 4)),
        ((1, 1), (5, 6)),
        ((1, 4), (3, 9)),
    ],
)
def test_cosine_of_upsampled_features(cells: tuple[int, int], size: tuple[int, int]) -> None:
    """As upsampling, normalising and multiplying one after another, gradient included."""
    features = torch.randn(2, 9, *cells, dtype=torch.float64, requires_grad=True)
    vectors = unit_rows(4, 9).double().requires_grad_()
    found = upsampled_cosine(features, vectors, size)
    upsampled = interpolate(features, size=size, mode="bilinear", align_corners=False)
    wanted = torch.einsum("ndhw,cd->nchw", normalize(upsampled, dim=1), vectors)
    torch.testing.assert_close(found, wanted)
    pull = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, (features, vectors), pull),
        torch.autograd.grad(wanted, (features, vectors), pull),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_features_of_nothing_have_a_cosine_of_nothing() -> None:
    features = torch.zeros(1, 4, 2, 2, requires_grad=True)
    found = upsampled_cosine(features, unit_rows(3, 4), (8, 8))
    found.sum().backward()
    assert found.abs().max() == 0
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("before", [False, True])
def test_temperature(before: bool) -> None:
    """A pixel that points where a class does has the cosine 1, at whatever length: a logit of 100 for 0.01."""
    vectors = torch.tensor([[1.0, 0], [0, 1], [0.6, 0.8]])
    features = 7 * vectors[None, 2, :, None, None].expand(1, 2, 2, 3)
    logits = ClassCosine(vectors, 0.01, before=before)(features, (4, 6))
    torch.testing.assert_close(logits, torch.tensor([60.0, 80, 100])[None, :, None, None].expand(1, 3, 4, 6))


def test_what_is_normalised_before_or_after() -> None:
    """Halfway between (3, 0) and (0, 1): the mean (1.5, .5) has the cosine .949 with (1, 0), the mean of cosines is .5."""
    features = torch.tensor([[3.0, 0], [0, 1]]).reshape(1, 2, 1, 2)
    vectors = torch.eye(2)
    for before, wanted in ((True, 1.5 / 2.5**0.5), (False, 0.5)):
        # Of three pixels over two cells the middle one lies halfway.
        logits = ClassCosine(vectors, 1.0, before=before)(features, (1, 3))
        assert logits[0, 0, 0, 1].item() == pytest.approx(wanted)


def test_cosines_stay_in_float32_under_mixed_precision() -> None:
    classes = ClassCosine(unit_rows(3, 16), 0.01, before=True)
    features = torch.randn(1, 16, 3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = classes(features, (12, 16))
    assert torch.equal(logits, classes(features, (12, 16)))


@pytest.mark.parametrize(
    ("settings", "millions"),
    [
        (SwiftNet(), 15.25),
        (SwiftNet(level_width=160), 13.04),
        (SwiftNet(pooled=640, grids=(8, 4, 2, 1)), 15.75),
        (SwiftNet(pooled=640, level_width=160, grids=(8, 4, 2, 1)), 13.29),
    ],
)
def test_weights_of_the_thesis(settings: SwiftNet, millions: float) -> None:
    """Kombol 2023 over ConvNeXt-B's levels, the last one projected to 640; and with SwiftNet's other settings."""
    module = settings.build(CONVNEXT_B, 11, unit_rows(11, 640))
    assert numbers_of(module) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(
    ("settings", "n_weights"),
    [
        # A batch norm has two weights a channel, a layer one for each channel and class, and one for each class.
        (Linear(), 496 * (2 + 11) + 4 * 11),
        (Linear(joined=True), 496 * (2 + 11) + 11),
        (Adapter(), 320 * 320 + 320 + 320 * 320 + 320 + 2 * 320 + 320 * 11 + 11),
        # Class vectors that learn count.
        (LSeg(width=128), 496 * (2 + 128) + 4 * 128 + 11 * 128),
        (FeaturePyramid(), 496 * (2 + 64) + 4 * 64 + 4 * (64 * 64 * 9 + 2 * 64) + 2 * 64 + 64 * 11 + 11),
    ],
)
def test_weights_of_light_decoders(
    settings: Linear | Adapter | LSeg | FeaturePyramid, n_weights: int
) -> None:
    """On EfficientNet-Lite0's four levels with 496 channels together, and 11 classes; `linear` has 6,492."""
    assert numbers_of(settings.build(EFFICIENTNET, 11)) == n_weights


def test_words_do_not_count_as_weights() -> None:
    assert numbers_of(Bilinear().build(CONVNEXT_B, 11, unit_rows(11, 640))) == 0
    with_words = numbers_of(LSeg().build(CONVNEXT_B, 11, unit_rows(11, 640)))
    assert with_words == 1536 * (2 + 640) + 4 * 640


def test_linear_adds_upsampled_logits() -> None:
    levels = [Level("stride4", 3, 4), Level("stride8", 4, 8)]
    module = settled(Linear().build(levels, 2))
    maps = [torch.randn(1, 3, 5, 7, dtype=torch.float64), torch.randn(1, 4, 3, 4, dtype=torch.float64)]
    fine, coarse = (head(one)[0].detach().numpy() for head, one in zip(module.heads, maps, strict=True))
    wanted = plain_bilinear(fine + plain_bilinear(coarse, (5, 7)), (20, 28))
    module.float()
    found = module([one.float() for one in maps], (20, 28))[0].detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_joined_levels_are_those_side_by_side() -> None:
    """As DINOv2's linear head: maps resized to the finest, batch norm, one layer, whose logits are upsampled."""
    levels = [Level("stride4", 3, 4), Level("stride8", 4, 8)]
    module = settled(Linear(joined=True).build(levels, 2)).float()
    maps = [torch.randn(1, 3, 5, 7), torch.randn(1, 4, 3, 4)]
    joined = np.concatenate([maps[0][0].numpy(), plain_bilinear(maps[1][0].numpy(), (5, 7))])
    wanted = module.head(torch.from_numpy(joined)[None].float())[0].detach().numpy()
    found = module(maps, (20, 28))[0].detach().numpy()
    np.testing.assert_allclose(found, plain_bilinear(wanted, (20, 28)), atol=1e-5)


def test_bilinear_wants_the_last_map_in_the_space_of_words() -> None:
    from deponij.store.errors import UsageError

    with pytest.raises(UsageError, match="320 channels and words 640"):
        Bilinear().build(EFFICIENTNET, 11, unit_rows(11, 640))
