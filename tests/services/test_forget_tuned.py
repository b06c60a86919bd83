"""`deponij forget` in a run with a tuned backbone: what has learned from the picture goes at once, and is made again."""

from pathlib import Path

import cli_world
import pytest
import tiny_models

from deponij.pipeline.backbones import describe
from deponij.project.extraction.tuned_on import learned_from
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.meant import run_meant
from deponij.services.forget import forget as forgetting
from deponij.services.forget import targets
from deponij.services.run import relearn
from deponij.store.items import Items
from deponij.store.view import TUNED_ON, View

TUNED = "base-norms"


def weights_of(at: Layout) -> str:
    return describe(str(at.tuned(TUNED))).weights_sha256


@pytest.mark.timeout(900)
def test_features_of_what_learned_from_it_go_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPONIJ_THREADS", "1")
    monkeypatch.delenv("DEPONIJ_DEPOT", raising=False)
    tiny_models.dinov2(tmp_path / "base")
    cli_world.class_folders(tmp_path / "pictures")
    where = ["--folder", "pictures", "--backbone", tmp_path / "base", "--device", "cpu", "--out", "runs/mine"]
    cli_world.done("run", *where, "--tune", "norms", "--split", "random", status=3)
    at = Layout(Path("runs/mine"))
    before, items = weights_of(at), Items(at.items)
    seen = learned_from(str(at.tuned(TUNED)))
    gone, key = next(
        (one, key) for one, key in zip(items.ids, items.keys, strict=True) if key and seen.get(key) == "train"
    )

    told = cli_world.done("forget", gone, "--dry-run", "--json").json
    assert at.view(TUNED).is_file() and at.tuned_record(TUNED).is_file()
    lines = {one["what"]: one for one in told["removed"]}
    line = lines["files of features by a tuned backbone"]
    assert (line["n"], line["where"]) == (2, f"runs/mine: views/{TUNED}.h5, views/tuned/{TUNED}.json")
    assert any("by tuned backbones" in one for one in told["left"])

    wanted = targets.find(run_meant(None), [gone])
    report = forgetting.run(run_meant(None), wanted, None, dry_run=False, with_file=False)
    assert [one.model_dump() for one in report.removed] == told["removed"]
    for path in (at.view(TUNED), at.tuned_record(TUNED), at.tuned(TUNED), at.root / "results"):
        assert not path.exists()
    # The frozen one's view has lost the row alone.
    assert gone not in View(at.view("base")).ids

    assert relearn(at, RunOptions(device="cpu", threads=1, workers=1))
    again = View(at.view(TUNED))
    assert gone not in again.ids
    assert weights_of(at) != before
    learned = learned_from(str(at.tuned(TUNED)))
    assert key not in learned and len(learned) == len(seen) - 1
    assert {
        one for one, mark in zip(again.keys.tolist(), again.columns[TUNED_ON].tolist(), strict=True) if mark
    } == set(learned)
    assert (at.report / "page.html").is_file()
