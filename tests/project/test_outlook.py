"""What is said of twice the pictures at the end of a run: of the backbone that comes first and has a curve."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deponij.pipeline.metrics.curves import CURVES, CurveRow, Twice
from deponij.project.frame.layout import Layout
from deponij.project.report.outlook import twice_as_many
from deponij.store.errors import StoreError

TWICE = Twice(n_pictures=720, n_train=400, top1=0.65, band=(0.61, 0.69), gain=0.05, gain_band=(0.02, 0.08))


def point(backbone: str, head: str, top1: float, **changes: Any) -> CurveRow:
    fields = {
        "per_class": None,
        "n_train": 200,
        "n_classes": 6,
        "n_short_classes": 0,
        "tries": 1,
        "n_test": 90,
    }
    shares = {"top1_std": None, "top1_interval": None, "balanced_accuracy": top1, "balanced_interval": None}
    of = {
        "backbone": backbone,
        "fingerprint": "f",
        "labels": "label",
        "split": "s",
        "head": head,
        "top1": top1,
    }
    grouped = {"n_groups": 90, "unit": "items", "interval_kind": "clustered", "design_effect": 1.0, "c": None}
    return CurveRow.model_validate(fields | shares | of | grouped | {"twice": TWICE} | changes)


def group(*backbones: str, labels: str = "label") -> Any:
    baseline = SimpleNamespace(is_baseline=True, backbone="", rank=())
    rows = [SimpleNamespace(is_baseline=False, backbone=name, rank=(i,)) for i, name in enumerate(backbones)]
    return SimpleNamespace(labels=labels, split="s", rows=[baseline, *reversed(rows)])


def write(at: Layout, backbone: str, *points: CurveRow) -> None:
    at.curves(backbone).parent.mkdir(parents=True, exist_ok=True)
    at.curves(backbone).write_bytes(CURVES.dump(points))


def test_the_first_backbone_that_has_a_curve_speaks(tmp_path: Path) -> None:
    at = Layout(tmp_path)
    for name, top1 in (("a", 0.6), ("b", 0.5)):
        few = point(name, "logistic", 0.2, per_class=2, twice=None)
        write(at, name, few, point(name, "logistic", top1), point(name, "centroid", 0.4))
    (found,) = twice_as_many(at, [group("a+b", "b", "a")])
    assert (found["backbone"], found["head"], found["top1"]) == ("b", "logistic", 0.5)
    assert found["twice"]["band"] == [0.61, 0.69]
    told = "Twice the pictures (720): 61–69 % (80 % band), from 50.0 % now; a gain of 2 to 8 points."
    assert found["told"] == told


def test_without_curves_nothing_is_said(tmp_path: Path) -> None:
    at = Layout(tmp_path)
    assert twice_as_many(at, [group("a")]) == []
    write(at, "a", point("a", "logistic", 0.5))
    assert twice_as_many(at, [group("a", labels="other")]) == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    at = Layout(tmp_path)
    write(at, "a", point("a", "logistic", 0.5))
    at.curves("a").write_bytes(at.curves("a").read_bytes().replace(b"0.61", b"0.62"))
    with pytest.raises(StoreError, match=r"a\.json"):
        twice_as_many(at, [group("a")])
