"""`deponij run` tells what extracting will take before it begins, and in its record."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_world
import fake_backbone
import pytest

from deponij.project.data_sets import SourceChoice
from deponij.project.extraction import forecast
from deponij.project.frame.settings import RunOptions
from deponij.services import run as service
from deponij.services.run import Plan, WorkAhead

BEFORE = ("weights", "items", "split")
N_PICTURES = 3 * cli_world.N_PER_CLASS


@pytest.fixture(autouse=True, scope="module")
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages in the order in which they were come to; what comes after the forecast is left out."""
    names: list[str] = []
    run_stage = service._run_stage

    def first_ones(name: str, *arguments: Any) -> None:
        names.append(name)
        if name in BEFORE:
            run_stage(name, *arguments)

    monkeypatch.setattr(service, "_run_stage", first_ones)
    monkeypatch.setattr(service, "collect", lambda *arguments, **more: {})
    monkeypatch.setattr(forecast, "gflops_per_s", lambda *arguments: 100.0)
    return names


def test_what_extracting_takes_is_told_when_the_pictures_are_known(tmp_path: Path, done: list[str]) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    models = tuple(str(fake_backbone.make(tmp_path / name, seed=1)) for name in ("one", "other"))
    told: list[WorkAhead] = []

    def hear(ahead: WorkAhead) -> None:
        assert done == list(BEFORE)
        told.append(ahead)

    options = RunOptions(depot=str(tmp_path / "depot"), device="cpu", threads=1, workers=2)
    plan = Plan(SourceChoice("folder", {"folder": folder}), models, offered="good")
    record = service.run(plan, out=tmp_path / "out", options=options, on_work_ahead=hear)
    assert "extract" in done[len(BEFORE) :]
    (ahead,) = told
    assert [(one.backbone, one.n_new) for one in ahead.forecasts] == [
        ("one", N_PICTURES),
        ("other", N_PICTURES),
    ]
    assert record["forecast"] == [one.to_record() for one in ahead.forecasts]
    assert ahead.offer is not None
    assert record["offer"]["preset"] == "good"
    assert record["offer"]["backbones"] == ["dinov2-base", "siglip-base-16"]
    assert record["offer"]["licences"] == ["Apache-2.0"]
    assert record["offer"]["seconds"] == ahead.offer.seconds
    # 46.3 and 35.4 GFLOPs a picture, by the catalog.
    assert ahead.offer.seconds == pytest.approx(N_PICTURES * (46.3 + 35.4) / 100)


def test_who_chose_is_offered_nothing(tmp_path: Path, done: list[str]) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    plan = Plan(SourceChoice("folder", {"folder": folder}), (str(fake_backbone.make(tmp_path / "model")),))
    told: list[WorkAhead] = []
    options = RunOptions(depot=str(tmp_path / "depot"), device="cpu", threads=1, workers=2)
    service.run(plan, out=tmp_path / "out", options=options, on_work_ahead=told.append)
    assert [ahead.offer for ahead in told] == [None]
