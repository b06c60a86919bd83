"""The stage of retrieval: every backbone with all that is asked of it in one file, and the numbers for DVC."""

import json
import shutil
from pathlib import Path

import pytest
from captions_world import make_told
from learning_world import World
from under_dvc import under_dvc

from deponij.pipeline.metrics.retrieval import RETRIEVAL
from deponij.project.frame.layout import Layout
from deponij.project.retrieval import images, texts
from deponij.project.retrieval.archive import RetrievalParams
from deponij.stages import retrieval


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_told(tmp_path_factory.mktemp("told"))


def test_the_stage_under_dvc(told: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone with words, and one without."""
    at = Layout.of("made")
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "profile: made\nbackbones: {b: {}, mute: {}}\ntext_backbones: [b]\nsplits: {split: {}}\nlabels: [label]\n"
        "retrieval: {ks: [1, 5]}\n"
    )
    shutil.copytree(told.items, at.items)
    for source, target in (
        (told.features, at.view("b")),
        (told.features, at.view("mute")),
        (told.texts, at.texts("b")),
        (told.split, at.split("split")),
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    under_dvc(retrieval)
    results = RETRIEVAL.load(at.retrieval("b").read_bytes(), "retrieval")
    numbers = json.loads(at.metrics("retrieval").read_text())
    assert set(numbers) == {"b", "mute"}
    assert {column: set(tasks) for column, tasks in numbers["b"]["split"].items()} == {
        "label": {"image-to-image", "text-to-image", "image-to-text"},
        "caption": {"text-to-image", "image-to-text"},
    }
    assert {column: set(tasks) for column, tasks in numbers["mute"]["split"].items()} == {
        "label": {"image-to-image"}
    }
    assert [(one.task, one.about) for one in results] == [
        ("image-to-image", "classes"),
        ("text-to-image", "classes"),
        ("image-to-text", "classes"),
        ("text-to-image", "captions"),
        ("image-to-text", "captions"),
    ]
    assert all("recall@10" not in one.figures.micro for one in results)
    # What is written is what the parts of the stage find.
    params = RetrievalParams(ks=(1, 5))
    inputs = {"features": told.features, "items": told.items, "split": told.split}
    asked = [images.run(params, labels="label", **inputs)]
    assert RETRIEVAL.load(at.retrieval("mute").read_bytes(), "retrieval") == asked
    asked += texts.run(params, labels="label", texts=told.texts, **inputs)
    asked += texts.run_captions(params, labels=["label"], texts=told.texts, **inputs)
    assert results == asked
