"""What the stage of heads leaves for DVC: numbers of every pair, confusion and reliability of the first."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from learning_world import CLASSES, World, make_world, picture, write_split, write_texts

from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, check
from deponij.project.learning.learn import HeadResult
from deponij.project.report.summary import results_table
from deponij.stages import heads
from deponij.store.errors import UsageError
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes

OTHER = {"Bottle": "drink", "Can": "drink", "Cup": "drink", "Lid": "rest"}
SPLITS = ("random", "image-grouped")
LABELS = ("label", "other")
KINDS = {"zero-shot": {}, "logistic": {"cs": [0.1], "max_iter": 100}, "knn": {"ks": [3, 9]}}


def write_two_columns(path: Path, world: World) -> None:
    """The world's items with a second label column."""
    with ItemWriter(path, pa.schema([(name, pa.string()) for name in LABELS])) as writer:
        for i, (item_id, label) in enumerate(zip(world.ids, world.labels, strict=True)):
            content = None if item_id == world.failed[0] else picture(i)
            writer.add(
                item_id=item_id,
                key=None if content is None else key_of_bytes(content),
                image_id=item_id.split("#")[0],
                content=content,
                failure="not a picture" if content is None else None,
                metadata={"label": label, "other": OTHER.get(label or "")},
            )


