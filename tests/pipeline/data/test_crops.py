"""The geometry of crops and their backgrounds, against values worked out by hand and against pycocotools."""

import numpy as np
import pytest
from coco_made import noise
from PIL import Image, ImageFilter
from pycocotools import mask as coco_mask
from pydantic import ValidationError

from deponij.pipeline.data.crops import (
    FILL_RGB,
    Background,
    CropParams,
    Window,
    crop_window,
    cut,
    window_mask,
    with_background,
)
from deponij.store.errors import DataError

FRAME = (100, 80)
TIGHT = CropParams()
SQUARE = CropParams(square=True)

Box = tuple[float, float, float, float]


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((10, 20, 30, 15), (10, 20, 40, 35)),
        ((10.2, 20.9, 30.0, 15.0), (10, 20, 41, 36)),  # 10.2..40.2 and 20.9..35.9, rounded outwards
        ((10.5, 20.5, 0.2, 0.3), (10, 20, 11, 21)),
        ((-1.32, 70, 20, 11.32), (0, 70, 19, 80)),  # past the left and the lower side
        ((90, -5, 50, 10), (90, 0, 100, 5)),
        ((-10, -10, 500, 500), (0, 0, 100, 80)),
        ((0, 0, 100, 80), (0, 0, 100, 80)),
    ],
)
def test_tight_windows_are_rounded_outwards_and_clipped(box: Box, window: Window) -> None:
    assert crop_window(box, FRAME, TIGHT) == window


def test_noise_of_sums_costs_no_pixel() -> None:
    # A box of TACO's own annotation file, whose lower side is meant to lie at 863.
    box = (1619.0000000000002, 751.0, 87.99999999999977, 112.00000000000011)
    assert crop_window(box, (3000, 2000), TIGHT) == (1619, 751, 1707, 863)


@pytest.mark.parametrize(
    "box", [(100, 0, 5, 5), (0, 80, 5, 5), (-9, 0, 9, 5), (0, -20, 5, 10), (300, 300, 5, 5)]
)
def test_boxes_outside_the_frame_are_refused(box: Box) -> None:
    with pytest.raises(DataError, match="outside the photograph of 100 x 80 px"):
        crop_window(box, FRAME, TIGHT)
    with pytest.raises(DataError, match="outside"):
        crop_window(box, FRAME, CropParams(margin=5.0, square=True, min_size_px=50))


def test_margin_is_a_fraction_of_the_longer_side_on_every_side() -> None:
    # 10 % of 40 px is 4 px.
    assert crop_window((20, 20, 40, 10), FRAME, CropParams(margin=0.1)) == (16, 16, 64, 34)
    assert crop_window((2, 20, 40, 10), FRAME, CropParams(margin=0.1)) == (0, 16, 46, 34)


@pytest.mark.parametrize(
    ("box", "params", "window"),
    [
        ((40, 40, 20, 10), SQUARE, (40, 35, 60, 55)),
        ((40, 40, 10, 21), SQUARE, (35, 40, 56, 61)),  # the odd pixel goes right
        ((40, 2, 20, 10), SQUARE, (40, 0, 60, 20)),  # moved inwards
        ((95, 70, 5, 10), SQUARE, (90, 70, 100, 80)),
        ((5, 10, 90, 20), SQUARE, (5, -5, 95, 85)),  # 90 px do not fit into 80
        ((40, 40, 4, 4), CropParams(min_size_px=16), (34, 34, 50, 50)),
        ((0, 76, 4, 4), CropParams(min_size_px=16), (0, 64, 16, 80)),
        ((40, 40, 30, 4), CropParams(min_size_px=16), (40, 34, 70, 50)),
        ((40, 40, 4, 4), CropParams(min_size_px=90), (0, 0, 90, 80)),  # as far as the frame reaches
        ((40, 40, 4, 4), CropParams(min_size_px=90, square=True), (0, -5, 90, 85)),
        ((40, 40, 4, 4), CropParams(min_size_px=200, square=True), (0, -10, 100, 90)),
    ],
)
def test_square_and_minimum_size(box: Box, params: CropParams, window: Window) -> None:
    assert crop_window(box, FRAME, params) == window


