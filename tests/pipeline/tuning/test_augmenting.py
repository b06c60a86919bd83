"""Augmentation: the same bytes for the same picture and epoch, torchvision's own arithmetic, bounds of every change."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torchvision.transforms import v2

from deponij.pipeline.tuning.augmenting import PRESETS, Augmenter, AugmentParams, preset
from deponij.pipeline.tuning.drawing import drawing, seed_of
from deponij.store.errors import DataError, UsageError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICTURES: list[NDArray[np.uint8]] = [
    np.random.default_rng(number).integers(0, 256, (40, 52, 3), dtype=np.uint8) for number in range(4)
]


def made(params: AugmentParams, size_px: int = 32, seed: int = 0) -> Augmenter:
    return Augmenter(params, size_px, mean=MEAN, std=STD, seed=seed)


def plain(size_px: int = 40) -> Augmenter:
    """Values 0..1 as they are."""
    return Augmenter(AugmentParams(), size_px, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.mark.parametrize("name", PRESETS)
def test_a_picture_is_the_same_whoever_asks_and_when(name: str) -> None:
    augmenter = made(preset(name))
    together = augmenter.batch(PICTURES, 3, [0, 1, 2, 3])
    assert (
        together.shape == (4, 3, 32, 32)
        and together.dtype == torch.float32
        and torch.isfinite(together).all()
    )
    for number in (2, 0, 3, 1):
        assert torch.equal(made(preset(name)).one(PICTURES[number], 3, number), together[number])
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda number: augmenter.one(PICTURES[number], 3, number), range(4)))
    assert torch.equal(torch.stack(found), together)
    pixels = torch.from_numpy(np.stack(PICTURES)).permute(0, 3, 1, 2)
    assert torch.equal(augmenter.batch(pixels, 3, range(4)), together)
    # other epochs, numbers and seeds give other pictures, where something is drawn
    others = (augmenter.batch(PICTURES, 4, range(4)), augmenter.batch(PICTURES, 3, range(1, 5)))
    others += (made(preset(name), seed=1).batch(PICTURES, 3, range(4)),)
    assert all(torch.equal(one, together) != augmenter.params.draws for one in others)


def test_generators_are_left_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    wanted = torch.rand(2), np.random.rand(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = [one.copy() for one in PICTURES]
    made(preset("heavy")).batch(PICTURES, 0, range(4))
    assert (
        torch.equal(torch.rand(2), wanted[0])
        and np.random.rand() == wanted[1]
        and random.random() == wanted[2]
    )
    assert all((one == other).all() for one, other in zip(PICTURES, before, strict=True))


def test_without_draws_it_is_resizing_cropping_and_normalising() -> None:
    """torchvision's own functions one after the other."""
    found = made(AugmentParams()).one(PICTURES[0], 0, 0)
    pixels = torch.from_numpy(PICTURES[0]).permute(2, 0, 1)
    resized = v2.functional.resize(pixels, [32], v2.InterpolationMode.BICUBIC, antialias=True)
    cropped = v2.functional.center_crop(resized, [32])
    wanted = (cropped / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 52), (52, 40), (40, 40), (36, 36), (17, 90)])
def test_of_a_square_input_covering_is_resizing_the_short_side(shape: tuple[int, int]) -> None:
    """torchvision's `Resize` of one number, bit for bit."""
    picture = np.random.default_rng(7).integers(0, 256, (*shape, 3), dtype=np.uint8)
    augmenter = Augmenter(AugmentParams(), 36, mean=(0, 0, 0), std=(1, 1, 1))
    resize = v2.Resize(36, v2.InterpolationMode.BICUBIC, antialias=True)
    wanted = v2.CenterCrop(36)(resize(torch.from_numpy(picture).permute(2, 0, 1)))
    assert torch.equal(
        augmenter.one(picture, 0, 0), v2.functional.to_dtype(wanted, torch.float32, scale=True)
    )


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (50, 50), (30, 200), (200, 30)])
def test_of_another_input_a_picture_is_covered_and_its_middle_taken(shape: tuple[int, int]) -> None:
    """A ramp along the side that is cut keeps its middle, along the other its ends (bilinear, of pixels' centres)."""
    size_px = (48, 64)
    augmenter = Augmenter(AugmentParams(interpolation="bilinear"), size_px, mean=(0, 0, 0), std=(1, 1, 1))
    is_wide = shape[1] / shape[0] >= 64 / 48
    scale = 48 / shape[0] if is_wide else 64 / shape[1]
    for axis in (0, 1):
        ramp = np.linspace(0, 255, shape[axis]).round().astype(np.uint8)
        picture = np.broadcast_to(ramp[:, None, None] if axis == 0 else ramp[None, :, None], (*shape, 3))
        found = augmenter.one(picture, 0, 0)
        assert found.shape == (3, *size_px)
        line = 255 * found[0].mean(1 - axis)
        whole = shape[axis] * scale
        centres = (np.arange(size_px[axis]) + 0.5 + (whole - size_px[axis]) / 2) / scale - 0.5
        wanted = np.clip(centres, 0, shape[axis] - 1) * 255 / (shape[axis] - 1)
        # Values are whole numbers, a side of the scaled picture too, and its cut may be half a pixel off.
        step = 255 / (shape[axis] - 1) / scale
        assert np.abs(line.numpy() - wanted)[2:-2].max() <= step + 1.5


