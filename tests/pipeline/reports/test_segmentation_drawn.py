"""Pictures of segmentation and what stands beside them: pixels by hand, colours apart, names escaped, what was published."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from deponij.pipeline.reports.segmentation.colours import as_array, class_colours
from deponij.pipeline.reports.segmentation.facts import chosen_pictures
from deponij.pipeline.reports.segmentation.pictures import error_map, overlay
from deponij.pipeline.reports.segmentation.published import published_for
from deponij.pipeline.reports.segmentation.similarity_plot import similarity_svg
from deponij.store.label_maps import VOID, VOID_COLOUR

COLOURS = [(200, 0, 0), (0, 0, 200)]
CAMVID = [
    *("Sky", "Building", "Pole", "Road", "Pavement", "Tree"),
    *("SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
]


def halves(height: int = 40, width: int = 60) -> tuple[Image.Image, np.ndarray]:
    """A grey photograph, and a label map of two halves whose last rows are void."""
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    labels[-8:] = VOID
    return Image.new("RGB", (width, height), (100, 100, 100)), labels


def test_an_overlay_has_the_colours_of_the_classes_and_an_outline_between() -> None:
    photograph, labels = halves()
    found = np.asarray(overlay(photograph, labels, as_array(COLOURS)))
    # 0.4 of the photograph and 0.6 of the colour.
    assert found[2, 2].tolist() == [160, 40, 40] and found[2, 57].tolist() == [40, 40, 160]
    assert found[2, 29].tolist() == [24, 24, 24]
    void = {tuple(pixel) for pixel in found[-6:, 2:-2].reshape(-1, 3).tolist()}
    assert void == {(114, 114, 114), (255, 255, 255)}


def test_a_number_stands_in_each_large_region() -> None:
    photograph, labels = halves()
    found = np.asarray(overlay(photograph, labels, as_array(COLOURS)))
    for middle in (15, 45):
        around = found[6:26, middle - 8 : middle + 8].reshape(-1, 3)
        assert (around > 200).all(axis=1).any() and (around < 20).all(axis=1).any()
    tiny = labels.copy()
    tiny[0, 0] = 1
    assert np.array_equal(np.asarray(overlay(photograph, tiny, as_array(COLOURS)))[6:], found[6:])


def test_errors_are_hatched_in_the_colour_of_what_was_said_and_the_rest_is_pale() -> None:
    photograph, truth = halves()
    answer = np.zeros_like(truth)
    found = np.asarray(error_map(photograph, truth, answer, as_array(COLOURS)))
    # 0.4 of the grey and 0.6 of white.
    assert (found[:30, :28] == 193).all()
    wrong = {tuple(pixel) for pixel in found[1:5, 32:].reshape(-1, 3).tolist()}
    assert {(200, 0, 0), (255, 255, 255)} <= wrong
    assert {tuple(pixel) for pixel in found[-6:].reshape(-1, 3).tolist()} == {
        (150, 150, 150),
        (255, 255, 255),
    }


def test_what_is_all_right_has_no_hatching() -> None:
    photograph, truth = halves()
    found = np.asarray(error_map(photograph, truth, np.where(truth == VOID, 0, truth), as_array(COLOURS)))
    assert len(np.unique(found[:30].reshape(-1, 3), axis=0)) == 1


def test_label_maps_are_laid_over_photographs_of_another_size() -> None:
    photograph, labels = halves()
    small = photograph.resize((30, 20))
    assert overlay(small, labels, as_array(COLOURS)).size == (30, 20)


def test_colours_that_could_not_be_told_apart_are_replaced() -> None:
    own = [(200, 0, 0), (202, 3, 0), VOID_COLOUR, (0, 0, 200)]
    found = class_colours(own)
    assert found[0] == own[0] and found[3] == own[3]
    assert len({found[1], found[2], *own}) == 6
    assert len(set(class_colours([(0, 0, 0)] * 40))) >= 30


def test_a_class_has_its_own_colour_wherever_it_can() -> None:
    camvid = [(128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0)]
    assert class_colours(camvid) == camvid


def test_the_similarity_plot_by_hand() -> None:
    svg = similarity_svg([[1, 0.25, -0.5], [0.25, 1, 0.9], [-0.5, 0.9, 1]], ["a", "b<c", "d"], "cosines & so")
    tree = ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    space = "{http://www.w3.org/2000/svg}"
    told = [one.text for one in tree.iter(f"{space}title")]
    assert "a and b<c: 0.250" in told and "d and a: -0.500" in told
    shown = [one.text for one in tree.iter(f"{space}text") if one.get("text-anchor") == "middle"]
    assert shown == [".25", "−.50", ".25", ".90", "−.50", ".90"]
    pairs = [
        float(one.get("fill-opacity")) for one in tree.iter(f"{space}rect") if one.get("class") == "pair"
    ]
    assert max(pairs) == pairs[3] == 0.48 and min(pairs) == pairs[1] == 0.04


@pytest.mark.parametrize("n", [2, 11, 20, 32, 60])
def test_the_similarity_plot_is_readable_for_few_and_many(n: int) -> None:
    svg = similarity_svg(np.eye(n).tolist(), [f"class {i}" for i in range(n)], "cosines")
    assert ("similarity fits" in svg) == (n <= 14)
    sizes = [float(one) for one in re.findall(r'font-size="([\d.]+)"', svg)]
    assert sizes and min(sizes) >= 9
    assert svg.count("<rect") == n * n


def test_example_pictures_go_from_the_worst_to_the_best() -> None:
    """Pictures of ten pixels of one class of which so many are right; the last shows nothing."""
    right = [3, 9, 0, 7, 5]
    confusions = np.array([[[n, 10 - n], [0, 0]] for n in right] + [[[0, 0], [0, 0]]])
    assert chosen_pictures(confusions, 3) == [(2, "worst", 0.0), (4, "median", 0.5), (1, "best", 0.9)]
    assert chosen_pictures(confusions, 99)[1][1] == "2. of 5 from the worst"
    assert chosen_pictures(confusions, 0) == []


def test_published_figures_stand_beside_these_classes_alone() -> None:
    """From the thesis's tables; its means of classes are those it prints."""
    found = published_for([name.lower() for name in reversed(CAMVID)])
    frozen = next(one for one in found if (one.approach, one.words) == ("frozen encoder", "names"))
    assert (frozen.miou, frozen.accuracy, frozen.iou["signsymbol"]) == (0.6316, 0.9119, 0.4206)
    full = next(one for one in found if one.approach == "whole network, SPP 160")
    for one in (frozen, full):
        assert np.mean(list(one.iou.values())) == pytest.approx(one.miou, abs=6e-5)
    assert next(one for one in found if one.approach == "SwiftNet single-scale").mean_accuracy is None
    assert published_for([*CAMVID[:-1], "Rider"]) == () == published_for(CAMVID[:-1])
