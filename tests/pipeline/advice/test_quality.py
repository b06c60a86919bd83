"""Spoilt pictures among sound ones, drawn so that what is wrong with them is known."""

from math import erf

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deponij.pipeline.advice.quality import FAULTS, FEWEST, faults, look


def sound(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Boxes with sharp edges, some noise, of usual brightness."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size[1], size[0], 3), 128.0) + rng.normal(0, 3, (size[1], size[0], 3))
    for _ in range(12):
        x, y = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        pixels[y : y + 12, x : x + 16] = rng.integers(20, 255, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


SOUND = [sound(seed) for seed in range(40)]


def test_sound_pictures_have_no_faults() -> None:
    assert faults([look(image) for image in SOUND]) == {fault: [] for fault in FAULTS}


@pytest.mark.parametrize(
    ("fault", "spoilt"),
    [
        ("blurred", SOUND[7].filter(ImageFilter.GaussianBlur(3))),
        ("dark", Image.eval(SOUND[7], lambda value: value // 8)),
        ("flat", Image.new("RGB", (96, 64), (120, 80, 40))),
        ("dark", Image.new("RGB", (96, 64))),
        ("tiny", SOUND[7].resize((12, 8))),
        ("odd-shape", SOUND[7].crop((0, 0, 96, 12))),
    ],
)
def test_each_fault_is_found_and_no_other_picture_blamed(fault: str, spoilt: Image.Image) -> None:
    looks = [look(image) for image in [*SOUND[:7], spoilt, *SOUND[8:]]]
    found = faults(looks)
    assert found[fault] == [7]  # type: ignore[index]
    assert {row for rows in found.values() for row in rows} == {7}
    if fault in ("dark", "flat"):
        # Black has no contrast, but is dark; grey is flat.
        assert found["flat" if fault == "dark" else "dark"] == []


def test_movement_is_blur_though_edges_across_it_are_lost_alone() -> None:
    pixels = np.asarray(SOUND[3], np.float32)
    moved = np.mean([np.roll(pixels, step, axis=1) for step in range(9)], axis=0).astype(np.uint8)
    assert faults([look(image) for image in [*SOUND[:3], Image.fromarray(moved), *SOUND[4:]]])["blurred"] == [
        3
    ]


def test_noise_of_a_blurred_picture_does_not_count_as_detail() -> None:
    blurred = np.asarray(SOUND[3].filter(ImageFilter.GaussianBlur(3)), np.float32)
    noisy = np.clip(blurred + np.random.default_rng(0).normal(0, 3, blurred.shape), 0, 255).astype(np.uint8)
    assert faults([look(image) for image in [*SOUND[:3], Image.fromarray(noisy), *SOUND[4:]]])["blurred"] == [
        3
    ]


def test_faint_pictures_are_not_called_blurred() -> None:
    """The variance of the Laplacian alone would: it falls with the square of the contrast, here to a twenty-fifth."""
    faint = Image.eval(SOUND[3], lambda value: 100 + value // 5)
    assert look(faint).sharpness == pytest.approx(look(SOUND[3]).sharpness, abs=0.3)


def test_what_all_pictures_of_a_set_are_is_no_fault() -> None:
    """A night camera, thumbnails, a blurred lens: relative to the set nothing stands out."""
    for spoil in (
        lambda image: Image.eval(image, lambda value: value // 8),
        lambda image: image.resize((24, 16)),
        lambda image: image.filter(ImageFilter.GaussianBlur(3)),
    ):
        assert not any(faults([look(spoil(image)) for image in SOUND]).values())  # type: ignore[no-untyped-call]


def test_the_darkest_of_bright_pictures_is_not_dark() -> None:
    """Far from the others, but not past the limit that holds anywhere."""
    bright = [Image.eval(image, lambda value: 200 + value // 6) for image in SOUND]
    bright[5] = Image.eval(SOUND[5], lambda value: 60 + value // 6)
    assert faults([look(image) for image in bright])["dark"] == []


def test_few_pictures_have_no_usual_look() -> None:
    few = [look(Image.new("RGB", (8, 8)))] * (FEWEST - 1)
    assert not any(faults(few).values())


def test_the_measure_is_the_width_of_an_edge() -> None:
    """Of an edge blurred by sigma the ratio is 1 / (2 sigma^2); the binomial filter adds a variance of 1/2 to sigma^2.

    Of an upright edge it is least along the diagonals, by cos^4 over cos^2 of 45 degrees: a half.
    """
    line = np.arange(200) - 99.5
    for sigma in (2.0, 3.0, 4.0):
        values = [127 * (1 + erf(x / (sigma * 2**0.5))) for x in line]
        edge = Image.fromarray(np.tile(np.array(values, np.uint8), (64, 1)))
        expected = np.log(1 / (2 * (sigma**2 + 0.5)) / 2)
        assert look(edge).sharpness == pytest.approx(expected, abs=0.1)


def test_sizes_are_those_of_the_file_where_it_was_decoded_smaller() -> None:
    one = look(SOUND[0], (4000, 3000))
    assert (one.width_px, one.height_px) == (4000, 3000)
