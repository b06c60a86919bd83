"""What the minis are shown: never the unseen classes, always the same for the same seed."""

import numpy as np
import pytest
import torch

from deponij.sample.minis.crops import SIDE_PX, UNSEEN, Crops, Views, normalise, training_crops
from deponij.sample.painter import CATEGORIES, NAMES, render


@pytest.fixture(scope="module")
def crops() -> Crops:
    return training_crops(77, 4, workers=1)


def test_crops_fit_together_and_repeat(crops: Crops) -> None:
    n = len(crops.captions)
    assert n > 4
    assert crops.centred.shape == crops.squashed.shape == (n, SIDE_PX, SIDE_PX, 3)
    again = training_crops(77, 4, workers=2)
    assert np.array_equal(again.centred, crops.centred) and again.captions == crops.captions
    assert np.array_equal(again.twins, crops.twins)


def test_twins_are_two_photographs_of_one_object(crops: Crops) -> None:
    first, second = ([i.category for i in render(77, 0, UNSEEN, k).instances] for k in (0, 1))
    inside = crops.twins[crops.twins[:, 0] < len(first)]  # the first scene's
    assert len(inside) > 0 and crops.twins.max() < len(crops.captions)
    assert [first[a] for a, _ in inside] == [second[b - len(first)] for _, b in inside]
    assert not np.array_equal(crops.centred[inside[0, 0]], crops.centred[inside[0, 1]])


def test_unseen_classes_are_never_shown_nor_named() -> None:
    assert len(UNSEEN) == 2 and set(UNSEEN) < set(NAMES)
    scenes = [render(77, index, without=UNSEEN) for index in range(10)]
    assert not {i.category for scene in scenes for i in scene.instances} & set(UNSEEN)
    text = " ".join(i.caption for scene in scenes for i in scene.instances)
    words = [word for name in UNSEEN for word in (name, CATEGORIES[name].plain, *CATEGORIES[name].calls)]
    assert not [word for word in words if word in text]


def test_views_are_random_but_seeded_and_within_range(crops: Crops) -> None:
    pictures = torch.from_numpy(crops.centred)
    views = Views(64, (0.5, 1.0), 0.4, turn=0.3, grey=0.2, hue=1.0, blur=0.2)
    first = views.cut(pictures, torch.Generator().manual_seed(1))
    assert first.shape == (len(pictures), 3, 64, 64) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, views.cut(pictures, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, views.cut(pictures, torch.Generator().manual_seed(2)))


def test_a_view_without_jitter_is_the_scaled_picture_or_its_mirror_image(crops: Crops) -> None:
    pictures = torch.from_numpy(crops.centred)
    view = Views(SIDE_PX, (1.0, 1.0), 0.0, turn=0.0).cut(pictures, torch.Generator().manual_seed(0))
    plain = pictures.permute(0, 3, 1, 2).float() / 255
    # Stretching is cut at the frame, so one side at least is whole; means stay close.
    assert (view.mean((1, 2, 3)) - plain.mean((1, 2, 3))).abs().max() < 0.1


def test_hue_turns_keep_grey_and_brightness() -> None:
    grey = torch.full((3, 8, 8, 3), 100, dtype=torch.uint8)
    turned = Views(8, (1.0, 1.0), 0.0, hue=1.0).cut(grey, torch.Generator().manual_seed(0))
    assert torch.allclose(turned, torch.full_like(turned, 100 / 255), atol=1e-5)
    red = torch.zeros(64, 8, 8, 3, dtype=torch.uint8)
    red[..., 0] = 90
    turned = Views(8, (1.0, 1.0), 0.0, hue=1.0).cut(red, torch.Generator().manual_seed(0))
    assert turned[:, 0].std() > 0.05


def test_normalise_undoes_mean_and_spread() -> None:
    pictures = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    out = normalise(pictures, (0.5, 0.4, 0.1), (0.2, 0.2, 0.1))
    assert torch.allclose(out[:, :2], torch.zeros(2, 2, 4, 4))
    assert torch.allclose(out[:, 2], torch.full((2, 4, 4), 2.0))
