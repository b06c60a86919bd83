"""Bringing photographs to this machine: the drawn sample, and what is said of a fetch."""

import json
from pathlib import Path

import pytest
from under_dvc import under_dvc

from deponij.pipeline.data.fetching.dataset import FetchReport
from deponij.pipeline.data.fetching.ledger import Failure
from deponij.stages import prepare as stage
from deponij.store.errors import DataError, UsageError


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_sample_is_a_function_of_its_parameters(tmp_path: Path) -> None:
    count = stage.draw_sample(tmp_path / "a", 3, 7, workers=2)
    document = json.loads((tmp_path / "a" / "annotations.json").read_text())
    assert count == {"n_scenes": 3, "n_instances": len(document["annotations"])}
    small = files(tmp_path / "a")
    # More scenes leave the others as they are; going back leaves nothing of them.
    stage.draw_sample(tmp_path / "a", 5, 7, workers=2)
    large = files(tmp_path / "a")
    assert {name: large[name] for name in small if name.endswith(".jpg")}.items() <= small.items()
    assert len(large) == 6
    stage.draw_sample(tmp_path / "a", 3, 7, workers=2)
    assert files(tmp_path / "a") == small
    stage.draw_sample(tmp_path / "b", 3, 8, workers=2)
    assert files(tmp_path / "b")["images/000000.jpg"] != small["images/000000.jpg"]


def params(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text(f"profile: tiny\nprepare:\n  {text}\n")
    monkeypatch.chdir(tmp_path)


def test_stage_draws_what_the_profile_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params(tmp_path, "sample: {root: data/s, scenes: 2, seed: 1}", monkeypatch)
    under_dvc(stage, "sample")
    assert len(list((tmp_path / "data/s/images").iterdir())) == 2
    assert "2 scenes with" in capsys.readouterr().err
    with pytest.raises(UsageError, match="nothing to prepare under 'taco'"):
        under_dvc(stage, "taco")


def test_unknown_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'tacos' to fetch; there is: taco"):
        stage.fetch("tacos", tmp_path, None, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_present", [0, 3])
def test_taco_goes_on_with_what_could_be_had_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], n_present: int
) -> None:
    failures = tuple(Failure(f"{i}.jpg", "https://example.org", "404", 1) for i in range(5 - n_present))
    report = FetchReport(tmp_path / "taco", 5, n_present, n_present, 10, 1.0, failures)
    monkeypatch.setattr(stage, "fetch_taco", lambda *_, **__: report)
    params(tmp_path, "taco: {root: taco}", monkeypatch)
    if n_present:
        under_dvc(stage, "taco")
        assert "going on with 3 of 5 photographs" in capsys.readouterr().err
    else:
        with pytest.raises(DataError, match="no photograph of TACO"):
            under_dvc(stage, "taco")
    record = json.loads(json.dumps(stage.fetch_record(report)))
    assert record["n_failed"] == 5 - n_present
    assert len(record["failures"]) == 5 - n_present