def test_every_window_holds_its_box_and_keeps_its_promises() -> None:
    rng = np.random.default_rng(0)
    for _ in range(3000):
        left, top = rng.uniform(-20, FRAME[0]), rng.uniform(-20, FRAME[1])
        box = (left, top, rng.uniform(0.1, 130), rng.uniform(0.1, 130))
        margin, square, least = (
            rng.choice([0.0, 0.3]),
            bool(rng.integers(2)),
            int(rng.choice([0, 7, 60, 150])),
        )
        params = CropParams(margin=float(margin), square=square, min_size_px=least)
        try:
            x0, y0, x1, y1 = crop_window(box, FRAME, params)
        except DataError:
            assert left + box[2] <= 0 or top + box[3] <= 0
            continue
        assert x0 <= max(left, 0)
        assert y0 <= max(top, 0)
        assert x1 >= min(left + box[2], FRAME[0])
        assert y1 >= min(top + box[3], FRAME[1])
        assert x1 - x0 >= min(least, FRAME[0])
        assert y1 - y0 >= min(least, FRAME[1])
        if square:
            assert x1 - x0 == y1 - y0
        inside = x0 >= 0 and y0 >= 0 and x1 <= FRAME[0] and y1 <= FRAME[1]
        assert inside or (square and x1 - x0 > min(FRAME))


def test_cut_is_the_window_with_grey_beyond_the_frame() -> None:
    image = noise(*FRAME)
    all_pixels = np.asarray(image)
    assert np.array_equal(np.asarray(cut(image, (3, 4, 30, 20))), all_pixels[4:20, 3:30])
    padded = np.asarray(cut(image, (5, -5, 95, 85)))
    assert padded.shape == (90, 90, 3)
    assert np.array_equal(padded[5:85], all_pixels[:, 5:95])
    assert (padded[:5] == FILL_RGB).all()
    assert (padded[85:] == FILL_RGB).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"margin": -0.1},
        {"margin": float("nan")},
        {"min_size_px": -1},
        {"background": "black"},
        {"sqare": True},
    ],
)
def test_wrong_parameters_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CropParams.model_validate(fields)


RING = [10.5, 12.0, 60.25, 15.0, 55.0, 70.5, 20.0, 60.0]
HOLE_FREE = [[30.0, 30.0, 50.0, 30.0, 50.0, 50.0], RING]


# pycocotools' decoder is behind NumPy's array protocol; the project itself does not call it.
DECODER_WARNS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def whole_mask(rings: list[list[float]]) -> np.ndarray:
    """The full-frame mask, [height, width], by pycocotools alone."""
    runs = coco_mask.frPyObjects(rings, FRAME[1], FRAME[0])
    return coco_mask.decode(coco_mask.merge(runs)).astype(bool)


@DECODER_WARNS
@pytest.mark.parametrize("window", [(10, 12, 61, 71), (0, 0, *FRAME), (30, 30, 42, 47), (15, 20, 58, 66)])
@pytest.mark.parametrize("rings", [[RING], HOLE_FREE, [RING, [1.0, 2.0]]])
def test_polygons_are_filled_as_in_the_whole_frame(window: Window, rings: list[list[float]]) -> None:
    left, top, right, bottom = window
    usable = [ring for ring in rings if len(ring) >= 6]
    assert np.array_equal(window_mask(rings, window, FRAME), whole_mask(usable)[top:bottom, left:right])


@DECODER_WARNS
def test_polygons_in_a_padded_window() -> None:
    window = (5, -5, 95, 85)
    mask = window_mask([RING], window, FRAME)
    assert np.array_equal(mask[5:85], whole_mask([RING])[:, 5:95])
    assert not mask[:5].any()
    assert not mask[85:].any()


def test_polygons_that_pass_the_frame() -> None:
    mask = window_mask([[-30.0, -20.0, 130.0, -20.0, 130.0, 100.0, -30.0, 100.0]], (0, 0, *FRAME), FRAME)
    assert mask.shape == (80, 100)
    assert mask.all()


@pytest.mark.parametrize("as_text", [True, False])
def test_run_lengths_compressed_and_not(as_text: bool) -> None:
    full = np.random.default_rng(1).random((FRAME[1], FRAME[0])) < 0.3
    compressed = coco_mask.encode(np.asfortranarray(full.astype(np.uint8)))
    counts = compressed["counts"]
    if as_text:
        segmentation: dict[str, object] = {"size": [80, 100], "counts": counts.decode()}
    else:
        flat = full.T.ravel()  # column by column
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *edges.tolist(), flat.size]).tolist()
        segmentation = {"size": [80, 100], "counts": ([0, *runs] if flat[0] else runs)}
    assert np.array_equal(window_mask(segmentation, (0, 0, *FRAME), FRAME), full)
    assert np.array_equal(window_mask(segmentation, (7, 9, 33, 44), FRAME), full[9:44, 7:33])


