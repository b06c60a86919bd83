"""The contract of sources of scenes, over every registered one."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes_made

from deponij.pipeline.data.parallel import Each
from deponij.pipeline.data.scenes.registry import (
    SCENE_COLUMNS,
    Scene,
    SceneSource,
    open_scenes,
    register_scenes,
    scene_sources,
)
from deponij.pipeline.pictures import decode
from deponij.pipeline.registry import names_in
from deponij.store.errors import DataError, UsageError
from deponij.store.keys import key_of_bytes
from deponij.store.label_maps import VOID, check_classes
from deponij.store.scenes import SceneRow, Scenes, write_scenes

# One small data set a kind, each of five pictures with one damaged.
MADE: dict[str, Callable[[Path], dict[str, object]]] = {
    "label-maps": scenes_made.segnet,
    "coco-masks": scenes_made.coco,
}


def test_every_source_is_under_contract() -> None:
    assert set(scene_sources()) == set(MADE) == set(names_in("deponij.pipeline.data.scenes"))


@pytest.fixture(params=sorted(MADE))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> SceneSource:
    return open_scenes(request.param, MADE[request.param](tmp_path))


def plain(scenes: list[Scene]) -> list[Any]:
    return [(one.item, None if one.labels is None else one.labels.tolist()) for one in scenes]


def test_scenes_are_as_many_as_promised_with_unique_ids(source: SceneSource) -> None:
    scenes = list(source.scenes(workers=2))
    assert len(scenes) == source.n_scenes == 5
    assert len({scene.item.item_id for scene in scenes}) == 5


def test_order_and_content_do_not_depend_on_workers(source: SceneSource) -> None:
    first = plain(list(source.scenes(workers=0)))
    assert first == plain(list(source.scenes(workers=1))) == plain(list(source.scenes(workers=4)))


def test_what_no_process_survives_is_a_failure(source: SceneSource) -> None:
    """As on a cluster whose workers die of every picture."""

    def deadly(each: Each[Any, Any], chunks: Iterable[list[Any]]) -> Iterator[list[Any]]:
        for chunk in chunks:
            yield [each.failed(one, "the worker died") for one in chunk]

    here, there = list(source.scenes()), list(source.scenes(workers=deadly))
    assert [one.item.item_id for one in there] == [one.item.item_id for one in here]
    assert {(one.item.failure, one.labels) for one in there} == {("the worker died", None)}


def test_classes_can_be_numbered(source: SceneSource) -> None:
    check_classes(source.classes)
    assert all(one.spoken for one in source.classes)


def test_label_maps_have_the_size_of_the_upright_picture_and_numbers_of_classes(source: SceneSource) -> None:
    for scene in source.scenes():
        if scene.labels is None:
            continue
        assert scene.item.content is not None
        image = decode(scene.item.content)
        assert scene.labels.dtype == np.uint8
        assert scene.labels.shape == (image.height, image.width)
        assert (scene.item.height_px, scene.item.width_px) == scene.labels.shape
        found = set(np.unique(scene.labels).tolist()) - {VOID}
        assert found and max(found) < len(source.classes)
        assert scene.item.metadata["label"] == sorted(source.classes[number].name for number in found)
        assert scene.item.key == key_of_bytes(scene.item.content)


def test_damage_is_a_failure_of_its_picture_alone(source: SceneSource) -> None:
    failed = [scene for scene in source.scenes() if scene.labels is None]
    assert len(failed) == 1
    assert failed[0].item.failure and failed[0].item.content is None and failed[0].item.key is None


def test_all_have_the_declared_columns(source: SceneSource) -> None:
    for scene in source.scenes():
        assert set(scene.item.metadata) == set(SCENE_COLUMNS.names)


def test_progress_counts_every_scene(source: SceneSource) -> None:
    done: list[int] = []
    list(source.scenes(workers=2, progress=done.append))
    assert sum(done) == source.n_scenes


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_part_is_what_the_whole_begins_with(name: str, tmp_path: Path) -> None:
    params = MADE[name](tmp_path)
    whole = [scene.item.item_id for scene in open_scenes(name, params).scenes()]
    part = open_scenes(name, {**params, "limit": 2})
    found = [scene.item.item_id for scene in part.scenes()]
    assert len(found) == part.n_scenes == 2
    assert found == [one for one in whole if one in found]
    assert any("only a part, as asked (limit): 2 of 5 items" in note for note in part.notes)


def test_they_are_written_and_read(source: SceneSource, tmp_path: Path) -> None:
    def rows() -> Any:
        for scene in source.scenes():
            item = scene.item
            core = {
                name: getattr(item, name)
                for name in ("item_id", "key", "width_px", "height_px", "failure", "given")
            }
            yield SceneRow(core, item.content, scene.labels, None, item.metadata)

    write_scenes(tmp_path / "out", source.classes, rows(), metadata_schema=SCENE_COLUMNS)
    scenes = Scenes(tmp_path / "out")
    assert scenes.classes == source.classes
    for scene in source.scenes():
        if scene.labels is not None:
            assert np.array_equal(scenes.label_map(scene.item.item_id), scene.labels)


@pytest.mark.parametrize("name", sorted(MADE))
def test_parameters_are_checked_together(name: str) -> None:
    with pytest.raises(UsageError, match=r"nonsense.*|.*nonsense"):
        open_scenes(name, {"nonsense": 1})


@pytest.mark.parametrize(("name", "field"), [("label-maps", "folder"), ("coco-masks", "annotations")])
def test_what_is_not_there_is_told(name: str, field: str, tmp_path: Path) -> None:
    options = {**MADE[name](tmp_path), field: tmp_path / "absent"}
    with pytest.raises(DataError, match="absent"):
        open_scenes(name, options)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"coco-masks, label-maps"):
        open_scenes("label_map", {})


def test_a_taken_name_is_refused() -> None:
    @dataclass
    class Another:
        params: object

    with pytest.raises(ValueError, match="taken"):
        register_scenes("label-maps")(Another)
