"""Where heads look, from what they have left of it to the page."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_world import World, make_world
from PIL import Image
from resealing import relist, rewrite

from deponij.pipeline.reports.attention import lit
from deponij.project.learning.learn import HeadParams, learn
from deponij.project.report import attention
from deponij.project.report.attention import Box, StoredAttention, _seen_of
from deponij.stages import report
from deponij.stages.report import ReportParams

QUICK = {"lrs": [0.03], "epochs": 4, "batch": 8, "n_queries": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), noise=0.9)


@pytest.fixture(scope="module")
def results(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "results/heads/attentive/tiny/split-label"
    params = HeadParams(head="attentive", arguments=QUICK)
    inputs = {"items": world.items, "split": world.split, "labels": "label"}
    learn(params, features=[world.maps], depot=str(world.depot), out=out, **inputs)
    return out


def test_a_picture_is_light_where_the_attention_is() -> None:
    """Black and white beside the brightest cell and beside none: full colour, and a fifth of the grey."""
    picture = Image.new("RGB", (40, 20), (200, 100, 0))
    shown = np.asarray(lit(picture, np.array([[1.0, 0.0]])))
    assert shown[10, 2].tolist() == [200, 100, 0]
    grey = int(0.2 * (200 * 299 + 100 * 587) / 1000)
    assert np.abs(shown[10, 37].astype(int) - grey).max() <= 1
    assert (np.diff(shown[10, :, 0].astype(int)) <= 0).all()


def test_the_attention_of_the_first_test_pictures_is_kept(world: World, results: Path) -> None:
    record = json.loads((results / "result.json").read_text())
    stored = StoredAttention.model_validate(record["learned"]["attention"])
    assert stored.grid == (2, 3) and stored.maps.shape == (32, 2, 2, 3)
    assert (stored.maps.max(axis=(2, 3)) == 255).all()
    parts = dict(zip(world.ids, world.parts, strict=True))
    assert {parts[item_id] for item_id in stored.ids} == {"test"}


@pytest.mark.parametrize(
    ("changes", "size", "expected"),
    [
        # The middle 224 of 256, of a picture of 400 x 200 that is enlarged by 1.28: 175 px a side.
        (
            {"resize": "shortest", "resize_px": [256, 256], "crop_px": [224, 224]},
            (400, 200),
            (112.5, 12.5, 287.5, 187.5),
        ),
        ({"resize": "cover", "resize_px": [224, 224], "crop_px": [224, 224]}, (100, 300), (0, 100, 100, 200)),
        ({"resize": "squash", "resize_px": [28, 42], "crop_px": None}, (400, 200), (0, 0, 400, 200)),
        ({"resize": "contain", "resize_px": [28, 42], "crop_px": [42, 42]}, (400, 200), None),
        ({}, (400, 200), None),
    ],
)
def test_what_the_backbone_saw(
    results: Path, tmp_path: Path, changes: dict[str, object], size: tuple[int, int], expected: Box | None
) -> None:
    rewritten = tmp_path / "head"
    shutil.copytree(results, rewritten)

    def changed(card: dict[str, Any]) -> dict[str, Any]:
        card["sources"][0]["identity"]["transform"] = json.dumps(changes)
        return card

    rewrite(rewritten / "head.json", changed)
    relist(rewritten)
    seen_of = _seen_of(rewritten)
    assert (seen_of is None) == (expected is None)
    if seen_of is not None:
        assert seen_of(size) == pytest.approx(expected)


def test_it_stands_on_the_page(
    world: World, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"items": world.items, "views": [world.features], "profile": "made-up"}
    unknown = report.run(ReportParams(), results=[results], out=tmp_path / "a", **inputs).read_text()
    assert "Where it looks" not in unknown, "the world's identity does not say what was seen"
    monkeypatch.setattr(attention, "_seen_of", lambda folder: lambda size: (0, 0, *size))
    page = report.run(ReportParams(), results=[results], out=tmp_path / "b", **inputs).read_text()
    assert "Where it looks" in page and "2&nbsp;×&nbsp;3 tokens, 2 queries" in page
    # Of each of at most eight pictures: as seen, all queries, and two queries.
    n_looks = page.count('<div class="look"')
    assert 4 <= n_looks <= 8 and page.count("where query 2 looks") == n_looks


def test_what_is_no_attention_is_refused(results: Path) -> None:
    whole = {"ids": ["a"], "grid": [2, 2], "shares": base64.b64encode(bytes(8)).decode()}
    assert StoredAttention.model_validate(whole).maps.shape == (1, 2, 2, 2)
    with pytest.raises(ValueError, match="reshape"):
        _ = StoredAttention.model_validate(whole | {"shares": "AAA="}).maps