def run(at: Layout, depot: Path | None = None, **changes: object) -> None:
    sections = {
        "backbones": {"tiny": {}, "mute": {}},
        "text_backbones": ["tiny"],
        "splits": {split: {} for split in SPLITS},
        "labels": list(LABELS),
        "heads": {"kinds": KINDS, "per_class": [1, 2], "tries": 2},
    }
    heads.main(
        check(heads.Params, sections | changes, "the test"),
        at,
        RunOptions(under_dvc=True, depot=str(depot or "depot")),
    )


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Inputs, and what an earlier run with other splits, backbones and heads has left."""
    at = Layout(tmp_path_factory.mktemp("run"))
    world = make_world(tmp_path_factory.mktemp("world"), noise=0.6)
    write_two_columns(at.items, world)
    write_split(at.split("random"), world.ids, world.parts)
    # Four rows on, so that no pair has another one's figures.
    parts = (*world.parts[4:], *world.parts[:4])
    write_split(at.split("image-grouped"), world.ids, parts)
    for backbone in ("tiny", "mute"):
        at.view(backbone).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(world.features, at.view(backbone))
    write_texts(at.texts("tiny"), [*CLASSES, "drink", "rest"])
    for gone in (
        at.result("logistic", "tiny") / "gone-label",
        at.result("logistic", "gone") / "random-label",
        at.result("mlp", "tiny") / "random-label",
    ):
        gone.mkdir(parents=True)
        (gone / "result.json").write_text("{}")
    for what in ("confusion", "reliability"):
        at.plots(what).mkdir(parents=True)
        (at.plots(what) / "mlp-tiny.csv").write_text("stale")
    return at


@pytest.fixture(scope="module")
def at(stale: Layout) -> Layout:
    run(stale)
    return stale


def answered(folder: Path) -> Evaluation:
    return HeadResult.model_validate_json((folder / "result.json").read_bytes())


def test_numbers_of_every_split_and_label_set(at: Layout) -> None:
    numbers = json.loads(at.metrics("heads").read_text())
    # What starts from texts runs where there are texts.
    assert {kind: set(of) for kind, of in numbers.items()} == {
        "zero-shot": {"tiny"},
        "logistic": {"tiny", "mute"},
        "knn": {"tiny", "mute"},
    }
    tops = []
    for kind, of_kind in numbers.items():
        for backbone, of_backbone in of_kind.items():
            assert {split: set(of) for split, of in of_backbone.items()} == {
                key: set(LABELS) for key in SPLITS
            }
            for split in SPLITS:
                for labels in LABELS:
                    folder = at.result(kind, backbone) / f"{split}-{labels}"
                    expected = answered(folder)
                    assert (expected.method, expected.split, expected.labels) == (kind, split, labels)
                    test = of_backbone[split][labels]["test"]
                    assert test["top1"] == pytest.approx(expected.parts["test"].top1, abs=1e-6)
                    assert test["ece"] == pytest.approx(expected.calibration.ece, abs=1e-6)
                    assert json.loads((folder / "metrics.json").read_text()) == of_backbone[split][labels]
                    if (kind, backbone) == ("logistic", "tiny"):
                        tops.append((test["top1"], test["ece"]))
    assert len(set(tops)) == len(SPLITS) * len(LABELS), "otherwise a mix-up would not be seen"


def test_plots_are_of_the_first_pair(at: Layout) -> None:
    names = {"zero-shot-tiny.csv", "logistic-tiny.csv", "logistic-mute.csv", "knn-tiny.csv", "knn-mute.csv"}
    for what in ("confusion", "reliability"):
        assert {path.name for path in at.plots(what).iterdir()} == names
    first = at.result("logistic", "tiny") / "random-label"
    confusion = (at.plots("confusion") / "logistic-tiny.csv").read_text()
    assert confusion == (first / "confusion.csv").read_text()
    assert confusion.startswith("truth,prediction\n")
    with (at.plots("reliability") / "logistic-tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = answered(first)
    filled = [one for one in expected.calibration.bins if one.n]
    assert [int(row["n"]) for row in rows] == [one.n for one in filled]
    assert sum(int(row["n"]) for row in rows) == expected.parts["test"].n
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(
        [one.accuracy for one in filled], abs=1e-6
    )
    assert [float(row["confidence"]) for row in rows] == sorted(float(row["confidence"]) for row in rows)


def test_results_of_a_pair_a_backbone_or_a_head_that_is_gone_go_too(at: Layout) -> None:
    names = sorted(path.name for path in at.result("logistic", "tiny").iterdir())
    assert names == ["image-grouped-label", "image-grouped-other", "random-label", "random-other"]
    assert {path.name for path in at.results_of("heads").iterdir()} == set(KINDS)
    assert {path.name for path in (at.results_of("heads") / "logistic").iterdir()} == {"tiny", "mute"}


def test_heads_that_read_maps_run_where_patch_tokens_are_stored(tmp_path: Path) -> None:
    at, world = Layout(tmp_path / "run"), make_world(tmp_path / "world", noise=0.6)
    write_two_columns(at.items, world)
    write_split(at.split("random"), world.ids, world.parts)
    for copied in (at.view("tiny"), at.maps("tiny")):
        copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(world.features, at.view("tiny"))
    shutil.copy(world.maps, at.maps("tiny"))
    few = {"backbones": {"tiny": {}}, "text_backbones": [], "splits": {"random": {}}, "labels": ["label"]}
    kinds = {"attentive": {"lrs": [0.03], "epochs": 5, "batch": 8}, "logistic": {"cs": [0.1]}}
    run(at, world.depot, **few, patch_tokens={"tiny": {}}, heads={"kinds": kinds})
    numbers = json.loads(at.metrics("heads").read_text())
    assert {kind: set(of) for kind, of in numbers.items()} == {"attentive": {"tiny"}, "logistic": {"tiny"}}
    table = results_table(at.results(), frozenset())
    listed = {row.method for group in table for row in group.rows}
    assert {"attentive probe", "linear probe (logistic regression)"} <= listed
    # Without stored tokens there is nothing to learn such a head from, and the others are learned.
    run(at, world.depot, **few, heads={"kinds": kinds})
    assert {path.name for path in at.results_of("heads").iterdir()} == {"logistic"}


def test_few_shot_is_asked_as_the_profile_says(at: Layout) -> None:
    result = HeadResult.model_validate_json(
        (at.result("knn", "tiny") / "random-label" / "result.json").read_bytes()
    )
    assert {(one["per_class"], one["tries"]) for one in result.learned["few_shot"]} == {(1, 2), (2, 2)}


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({"logistc": {}}, "logistic"),
        ({"knn": {}, "logistic": {"c": 1}}, "no argument c"),
        ({"knn": {"temperature": -1}}, "temperature must be positive, got -1"),
        ({"linear": {"epochs": 0, "lr": -1}}, "lr must be positive.*epochs must be 1 or more"),
    ],
)
def test_an_odd_head_clears_nothing_away(at: Layout, kinds: dict[str, object], said: str) -> None:
    before = {path: path.read_bytes() for path in at.root.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=said):
        run(at, heads={"kinds": kinds})
    assert {path: path.read_bytes() for path in at.root.rglob("*") if path.is_file()} == before
