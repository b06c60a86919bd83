"""Litter outlined in a COCO file, as TACO's is, learned by a decoder: from the annotations to figures and back."""

from pathlib import Path
from typing import Any

import coco_made
import numpy as np
import pytest
import tiny_models
from PIL import Image, ImageDraw

from deponij.pipeline.data.splitting.strategies import SplitParams
from deponij.project.frame.settings import RunOptions
from deponij.project.segmentation.learn import Running, asked_of, learn_decoder
from deponij.project.segmentation.params import DecodersParams
from deponij.project.segmentation.sources import StoredScenes
from deponij.stages import extract_dense
from deponij.stages import scenes as scenes_stage
from deponij.store.scenes import Scenes

N, SIZE = 24, (64, 96)
COLOURS = {1: (200, 40, 40), 2: (40, 60, 210)}


def outline(rng: np.random.Generator) -> list[int]:
    """A four-cornered piece of some 24 px, x and y in turn."""
    x, y = rng.integers(4, SIZE[1] - 32), rng.integers(4, SIZE[0] - 32)
    corners = np.array([(0, 0), (24, 0), (24, 24), (0, 24)]) + rng.integers(-3, 4, (4, 2)) + (x, y)
    return [int(one) for one in corners.ravel()]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of grey ground with a red can, a blue bottle, or both, their outlines, and a tower."""
    root = tmp_path_factory.mktemp("litter")
    images, annotations = [], []
    for number in range(N):
        rng = np.random.default_rng(number)
        picture = Image.fromarray(rng.integers(90, 150, (*SIZE, 3), dtype=np.uint8))
        for category in ((1,), (2,), (1, 2))[number % 3]:
            ring = outline(rng)
            ImageDraw.Draw(picture).polygon(ring, fill=COLOURS[category])
            one = coco_made.annotation(number, category_id=category, segmentation=[ring])
            annotations.append(one | {"id": len(annotations) + 1})
        picture.save(root / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": SIZE[1], "height": SIZE[0]})
    coco_made.write(root, coco_made.document(annotations, images))
    tiny_models.timm_resnet(root / "tower")
    return root


@pytest.mark.parametrize(
    ("classes", "names"),
    [({"*": "litter"}, ["background", "litter"]), ("category", ["background", "Bottle", "Can"])],
)
def test_litter_is_told_from_the_ground(taken: Path, tmp_path: Path, classes: Any, names: list[str]) -> None:
    given = {"annotations": taken / "annotations.json", "images": taken, "classes": classes}
    options = RunOptions(depot=str(taken / "depot"), workers=1, threads=1, device="cpu")
    split = SplitParams(fractions=(0.6, 0.15, 0.25), group_by="group")
    scenes_stage.run("coco-masks", given, out=tmp_path / "scenes", run_options=options, split=split)
    paths = {name: tmp_path / f"{name}.h5" for name in ("out", "flip_out", "words_out")}
    dense = extract_dense.DenseParams(spec=str(taken / "tower"), kind="pyramid@5", input_px=SIZE, flip=True)
    extract_dense.run(dense, "tower", scenes=tmp_path / "scenes", options=options, **paths)
    training = {"epochs": 15, "batch_size": 4, "lr": 0.02}
    params = DecodersParams.model_validate(
        {"methods": {"linear": {}}, "class_weights": 0.5, "both_ways": True, "training": training}
    )
    (asked,) = asked_of(params, with_words=False)
    source = StoredScenes.open(tmp_path / "scenes", paths["out"], paths["flip_out"], options.depot)
    result = learn_decoder(asked, params, source, words=None, running=Running(n_threads=1), out=None)
    assert (
        sorted(result.classes)
        == sorted(names)
        == sorted(one.name for one in Scenes(tmp_path / "scenes").classes)
    )
    test = result.parts["test"]
    assert test.miou > 0.75 and test.miou > 1.5 * test.majority_miou
