"""Where heads look, from what they have left of it to the page."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from learning_world import World, make_world
from PIL import Image

from deponij.pipeline.reports.attention import lit
from deponij.project.learning.learn import HeadParams, learn
from deponij.project.report.attention import StoredAttention
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


@pytest.mark.parametrize("transform", ["full", "resize"])
def test_it_stands_on_the_page_where_it_is_known_what_was_seen(
    world: World, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transform: str
) -> None:
    from deponij.pipeline.backbones.transform import Resize, Rounding, Transform
    from deponij.project.report import attention

    if transform == "full":
        seen = Transform(
            Resize.SHORTEST, (32, 32), "bicubic", (28, 28), Rounding.FLOOR, (0.5,) * 3, (0.5,) * 3
        )
        monkeypatch.setattr(attention, "_transform", lambda folder: seen)
    inputs = {"items": world.items, "views": [world.features], "profile": "made-up"}
    page = report.run(ReportParams(), results=[results], out=tmp_path / "report", **inputs).read_text()
    assert ("Where it looks" in page) == (transform == "full")
    if transform == "full":
        # Of each of at most eight pictures: as seen, all queries, and two queries.
        n_looks = page.count('<div class="look"')
        assert 4 <= n_looks <= 8 and page.count("where query 2 looks") == n_looks
        assert "2&nbsp;×&nbsp;3 tokens, 2 queries" in page


def test_what_is_no_attention_is_refused(results: Path) -> None:
    whole = {"ids": ["a"], "grid": [2, 2], "shares": base64.b64encode(bytes(8)).decode()}
    assert StoredAttention.model_validate(whole).maps.shape == (1, 2, 2, 2)
    with pytest.raises(ValueError, match="reshape"):
        _ = StoredAttention.model_validate(whole | {"shares": "AAA="}).maps