def test_long_run_lengths_are_read_as_pycocotools_does() -> None:
    wide = np.zeros((700, 900), dtype=np.uint8, order="F")
    wide[100:650, 30:800] = 1
    wide[300:310, 400:410] = 0
    counts = coco_mask.encode(wide)["counts"].decode()
    mask = window_mask({"size": [700, 900], "counts": counts}, (0, 0, 900, 700), (900, 700))
    assert np.array_equal(mask, wide.astype(bool))


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        (None, "has no segmentation"),
        ([], "has no segmentation"),
        ([[1.0, 2.0, 3.0, 4.0]], "covers no pixel"),
        ([[0.0, 0.0, 4.0, 0.0, 4.0, 4.0]], "covers no pixel"),  # outside the window
        ([[1.0, 2.0, 3.0]], "malformed"),
        ([["a", 2, 3, 4, 5, 6]], "malformed"),
        ([[float("nan"), 2, 3, 4, 5, 6]], "malformed"),
        ([[1e9, 2, 3, 4, 5, 6]], "malformed.*further than"),
        ("polygon", "malformed"),
        (7, "malformed"),
        ({"size": [80, 100]}, "malformed"),
        ({"size": [80], "counts": [8000]}, "malformed"),
        ({"size": [100, 80], "counts": [8000]}, "for 80 x 100 px, not for 100 x 80 px"),
        ({"size": [80, 100], "counts": [10, 20]}, "do not add up"),
        ({"size": [80, 100], "counts": [8010, -10]}, "do not add up"),
        ({"size": [80, 100], "counts": [1.5, 7998.5]}, "malformed"),
        ({"size": [80, 100], "counts": "04"}, "do not add up"),
        ({"size": [80, 100], "counts": "\x01\x02"}, "characters that do not belong"),
        ({"size": [80, 100], "counts": "ü"}, "malformed"),
        ({"size": [80, 100], "counts": "o" * 50}, "do not belong"),
        ({"size": [80, 100], "counts": "o"}, "end in the middle"),
        ({"size": [80, 100], "counts": [8000]}, "covers no pixel"),
    ],
)
def test_outlines_that_cannot_be_used_are_named(segmentation: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        window_mask(segmentation, (10, 10, 40, 40), FRAME)


def half_mask() -> np.ndarray:
    mask = np.zeros((30, 40), dtype=bool)
    mask[:, :20] = True
    return mask


def test_blank_background_is_grey_and_the_instance_untouched() -> None:
    crop = noise(40, 30)
    blanked = np.asarray(with_background(crop, half_mask(), Background.BLANK))
    assert np.array_equal(blanked[:, :20], np.asarray(crop)[:, :20])
    assert (blanked[:, 20:] == FILL_RGB).all()


def test_blurred_background_is_smoother_and_the_instance_untouched() -> None:
    crop = noise(40, 30)
    blurred = np.asarray(with_background(crop, half_mask(), Background.BLUR)).astype(float)
    original = np.asarray(crop).astype(float)
    assert np.array_equal(blurred[:, :20], original[:, :20])
    assert blurred[:, 20:].std() < original[:, 20:].std() / 3


@pytest.mark.parametrize("size_px", [(40, 30), (30, 40)])
def test_blur_is_a_twentieth_of_the_longer_side(size_px: tuple[int, int]) -> None:
    crop = noise(*size_px)
    nothing = np.zeros(size_px[::-1], dtype=bool)
    expected = crop.filter(ImageFilter.GaussianBlur(2.0))
    assert np.array_equal(np.asarray(with_background(crop, nothing, Background.BLUR)), np.asarray(expected))


def test_blur_grows_with_the_crop() -> None:
    # An edge blurred at twice the size is as wide as the crop is larger: the same picture, scaled.
    def profile(size_px: int) -> np.ndarray:
        edge = Image.new("RGB", (size_px, size_px), "black")
        edge.paste((255, 255, 255), (size_px // 2, 0, size_px, size_px))
        blurred = with_background(edge, np.zeros((size_px, size_px), dtype=bool), Background.BLUR)
        return np.asarray(blurred)[0, :, 0].astype(float)

    small, large = profile(100), profile(200)
    assert np.abs(small - large.reshape(100, 2).mean(axis=1)).max() < 6


def test_kept_background_is_the_crop_itself() -> None:
    crop = noise(40, 30)
    assert with_background(crop, half_mask(), Background.KEEP) is crop
