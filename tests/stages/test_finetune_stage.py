"""The stages `finetune` and `extract_tuned`: what they ask of a profile. That they make their outs: tests/test_dvc.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import told_pictures

from deponij.project.frame.lacking import lack_of
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions
from deponij.project.frame.toys import toys_of
from deponij.project.in_force import weights_record
from deponij.project.tuning.record import read_record
from deponij.project.tuning.took import read_took
from deponij.stages import extract_tuned, finetune
from deponij.store.atomic import write_bytes
from deponij.store.errors import StoreError, UsageError
from deponij.store.sealed import sealed

RECIPE: dict[str, Any] = {"backbone": "base"}


def params(**recipe: Any) -> finetune.Params:
    given = {"finetune": {"tuned": RECIPE | recipe}, "splits": {"group": {}}, "labels": ["kind"]}
    return finetune.Params.model_validate(given)


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"labels": "colour"}, "labels: 'colour' is not the profile's; it has kind"),
        ({"split": "folds"}, "split: 'folds' is not the profile's; it has group"),
        ({}, "the profile has no backbone 'base' to tune"),
        ({"learns": "captions"}, "name the column of the captions, as labels: caption"),
        # Any column may hold captions; which ones there are is known when the items are read.
        ({"learns": "captions", "labels": "caption"}, "the profile has no backbone 'base' to tune"),
        (
            {"learns": "captions", "labels": "caption", "split": "folds"},
            "split: 'folds' is not the profile's",
        ),
    ],
)
def test_what_the_profile_has_not_is_told(tmp_path: Path, recipe: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        finetune.main(params(**recipe), Layout(tmp_path), RunOptions(), "tuned")


def test_captions_need_no_labels_and_classes_do(tmp_path: Path) -> None:
    unlabelled = params().model_copy(update={"labels": []})
    assert lack_of(unlabelled) == ""
    assert "no column of labels" in lack_of(unlabelled.model_copy(update={"finetune": {}}))
    with pytest.raises(UsageError, match="the profile names no labels to learn"):
        finetune.main(unlabelled, Layout(tmp_path), RunOptions(), "tuned")


def test_a_recipe_of_captions_leaves_a_backbone_and_its_recall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path / "cache"))
    made, at = told_pictures.make(tmp_path), Layout(tmp_path)
    at.split("group").parent.mkdir()
    made.split.rename(at.split("group"))
    write_bytes(at.weights / "base.json", sealed({"spec": "mini-siglip", "toy": True}))
    training = {"epochs": 1, "batch_size": 8}
    recipe = params(learns="captions", labels="caption", training=training)
    options = RunOptions(depot=str(tmp_path / "depot"), device="cpu", threads=1)
    finetune.main(recipe, at, options, "tuned")
    assert [path.name for path in at.result("network", "tuned", "finetune").iterdir()] == ["group-caption"]
    written = at.result("network", "tuned", "finetune") / "group-caption" / "metrics.json"
    record = json.loads((at.tuned("tuned") / "tuned.json").read_text())["tuned"]
    assert json.loads(written.read_text()) == record["recalls"]
    assert record["seconds"] is None and record["toy"] and record["top1"] == {}
    # What differs between machines lies beside the timings.
    took = read_took(at.took("tuned"))
    assert record["peak_bytes"] is None and took.seconds > 0 and took.peak_bytes is not None
    assert record["licence"] == "MIT", "the catalog's, for the run's record of weights names none"
    # No classifier's results lie there, for whoever looks for them.
    assert at.results() == []
    told = capsys.readouterr().err
    assert "tuned: base by LoRA, rank 8, by captions, " in told
    assert "test recall@1 image to text " in told


def test_a_name_that_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe 'other'; it has tuned"):
        finetune.main(params(), Layout(tmp_path), RunOptions(), "other")
    with pytest.raises(UsageError, match="the stage `finetune` makes it"):
        extract_tuned.main(extract_tuned.Params(), Layout(tmp_path), RunOptions(), "other")


def test_tuned_backbones_come_after_the_profiles_own() -> None:
    given = {"backbones": {"base": {}}, "finetune": {"tuned": RECIPE}}
    made = OfBackbones.model_validate(given)
    assert list(made.backbones) == ["base", "tuned"]
    # As a run's record keeps it, and reads it back.
    again = OfBackbones.model_validate_json(made.model_dump_json(), strict=True)
    assert list(again.backbones) == ["base", "tuned"]
    assert list(OfBackbones.model_validate({"backbones": {"base": {}}}).backbones) == ["base"]


def test_the_record_beside_the_features_says_whose_they_are(tmp_path: Path) -> None:
    at = Layout(tmp_path)
    record = {
        "name": "tuned", "base": "m", "base_name": "base", "base_weights": "0" * 64, "recipe": {}, "said": "norms alone",
        "labels": "kind", "split": "group", "classes": ["a", "b"], "n_train": 3, "n_val": 1, "n_weights": 9,
        "n_learned": 2, "history": [{"loss": 0.5, "lr": 0.1}], "kept": 0, "top1": {"test": 0.5}, "size_bytes": 36,
        "toy": True,
    }  # fmt: skip
    write_bytes(at.tuned_record("tuned"), sealed({"format": 1, "tuned": record}))
    found = weights_record(at, "tuned")
    assert found is not None
    assert found["spec"] == str(at.tuned("tuned"))
    assert toys_of(at.weights) == {"tuned"}
    assert read_record(at.tuned_record("tuned")).said == "norms alone"
    write_bytes(at.tuned_record("tuned"), sealed({"format": 1, "tuned": {**record, "kept": "first"}}))
    with pytest.raises(StoreError, match="of another version; tune it again"):
        read_record(at.tuned_record("tuned"))
