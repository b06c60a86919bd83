"""Sample pictures: the choice is spread and repeatable, thumbnails are bounded, the sheet is one PNG."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from deponij.pipeline.metrics.predictions import Predictions
from deponij.pipeline.reports.samples import RIGHT, WRONG, Sample, choose_samples, data_uri, thumbnail
from deponij.pipeline.reports.sheets import samples_sheet


@pytest.fixture
def found() -> Predictions:
    # 90 of class a, 5 of b, 5 of c; every third answer is wrong.
    truth = np.array(["a"] * 90 + ["b"] * 5 + ["c"] * 5)
    answers = np.where(np.arange(100) % 3 == 0, "z", truth)
    ids = np.array([f"i{i}" for i in range(100)])
    probs = np.full((100, 1), 0.5, np.float32)
    return Predictions(ids, np.full(100, "test"), truth, ids, answers[:, None], probs)


def encoded(size_px: tuple[int, int], form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size_px, (200, 30, 30)).save(file, form)
    return file.getvalue()


def test_choice_is_spread_over_the_classes(found: Predictions) -> None:
    right, wrong = choose_samples(found, 6, seed=0)
    assert sorted(sample.truth for sample in right) == ["a", "a", "b", "b", "c", "c"]
    assert all(sample.correct for sample in right)
    assert not any(sample.correct for sample in wrong)
    assert len({sample.item_id for sample in [*right, *wrong]}) == 12


def test_choice_follows_the_seed(found: Predictions) -> None:
    assert choose_samples(found, 6, seed=0) == choose_samples(found, 6, seed=0)
    assert choose_samples(found, 6, seed=0) != choose_samples(found, 6, seed=1)


def test_fewer_than_asked_for(found: Predictions) -> None:
    right, wrong = choose_samples(found, 1000, seed=0)
    assert (len(right), len(wrong)) == (66, 34)
    assert choose_samples(found, 0, seed=0) == ([], [])


@pytest.mark.parametrize("size_px", [(4000, 20), (20, 3000), (500, 400)])
def test_thumbnails_are_bounded(size_px: tuple[int, int]) -> None:
    image = thumbnail(encoded(size_px), 112)
    assert image is not None
    assert max(image.size) == 112


def test_tiny_crops_are_enlarged() -> None:
    image = thumbnail(encoded((7, 5)), 112)
    assert image is not None
    assert image.size == (56, 40)


def test_what_is_no_picture_has_no_thumbnail() -> None:
    assert thumbnail(b"<html>", 112) is None


def test_data_uri_is_a_small_jpeg() -> None:
    image = thumbnail(encoded((500, 400)), 112)
    assert image is not None
    head, data = data_uri(image).split(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (112, 90)
    assert len(data) < 8000


def test_sheet_frames_right_and_wrong() -> None:
    image = thumbnail(encoded((50, 50)), 144)
    samples = [
        (Sample("i", "cup", "cup", 0.9), image),
        (Sample("j", "cup", "a very long class name indeed", 0.4), None),
    ]
    data = samples_sheet(samples, "title")
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    colours = {colour for _, colour in picture.getcolors(1 << 20) or []}
    assert {RIGHT, WRONG, (200, 30, 30)} <= colours
    assert data == samples_sheet(samples, "title")


def test_an_empty_sheet_is_a_picture_too() -> None:
    assert Image.open(io.BytesIO(samples_sheet([], "nothing"))).size[1] > 44
