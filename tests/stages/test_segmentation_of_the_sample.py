"""What the sample's segmentation promises, by its profile, from the features of its own backbones (docs/sample.md)."""

from pathlib import Path

import pytest
import yaml

from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.segmentation.result_files import read_segmentation
from deponij.sample.painter import generate
from deponij.stages import decoders, extract_dense, scenes

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_decoder_is_worth_more_than_words_and_than_the_ground_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15 points above what needs no learning, and three times answering the most frequent class everywhere."""
    monkeypatch.chdir(tmp_path)
    profile = yaml.safe_load((ROOT / "profiles" / "sample.yaml").read_text())
    drawn = profile["prepare"]["sample"]
    generate(Path(drawn["root"]), scenes=drawn["scenes"], seed=drawn["seed"], workers=2)
    at, options = Layout(tmp_path / "run"), RunOptions(depot="depot", device="cpu", threads=2, workers=2)
    for stage in (scenes, extract_dense, decoders):
        named = {name: profile[name] for name in stage.Params.model_fields if name in profile}
        stage.main(stage.Params.model_validate(named), at, options)
    results = [read_segmentation(folder) for folder in at.segmentations()]
    tests = {(one.method, one.backbone): one.parts["test"] for one in results}
    bilinear = tests["bilinear", "mini-convnext"]
    best = max(tests.values(), key=lambda one: one.miou)
    assert best.miou >= bilinear.miou + 0.15
    assert best.miou >= 3 * bilinear.majority_miou
