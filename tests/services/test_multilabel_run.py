"""Several labels an item, the whole way: a table, a run, its page and results, and answers to new pictures."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_backbone
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from deponij.commands.show.predictions import print_predictions
from deponij.commands.show.results import print_results
from deponij.project.data_sets import source_of
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.learning.item_columns import read_labels
from deponij.project.learning.learn import HeadParams, learn
from deponij.project.learning.multilabel_files import read_multilabel_answers
from deponij.project.new_pictures import named_pictures
from deponij.services import run as service
from deponij.services.predict import predict as predicting
from deponij.services.run import Plan
from deponij.store.errors import StoreError, UsageError
from deponij.store.items import Items

COLOURS = {"blue": (30, 60, 220), "green": (20, 170, 60), "red": (220, 40, 30), "white": (240, 240, 240)}
OPTIONS = RunOptions(device="cpu", threads=1, workers=0)


def tiles(path: Path, names: list[str], seed: int) -> None:
    """A picture of 2 x 2 tiles: those of the names, the others dark."""
    generator = np.random.default_rng(seed)
    picture = np.full((16, 16, 3), 20, np.uint8)
    for place, name in zip(generator.permutation(4), names, strict=False):
        row, column = divmod(int(place), 2)
        picture[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = COLOURS[name]
    noisy = picture + generator.integers(0, 16, picture.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A run over 120 pictures of none to three colours; the first has no labels."""
    root = tmp_path_factory.mktemp("several")
    generator = np.random.default_rng(0)
    rows = ["path,label"]
    for k in range(120):
        names = sorted(generator.choice(list(COLOURS), generator.integers(0, 4), replace=False).tolist())
        tiles(root / f"{k:03}.png", names, k)
        rows.append(f"{k:03}.png,{'' if k == 0 else '|'.join(names) or '|'}")
    (root / "t.csv").write_text("\n".join(rows) + "\n")
    with fake_backbone.registered():
        model = str(fake_backbone.make(root / "model", has_text=False))
        plan = Plan(source=source_of(table=root / "t.csv", label_separator="|"), backbones=(model,))
        options = OPTIONS.model_copy(update={"depot": str(root / "depot")})
        yield root, service.run(plan, out=root / "out", options=options)


def test_rows_of_the_run(world: tuple[Path, dict[str, Any]]) -> None:
    _, record = world
    assert record["results"] == []
    assert {row["method"] for row in record["multilabel"]} == {
        "one-vs-rest logistic regression",
        "k-NN, each class by itself",
    }
    first = record["multilabel"][0]
    assert first["is_chosen"]
    assert first["val_map"] == max(row["val_map"] for row in record["multilabel"])
    assert first["map_macro"] > first["chance_map"] + 0.2


def test_figures_are_of_the_stored_answers(world: tuple[Path, dict[str, Any]]) -> None:
    _, record = world
    for row in record["multilabel"]:
        result, answers = read_multilabel_answers(Path(row["folder"]))
        test = answers.of("test")
        expected = average_precision_score(test.truth, test.log_odds)
        assert row["map_macro"] == pytest.approx(expected, abs=1e-4)
        probs = 1 / (1 + np.exp(-test.log_odds.astype(float)))
        assert (test.answers == (probs >= np.array(result.thresholds))).all()
        assert result.n_without_label == 0
        assert result.n_outside_pool == 1
    assert "000.png" not in answers.ids


def test_the_page_and_the_terminal_show_them(
    world: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, record = world
    page = (root / "out" / "report" / "page.html").read_text()
    assert 'id="multilabel"' in page
    assert "none of the classes" in page
    assert "Without labels" not in page
    assert "## Several labels an item" in (root / "out" / "report" / "results.md").read_text()
    print_results(record)
    shown = capsys.readouterr().out
    assert "mAP" in shown
    assert "a random order" in shown
    assert "no labels were learned from" not in shown


def test_new_pictures_get_all_their_classes(
    world: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, record = world
    tiles(tmp_path / "new.png", ["red", "white"], 1000)
    chosen = predicting.choose(root / "out")
    assert str(chosen.folder) == record["multilabel"][0]["folder"]
    assert "best validation mAP" in chosen.why
    result = predicting.run(chosen, named_pictures([tmp_path], None, None, {}, None), top=2, options=OPTIONS)
    (one,) = result.predictions
    thresholds = result.model.thresholds
    assert thresholds is not None
    assert one.labels is not None
    every = predicting.run(chosen, named_pictures([tmp_path], None, None, {}, None), top=4, options=OPTIONS)
    above = [a.label for a in every.predictions[0].top if a.prob >= thresholds[a.label]]
    assert list(one.labels) == above
    predicting.write_predictions(tmp_path / "p.csv", result)
    header, row = (tmp_path / "p.csv").read_text().splitlines()
    assert header.startswith("path,item_id,failure,labels,label_1")
    assert ("|".join(above) or "|") in row
    predicting.write_predictions(tmp_path / "p.parquet", result)
    assert pq.read_table(tmp_path / "p.parquet")["labels"].to_pylist() == [above]
    print_predictions(result)
    assert "from its own threshold on" in capsys.readouterr().out


def test_heads_of_one_label_refuse_sets_and_say_where_they_belong(world: tuple[Path, dict[str, Any]]) -> None:
    root, _ = world
    at = Layout(root / "out")
    with pytest.raises(UsageError, match="several labels an item.*label_sets"):
        read_labels(Items(at.items), "label")
    with pytest.raises(UsageError, match="several labels an item"):
        learn(
            HeadParams(head="logistic"),
            features=[at.view("model")],
            items=at.items,
            split=at.split("random"),
            labels="label",
        )


def test_damaged_results_are_said(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, record = world
    folder = tmp_path / "copy"
    shutil.copytree(record["multilabel"][0]["folder"], folder)
    document = json.loads((folder / "multilabel_result.json").read_text())
    (folder / "multilabel_result.json").write_text(json.dumps(document | {"classes": ["x"]}))
    with pytest.raises(StoreError):
        read_multilabel_answers(folder)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"folder": Path("x"), "label_separator": "|"}, "--label-separator is for a table"),
        ({"parquet": [Path("x")], "label_columns": ("a",)}, "--label-columns is for a table"),
        ({"table": Path("x"), "whole": True}, "--whole is for annotated instances"),
    ],
)
def test_flags_of_other_inputs_are_refused(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        source_of(**flags)


def test_folds_take_one_label_an_item(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root, _ = world
    with fake_backbone.registered():
        source = source_of(table=root / "t.csv", label_separator="|")
        plan = Plan(source=source, backbones=(str(root / "model"),), n_folds=5)
        options = OPTIONS.model_copy(update={"depot": str(root / "depot")})
        with pytest.raises(UsageError, match="folds take one label an item"):
            service.run(plan, out=tmp_path / "out", options=options)
