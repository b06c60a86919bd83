"""Whether weights are there, and what is written down about them."""

import json
from collections.abc import Iterator
from pathlib import Path

import fake_backbone
import pytest

from deponij.pipeline.backbones import Description
from deponij.stages import weights as stage
from deponij.store.errors import BackboneError


@pytest.fixture(autouse=True)
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


def test_descriptions_are_written_and_those_that_left_are_removed(tmp_path: Path) -> None:
    model = fake_backbone.make(tmp_path / "model")
    out = tmp_path / "weights"
    found = stage.run({"mine": str(model), "mini-dinov2": "mini-dinov2"}, out)
    assert sorted(p.name for p in out.iterdir()) == ["mine.json", "mini-dinov2.json"]
    record = json.loads((out / "mine.json").read_text())
    assert record.pop("spec") == str(model)
    assert Description.from_record(record) == found["mine"]
    before = (out / "mine.json").read_bytes()
    stage.run({"mine": str(model)}, out)
    assert [p.name for p in out.iterdir()] == ["mine.json"]
    assert (out / "mine.json").read_bytes() == before
    fake_backbone.make(model, seed=9)
    stage.run({"mine": str(model)}, out)
    assert (out / "mine.json").read_bytes() != before, "other weights must reach the stages behind"


def test_all_that_is_missing_is_said_together_and_the_earlier_record_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out = tmp_path / "weights"
    stage.run({"mini-dinov2": "mini-dinov2"}, out)
    with pytest.raises(BackboneError) as error:
        stage.run({"dinov2-base": "dinov2-base", "big": "siglip-base-16", "mini-dinov2": "mini-dinov2"}, out)
    for said in ("weights fetch dinov2-base", "weights fetch siglip-base-16", str(tmp_path / "hub")):
        assert said in str(error.value)
    assert [p.name for p in out.iterdir()] == ["mini-dinov2.json"]


def test_a_fetch_that_fails_says_why_and_where_to_put_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    asked = []

    def fetch(name: str) -> Path:
        asked.append(name)
        raise BackboneError("no route to host")

    monkeypatch.setattr(stage, "fetch", fetch)
    with pytest.raises(BackboneError, match=r"(?s)not on this machine.*no route to host"):
        stage.run({"dinov2-base": "dinov2-base", "mini-dinov2": "mini-dinov2"}, tmp_path / "weights")
    assert asked == ["dinov2-base"]