def test_crops_of_another_input_keep_its_proportions_on_average() -> None:
    """Parts are as wide by as high as the input, times what `ratio` allows; so the scales of both axes differ by that."""
    params = AugmentParams(crop="resized", scale=(0.2, 0.4), ratio=(0.8, 1.25), interpolation="bilinear")
    augmenter = Augmenter(params, (40, 80), mean=(0, 0, 0), std=(1, 1, 1))
    side = 256
    rows = np.broadcast_to(np.arange(side, dtype=np.uint8)[:, None, None], (side, 2 * side, 3))
    columns = np.broadcast_to((np.arange(2 * side) // 2).astype(np.uint8)[None, :, None], (side, 2 * side, 3))
    for epoch in range(30):
        down = 255 * augmenter.one(rows, epoch, 0)[0].mean(1)
        along = 255 * 2 * augmenter.one(columns, epoch, 0)[0].mean(0)
        # Source pixels a pixel of the input, of both axes.
        high, wide = float(down[-5] - down[4]) / 31, float(along[-5] - along[4]) / 71
        assert 0.75 <= wide / high <= 1.33


def test_padded_crops_of_another_input() -> None:
    white = np.full((48, 64, 3), 255, np.uint8)
    augmenter = Augmenter(AugmentParams(crop="padded", padding_px=3), (48, 64), mean=(0, 0, 0), std=(1, 1, 1))
    moved = set()
    for epoch in range(60):
        picture = augmenter.one(white, epoch, 0)[0]
        assert picture.shape == (48, 64)
        moved |= {int((picture.max(1).values == 0).sum()), int((picture.max(0).values == 0).sum())}
    assert moved == {0, 1, 2, 3}


def test_flips_are_of_the_asked_axes() -> None:
    square = PICTURES[0][:, :40]
    pixels = plain().one(square, 0, 0)
    for settings, axes in [
        ({"horizontal_flip": 1}, (2,)),
        ({"vertical_flip": 1}, (1,)),
        ({"horizontal_flip": 1, "vertical_flip": 1}, (1, 2)),
    ]:
        flipped = Augmenter(AugmentParams.model_validate(settings), 40, mean=(0, 0, 0), std=(1, 1, 1))
        assert torch.equal(flipped.one(square, 0, 0), pixels.flip(axes))
    half = Augmenter(AugmentParams(horizontal_flip=0.5), 40, mean=(0, 0, 0), std=(1, 1, 1))
    n = sum(not torch.equal(half.one(square, epoch, 0), pixels) for epoch in range(100))
    assert 35 <= n <= 65  # three deviations around 50


def test_padding_moves_a_picture_by_at_most_so_many_pixels() -> None:
    """A white picture over black: the black margin is as wide as it was moved."""
    white = np.full((32, 32, 3), 255, np.uint8)
    augmenter = Augmenter(AugmentParams(crop="padded", padding_px=4), 32, mean=(0, 0, 0), std=(1, 1, 1))
    moved = set()
    for epoch in range(60):
        picture = augmenter.one(white, epoch, 0)[0]
        rows, columns = int((picture.max(1).values == 0).sum()), int((picture.max(0).values == 0).sum())
        moved |= {rows, columns}
    assert moved == {0, 1, 2, 3, 4}


def test_a_resized_crop_is_torchvisions_for_the_same_draws() -> None:
    params = AugmentParams(crop="resized", scale=(0.2, 0.6), interpolation="bilinear")
    found = Augmenter(params, 32, mean=(0, 0, 0), std=(1, 1, 1), seed=9).one(PICTURES[1], 2, 1)
    with drawing(9, "augment", 2, 1):
        pixels = torch.from_numpy(PICTURES[1]).permute(2, 0, 1)
        wanted = v2.RandomResizedCrop(32, (0.2, 0.6))(pixels)
    torch.testing.assert_close(found, wanted / 255)


def test_erasing_leaves_noise_in_a_rectangle_of_its_share() -> None:
    """Of a constant picture; 2 to 33 % of the area, of which rounding a side may take or add a row."""
    grey = np.full((40, 40, 3), 128, np.uint8)
    augmenter = Augmenter(AugmentParams(erasing=1), 40, mean=(0.5,) * 3, std=(0.5,) * 3)
    for epoch in range(20):
        erased = ((augmenter.one(grey, epoch, 0) - (128 / 255 * 2 - 1)).abs() > 1e-6).all(0)
        rows, columns = erased.any(1).nonzero().flatten(), erased.any(0).nonzero().flatten()
        frame = erased[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert frame.float().mean() > 0.99 and 0.015 < erased.float().mean() < 0.36


def test_strength_of_rand_augment_is_counted_from_0_to_10() -> None:
    """At 0 geometry and colour stay; at 10 pictures are farther from their own than at 3 (mean over many draws)."""
    square = PICTURES[0][:, :40]
    pixels = plain().one(square, 0, 0)

    def distance(magnitude: float, std: float = 0.0) -> float:
        params = AugmentParams(rand_augment=2, magnitude=magnitude, magnitude_std=std)
        augmenter = Augmenter(params, 40, mean=(0, 0, 0), std=(1, 1, 1))
        return float(
            np.mean([float((augmenter.one(square, epoch, 0) - pixels).abs().mean()) for epoch in range(60)])
        )

    assert distance(0) < distance(3) < distance(10)
    assert distance(3, std=3) != distance(3)


def test_jitter_stays_within_its_bounds() -> None:
    """Of a uniformly grey picture contrast and saturation change nothing, and brightness is multiplied by 0.7 to 1.3."""
    grey = np.full((32, 32, 3), 100, np.uint8)
    augmenter = Augmenter(AugmentParams(jitter=0.3), 32, mean=(0, 0, 0), std=(1, 1, 1))
    values = [float(augmenter.one(grey, epoch, 0).mean()) * 255 for epoch in range(60)]
    assert 69 <= min(values) < 80 and 120 < max(values) <= 131


def test_presets_are_those_of_the_protocols() -> None:
    """DeiT: rand-m9-mstd0.5-inc1 (two operations), erase 0.25; Ćorić (2021) adds jitter (DeiT's 0.3) and vertical flips."""
    deit, heavy = preset("deit"), preset("heavy")
    assert (deit.rand_augment, deit.magnitude, deit.magnitude_std, deit.erasing) == (2, 9, 0.5, 0.25)
    assert (heavy.jitter, heavy.horizontal_flip, heavy.vertical_flip, heavy.crop) == (
        0.3,
        0.5,
        0.5,
        "resized",
    )
    assert [name for name, one in PRESETS.items() if not one.draws] == ["none"]
    with pytest.raises(UsageError, match="deit"):
        preset("diet")
    # What one sees of a picture that nothing draws of is the backbone's own transform, as of one to be chosen on.
    with pytest.raises(ValidationError, match="crop_share"):
        AugmentParams.model_validate({"crop_share": 0.875})


def test_what_is_no_picture() -> None:
    augmenter = made(AugmentParams())
    for wrong in (
        PICTURES[0].astype(np.float32),
        PICTURES[0][..., 0],
        torch.zeros(3, 8, 8),
        np.zeros((8, 8, 4), np.uint8),
    ):
        with pytest.raises(DataError, match="uint8"):
            augmenter.one(wrong, 0, 0)
    with pytest.raises(ValidationError):
        AugmentParams.model_validate({"horizontal_flip": 1.5})
    with pytest.raises(ValidationError):
        AugmentParams.model_validate({"flip": 0.5})
    for bounds in ((1.0, 0.5), (0.0, 1.0), (0.5, float("inf"))):
        with pytest.raises(ValidationError, match="smaller one first"):
            AugmentParams(scale=bounds)


def test_seeds_are_of_their_words() -> None:
    assert seed_of(1, "a", 2) == seed_of(1, "a", 2) != seed_of(1, "a", 3)
    assert seed_of(1, "a", 23) != seed_of(1, "a2", 3) and 0 <= seed_of(0) < 2**56
