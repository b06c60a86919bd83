"""Result folders of segmentation: what is written is read, and what does not belong together is refused."""

from pathlib import Path

import numpy as np
import pytest
from resealing import rewrite
from segmentation_world import APPROACHES, answer, make_result, make_scenes

from deponij.pipeline.metrics.segmentation import confusion
from deponij.project.frame.layout import Layout
from deponij.project.segmentation.result_files import (
    SEGMENTATION_NAME,
    read_counts,
    read_label_maps,
    read_segmentation,
)
from deponij.store.errors import StoreError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_result(make_scenes(tmp_path / "scenes"), Layout(tmp_path), APPROACHES[1])


def test_what_is_written_is_read(tmp_path: Path, folder: Path) -> None:
    result, counts = read_counts(folder)
    assert result == read_segmentation(folder) and list(result.parts) == ["val", "test"]
    assert Layout(tmp_path).segmentations() == [folder]
    scenes = make_scenes(tmp_path / "again")
    truth = scenes.label_map(scenes.ids("val")[2])
    assert np.array_equal(counts.confusions[2], confusion(truth, answer(truth, 0.8, 2), len(scenes.classes)))
    tested, answers = counts.of("test"), read_label_maps(folder)
    assert answers.ids == tested.ids.tolist() == scenes.ids("test")
    assert np.array_equal(
        answers.label_map(scenes.ids("test")[0]), answer(scenes.label_map(scenes.ids("test")[0]), 0.8, 0)
    )
    assert tested.groups[0] == scenes.group_of(scenes.ids("test")[0])


def test_a_record_of_other_pictures_is_refused(folder: Path) -> None:
    def fewer(record: dict) -> dict:  # type: ignore[type-arg]
        record["parts"]["test"]["n_pictures"] -= 1
        return record

    rewrite(folder / SEGMENTATION_NAME, fewer)
    with pytest.raises(StoreError, match="other pictures; run the stage"):
        read_counts(folder)


def test_no_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results in .*; run the stage `decoders` again"):
        read_segmentation(tmp_path / "nothing")
