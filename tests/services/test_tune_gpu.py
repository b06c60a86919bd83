"""`deponij tune` on a GPU: by mixed precision, in pieces, and gone on with, it comes to what full precision comes to."""

import json
from pathlib import Path

import cli_world
import numpy as np
import pytest
import tiny_models
import torch
import tuning_world

from deponij.pipeline.backbones import load
from deponij.project.tuning import learn

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three colours as items, a split, and a tiny DINOv2."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    made = tmp_path_factory.mktemp("gpu")
    tiny_models.dinov2(made / "base")
    cli_world.class_folders(made / "pictures")
    cli_world.done("items", "--folder", made / "pictures", "--out", made / "items", status=3)
    by = ["--items", made / "items", "--strategy", "random", "--fractions", "0.4", "0.2", "0.4"]
    cli_world.done("split", *by, "--out", made / "split.parquet")
    return made


def tuned(root: Path, name: str, *more: object) -> tuple[cli_world.Answer, list[float], np.ndarray]:
    """What was said, the loss of each epoch, and the features of some pixels."""
    where = ["--items", root / "items", "--split", root / "split.parquet", "--labels", "label"]
    short = ["--epochs", "4", "--batch", "8", "--lr", "0.0003", "--depot", root / "depot", "--device", "cuda"]
    asked = ["tune", *where, "--backbone", root / "base", "--out", root / name, *short, "--recipe", "full"]
    told = cli_world.done(*asked, *more)
    record = json.loads((root / name / "tuned.json").read_text())["tuned"]
    backbone = load(str(root / name))
    features = backbone.embed_images(tuning_world.pixels_for(backbone)).numpy()
    return told, [one["loss"] for one in record["history"]], features


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_what_full_precision_learns(root: Path, precision: str) -> None:
    _, wide, features = tuned(root, f"wide-{precision}")
    told, narrow, narrow_features = tuned(root, precision, "--set", f"training.precision={precision}")
    assert "is of a GPU" not in told.err
    assert narrow == pytest.approx(wide, rel=0.1, abs=0.05) and narrow != wide
    assert narrow[-1] < narrow[0]
    base = load(str(root / "base"))
    moved = np.abs(features - base.embed_images(tuning_world.pixels_for(base)).numpy()).mean()
    assert 0 < np.abs(narrow_features - features).mean() < 0.5 * moved


def test_a_batch_that_does_not_fit_is_computed_in_pieces(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["--set", "training.precision=bf16", "--set", "augment=none"]
    _, whole, _ = tuned(root, "whole", *asked)
    measured = learn.trial
    monkeypatch.setattr(
        learn, "trial", lambda *given, **named: kept.extend(measured(*given, **named)) or kept
    )
    kept: list = []
    monkeypatch.setattr(learn, "free_memory_bytes", lambda device: kept[-1].peak_bytes)
    told, pieces, _ = tuned(root, "pieces", *asked)
    assert "it is computed in" in told.err
    assert pieces == pytest.approx(whole, rel=0.1, abs=0.05)
