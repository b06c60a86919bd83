"""What augmentations of stored features are, by their definitions."""

import numpy as np
import torch

from deponij.pipeline.heads.augment import crops, noise_like, some_flipped


def test_a_crop_keeps_one_rectangle_of_at_least_its_share() -> None:
    seen = crops(500, 7, 9, 0.5, np.random.default_rng(0))
    assert seen.shape == (500, 7, 9)
    for one in seen:
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        assert (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all()
        assert one[np.ix_(rows, columns)].all() and one.sum() == len(rows) * len(columns)
        assert len(rows) >= 4 and len(columns) >= 5  # half of 7 and of 9, rounded up
    # Every size and every corner comes up.
    assert {one.any(1).sum() for one in seen} == {4, 5, 6, 7}
    assert {one.any(0).argmax() for one in seen} == {0, 1, 2, 3, 4}


def test_a_crop_of_all_is_all() -> None:
    assert crops(5, 3, 2, 1.0, np.random.default_rng(0)).all()


def test_noise_has_the_stated_deviation_and_no_mean() -> None:
    noise = noise_like(torch.zeros(200, 16, 9), np.random.default_rng(1))
    assert noise.dtype == torch.float32
    # Of 28,800 draws both are known to about 1 / sqrt(n) = 0.006.
    assert abs(float(noise.std()) - 1) < 0.02 and abs(float(noise.mean())) < 0.02


def test_half_of_the_pictures_are_flipped_and_flipped_back() -> None:
    maps = np.random.default_rng(2).normal(size=(1000, 4, 2, 3)).astype(np.float16)
    mirrored = maps[..., ::-1]
    some = some_flipped(maps, mirrored, np.random.default_rng(3))
    is_flipped = (some == mirrored).all(axis=(1, 2, 3))
    assert ((some == maps).all(axis=(1, 2, 3)) ^ is_flipped).all()
    assert 400 < is_flipped.sum() < 600
    # The same draw undoes it.
    back = some_flipped(some, some[..., ::-1], np.random.default_rng(3))
    np.testing.assert_array_equal(back, maps)
