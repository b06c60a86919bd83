"""Windows cover every pixel and blend without seams; the expected values are properties, or torch's own upsampling."""

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from deponij.pipeline.backbones.transform import Resize, Rounding, Transform
from deponij.pipeline.segmenting.segmenter import (
    VOID,
    Segmenter,
    Ways,
    bands,
    label_map,
    score_map,
)
from deponij.pipeline.segmenting.windows import Frame, weight_of
from deponij.store.errors import UsageError

TRANSFORM = Transform(
    resize=Resize.SQUASH,
    resize_px=(32, 32),
    interpolation="bilinear",
    crop_px=None,
    crop_rounding=Rounding.FLOOR,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


class Constant:
    """Answers every window alike."""

    def logits(self, pixels: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
        return torch.tensor([0.0, 2.0, 1.0])[None, :, None, None].expand(len(pixels), 3, *size)


class Red:
    """The first class where the pixels are red, by the pixels themselves."""

    def logits(self, pixels: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
        red = torch.from_numpy(pixels[..., 0].astype(np.float32))[:, None]
        seen = interpolate(red, size=size, mode="area") / 255
        return torch.cat([seen, 1 - seen], dim=1) * 20


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("picture", [(1, 1), (32, 32), (33, 31), (360, 480), (1, 5000), (3000, 40)])
def test_windows_cover_every_pixel(picture: tuple[int, int], overlap: float) -> None:
    frame = Frame((32, 48), 8, overlap)
    seen = frame.seen_px(picture, 2.0, enlarge=False)
    covered = np.zeros(seen, int)
    for top, left in frame.windows(seen):
        assert top % 8 == 0 and left % 8 == 0
        part = covered[top : top + 32, left : left + 48]
        assert part.shape == (32, 48)
        part += 1
    assert covered.min() >= 1


def test_windows_overlap_as_asked() -> None:
    # 32 px windows, half of them seen again: a step of 16; (64 - 32) / 16 + 1 = 3 and (96 - 32) / 16 + 1 = 5.
    frame = Frame((32, 32), 8, 0.5)
    assert frame.windows((64, 96)) == list(product((0, 16, 32), (0, 16, 32, 48, 64)))


def test_a_picture_of_nearly_the_windows_shape_is_one_window() -> None:
    frame = Frame((352, 480), 32)
    assert frame.seen_px((720, 960)) == frame.window_px
    assert frame.seen_px((960, 720)) != frame.window_px


def test_scales_do_not_enlarge_unless_asked() -> None:
    frame = Frame((64, 64), 8)
    assert frame.seen_px((360, 480), 2.0, enlarge=False) == (128, 168)
    assert frame.seen_px((80, 80), 2.0, enlarge=False) == (80, 80)
    assert frame.seen_px((80, 80), 2.0) == (128, 128)
    assert frame.seen_px((1, 5000), 2.0) == (128, 5000)


@pytest.mark.parametrize("wrong", [0.5, 0.0, 9.0, float("nan")])
def test_scales_out_of_range_are_refused(wrong: float) -> None:
    with pytest.raises(UsageError, match="a scale is a number from 1 to 8"):
        Frame((64, 64), 8).seen_px((80, 80), wrong)


@pytest.mark.parametrize("window", [(360, 480), (60, 64), (33, 97)])
def test_windows_that_no_stride_tiles_cover_every_pixel_too(window: tuple[int, int]) -> None:
    """As a decoder may have learned: CamVid's 360 px are eleven cells of 32 and a quarter."""
    frame = Frame(window, 32)
    for picture in ((360, 480), (1000, 777), (37, 1500)):
        for scale in (1.0, 1.7):
            seen = frame.seen_px(picture, scale)
            covered = np.zeros(seen, bool)
            for top, left in frame.windows(seen):
                covered[top : top + window[0], left : left + window[1]] = True
                assert top + window[0] <= seen[0] and left + window[1] <= seen[1]
            assert covered.all()


def test_frames_refuse_what_is_none() -> None:
    with pytest.raises(UsageError, match="nothing in it"):
        Frame((0, 64), 8)
    with pytest.raises(UsageError, match="overlap"):
        Frame((64, 64), 8, 1.0)


def test_weights_are_positive_and_highest_in_the_middle() -> None:
    weight = weight_of((5, 7))
    assert weight.min() > 0
    assert np.unravel_index(weight.argmax(), weight.shape) == (2, 3)


@pytest.mark.parametrize("ways", [Ways(), Ways((1.0, 2.5), flip=True)])
@pytest.mark.parametrize("size", [(48, 32), (97, 211), (1, 1), (1, 700)])
def test_a_constant_map_stays_constant(size: tuple[int, int], ways: Ways) -> None:
    segmenter = Segmenter(Constant(), TRANSFORM, Frame((32, 32), 8), 3, ways)
    grid = segmenter.grid(Image.new("RGB", size[::-1]))
    expected = torch.tensor([0.0, 2.0, 1.0]).softmax(0).numpy()
    np.testing.assert_allclose(grid, np.broadcast_to(expected[:, None, None], grid.shape), atol=1e-6)
    assert (label_map(grid, size) == 1).all()
    assert label_map(grid, size).shape == size


@pytest.mark.parametrize("ways", [Ways(), Ways((1.0, 1.5), flip=True)])
def test_windows_answer_where_they_lie(ways: Ways) -> None:
    pixels = np.zeros((64, 160, 3), np.uint8)
    pixels[:, 100:] = (255, 0, 0)
    segmenter = Segmenter(Red(), TRANSFORM, Frame((32, 32), 8), 2, ways)
    found = label_map(segmenter.grid(Image.fromarray(pixels)), (64, 160))
    truth = np.where(np.arange(160) >= 100, 0, 1)
    # Resized pixels mix at the edge alone.
    far = np.abs(np.arange(160) - 100) > 3
    assert (found[:, far] == truth[far]).all()


@pytest.mark.parametrize("size", [(5, 7), (20, 33), (3, 2), (1, 1)])
def test_bands_upsample_as_torch(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    monkeypatch.setattr("deponij.pipeline.segmenting.segmenter._BAND_BYTES", 4 * 3 * 2 * size[1])
    grid = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    expected = interpolate(torch.from_numpy(grid)[None], size=size, mode="bilinear", align_corners=False)[0]
    found = np.concatenate([part for _, part in bands(grid, size)], axis=1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(score_map(grid, size, 2), expected[2].numpy(), atol=1e-5)


def test_what_is_none_of_the_classes() -> None:
    grid = np.array([[[0.6, 0.1]], [[0.3, 0.2]], [[0.1, 0.7]]], np.float32)
    assert label_map(grid, (1, 2)).tolist() == [[0, 2]]
    assert label_map(grid, (1, 2), n_named=2).tolist() == [[0, VOID]]
    assert label_map(grid, (1, 2), threshold=0.65).tolist() == [[VOID, 2]]


def test_the_grid_is_coarser_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Segmenter(Constant(), TRANSFORM, Frame((32, 32), 8), 3)
    image = Image.new("RGB", (64, 32))
    assert segmenter.grid(image).shape == (3, 32, 64)
    monkeypatch.setattr("deponij.pipeline.segmenting.segmenter._GRID_BYTES", 4 * 3 * 8 * 16)
    assert segmenter.grid(image).shape == (3, 8, 16)
