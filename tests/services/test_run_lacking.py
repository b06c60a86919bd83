"""`deponij run` where something is lacking: labels, classes to tell apart, a model, pictures."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cli_world
import fake_backbone
import numpy as np
import pyarrow.parquet as pq
import pytest

from deponij.project.data_sets import SourceChoice, source_of
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.services import run as service
from deponij.services.run import Plan
from deponij.stages.registry import STAGES
from deponij.store.errors import DeponijError, IdentityError, UsageError
from deponij.store.view import View

LEARNING = {"heads", "retrieval", "curves", "mistakes", "tables", "ensembles"}


@pytest.fixture(autouse=True, scope="module")
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(fake_backbone.make(tmp_path / "model"))


def run(
    tmp_path: Path, source: SourceChoice, *backbones: str, out: str = "out", **plan: Any
) -> dict[str, Any]:
    options = RunOptions(depot=str(tmp_path / "depot"), device="cpu", threads=1, workers=2)
    return service.run(Plan(source=source, backbones=backbones, **plan), out=tmp_path / out, options=options)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Twelve pictures in no class folder, two of them the same."""
    (tmp_path / "flat").mkdir()
    for number in range(11):
        cli_world.picture(list(cli_world.COLOURS.values())[number % 3], number).save(
            tmp_path / "flat" / f"{number:02}.png"
        )
    shutil.copy(tmp_path / "flat" / "00.png", tmp_path / "flat" / "copy.png")
    return tmp_path / "flat"


def test_which_stages_need_labels_is_data_of_the_list() -> None:
    assert {stage.name for stage in STAGES if stage.needs_labels} == LEARNING
    assert {stage.name for stage in STAGES if "classes" in stage.needs} == {"answers"}


def test_pictures_without_labels_get_all_that_needs_none(
    tmp_path: Path, model: str, flat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mute = str(fake_backbone.make(tmp_path / "wordless", has_text=False))
    result = run(tmp_path, SourceChoice("folder", {"folder": flat}), model, mute)
    at = Layout(tmp_path / "out")
    assert (result["results"], result["n_failed"], result["n_items"]) == ([], 0, 12)
    assert LEARNING.isdisjoint(label.partition("@")[0] for label in result["seconds"])
    for place in (at.map, at.likeness, at.view):
        assert {place(name).is_file() for name in ("model", "wordless")} == {True}
    assert [index["has_texts"] for index in result["indexes"]] == [True, False]
    assert result["ask"][0].startswith('deponij query text "WORDS"')
    # The one pair that shows the same picture.
    assert [one["n_groups"] >= 1 for one in result["likeness"]] == [True, True]
    page = Path(result["page"]).read_text()
    for heading in ("Without labels", "Map of the embeddings", "Alike, and apart", "copy.png"):
        assert heading in page
    assert "All results" not in page
    assert result["sheet"] is None
    told = capsys.readouterr().err
    assert "have no labels: there are no class folders below" in told
    assert f"expected files such as {flat / 'CLASS' / 'NAME.jpg'}" in told
    assert "Labels (class folders, or --labels COLUMN) would add classifiers" in told
    # Said again by who looks at it, or asks it what it cannot know.
    assert "no labels were learned from" in cli_world.done("results", at.root).out
    again = cli_world.done("results", at.root, "--json").json
    # What extracting would take is said before it, not afterwards.
    ran = {name: value for name, value in result.items() if name not in ("forecast", "offer")}
    assert {**again, "depot": result["depot"]} == json.loads(json.dumps(ran))
    refused = cli_world.call("predict", flat / "00.png", "--model", at.root)
    assert (refused.status, "had no labels to learn from" in refused.err) == (1, True)
    assert cli_world.done("query", "item", "00.png", "--index", at.index("model"), "--json").json


def test_labels_that_are_added_later_take_the_place_of_none(tmp_path: Path, model: str, flat: Path) -> None:
    run(tmp_path, SourceChoice("folder", {"folder": flat}), model)
    folder = cli_world.class_folders(tmp_path / "pictures")
    labelled = run(tmp_path, SourceChoice("folder", {"folder": folder}), model)
    assert labelled["results"]
    assert "Without labels" not in Path(labelled["page"]).read_text()
    again = run(tmp_path, SourceChoice("folder", {"folder": flat}), model)
    assert again["results"] == []
    assert not Layout(tmp_path / "out").all_results.exists()


def test_one_class_is_as_none_and_the_parent_is_offered(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    assert run(tmp_path, SourceChoice("folder", {"folder": folder / "can"}), model)["results"] == []
    assert (
        f"no class folders below {folder / 'can'}; did you mean its parent {folder}?"
        in capsys.readouterr().err
    )
    # Of the others nothing can be read: they teach nothing.
    for name in list(cli_world.COLOURS)[1:]:
        for path in (folder / name).iterdir():
            path.write_bytes(b"no picture")
    result = run(tmp_path, SourceChoice("folder", {"folder": folder}), model)
    assert (result["results"], result["n_failed"]) == ([], 2 * cli_world.N_PER_CLASS + 1)
    assert (
        "only one class, 'can', in their column 'label': there is nothing to tell apart"
        in capsys.readouterr().err
    )


def test_items_whose_label_is_missing_are_counted_and_the_others_learned_from(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cli_world.class_folders(tmp_path / "pictures")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    names.remove(cli_world.TRUNCATED)
    with (tmp_path / "table.csv").open("w") as file:
        rows = [[name, "" if name.endswith("03.png") else name.split("/")[0]] for name in names]
        csv.writer(file).writerows([["path", "label"], *rows])
    result = run(tmp_path, source_of(table=tmp_path / "table.csv", images=folder), model)
    assert result["results"]
    assert "3 of 36 items have no 'label': nothing is learned from them" in capsys.readouterr().err
    assert len(View(Layout(tmp_path / "out").view("model"))) == 36


def test_classes_are_answered_by_words_alone(tmp_path: Path, model: str, flat: Path) -> None:
    mute = str(fake_backbone.make(tmp_path / "wordless", has_text=False))
    source = SourceChoice("folder", {"folder": flat})
    result = run(tmp_path, source, mute, model, classes=("cup", "a tin can"))
    at = Layout(tmp_path / "out")
    (answers,) = result["answers"]
    assert (answers["backbone"], set(answers["n"]), sum(answers["n"].values())) == (
        "model",
        {"cup", "a tin can"},
        12,
    )
    table = pq.read_table(at.answers("model")).to_pylist()
    with Path(answers["table"]).open() as file:
        assert [row["answer"] for row in csv.DictReader(file)] == [row["answer"] for row in table]
    # By hand: softmax of 100 cosines with the mean of each class's unit text vectors, `name` and `photo`.
    texts, view = View(at.texts("model")), View(at.view("model"))
    unit = [v / np.linalg.norm(v) for v in texts.embedding.astype(np.float64)]
    means = np.stack(
        [
            np.mean([v for v, g in zip(unit, texts.columns["group"], strict=True) if g == c], 0)
            for c in ("a tin can", "cup")
        ]
    )
    logits = (
        100
        * (view.embedding / np.linalg.norm(view.embedding, axis=1, keepdims=True))
        @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    )
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    expected = [("a tin can", "cup")[one] for one in probs.argmax(axis=1)]
    assert [row["answer"] for row in table] == expected
    assert np.allclose([row["confidence"] for row in table], probs.max(axis=1), atol=1e-4)
    page = Path(result["page"]).read_text()
    assert "Answers by words" in page
    assert "answers of model" in page


@pytest.mark.parametrize(
    ("classes", "words", "said"),
    [
        (("cup", "can"), False, r"cannot read: add one that can, such as --backbone openclip-vit-b-"),
        (("cup",), True, "classes are two or more different names"),
        (("cup", "cup"), True, "classes are two or more different names"),
        (("cup", ""), True, "classes are two or more different names"),
    ],
)
def test_classes_that_cannot_be_answered_are_refused_before_work(
    tmp_path: Path, flat: Path, classes: tuple[str, ...], words: bool, said: str
) -> None:
    name = str(fake_backbone.make(tmp_path / "one", has_text=words))
    with pytest.raises(UsageError, match=said):
        run(tmp_path, SourceChoice("folder", {"folder": flat}), name, classes=classes)
    assert not (tmp_path / "out").exists()


def test_features_given_back_bring_the_same_figures(tmp_path: Path, model: str) -> None:
    """Exported and given back, the vectors are bit for bit those of the run, and so is all that is made of them."""
    folder = cli_world.class_folders(tmp_path / "pictures")
    mute = str(fake_backbone.make(tmp_path / "mute", has_text=False))
    first = run(tmp_path, SourceChoice("folder", {"folder": folder}), mute)
    at, back = Layout(tmp_path / "out"), Layout(tmp_path / "back")
    cli_world.done("view", "export", at.view("mute"), tmp_path / "mine.parquet")
    source = source_of(folder=folder, embeddings=[tmp_path / "mine.parquet"])
    given = run(tmp_path, source, out="back", embeddings=(tmp_path / "mine.parquet",))
    view = View(back.view("mine"))
    assert (view.identity.backbone, view.identity.kind) == (f"given:mine/{fake_backbone.DIM}", "embedding")
    assert np.array_equal(view.embedding, View(at.view("mute")).embedding)

    def figures(record: dict[str, Any]) -> list[dict[str, Any]]:
        names = ("backbone", "fingerprint")
        return [{k: v for k, v in row.items() if k not in names} for row in record["results"]]

    assert figures(given) == figures(first)
    for path in at.results_of("heads").glob("*/mute/*/logits.npy"):
        other = back.root / path.relative_to(at.root)
        other = Path(str(other).replace("/mute/", "/mine/"))
        assert path.read_bytes() == other.read_bytes()
    # What needs a model says that none is known; what needs vectors alone goes on.
    for asked in (
        ["predict", folder / "can" / "00.png", "--model", back.root],
        ["query", "text", "a can", "--index", back.index("mine")],
        ["query", "image", folder / "can" / "00.png", "--index", back.index("mine")],
    ):
        answer = cli_world.call(*asked)
        assert (answer.status, "no model is known that makes them" in answer.err) == (1, True), answer
    assert cli_world.done("query", "item", "can/00.png", "--index", back.index("mine"), "--json").json
    for command in ("duplicates", "outliers"):
        cli_world.done(command, "--features", back.view("mine"), "--json")


def test_embeddings_without_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a table of labels, or with nothing but their ids; pages show the ids."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 5)) + np.repeat(np.eye(4, 5) * 6, 10, axis=0)
    np.save(tmp_path / "x.npy", vectors)
    names = [f"thing-{row}" for row in range(40)]
    (tmp_path / "ids.txt").write_text("\n".join(names) + "\n")
    with (tmp_path / "labels.csv").open("w") as file:
        csv.writer(file).writerows(
            [["id", "label"], *([name, "abcd"[row // 10]] for row, name in enumerate(names))]
        )
    given: dict[str, Any] = {"embeddings": (tmp_path / "x.npy",), "ids": str(tmp_path / "ids.txt")}
    source = source_of(table=tmp_path / "labels.csv", **given)
    assert source.adapter == "unpictured"
    result = run(tmp_path, source, **given)
    assert {row["backbone"] for row in result["results"] if not row["is_baseline"]} == {"x"}
    assert "thing-" in Path(result["page"]).read_text()
    assert "<img" not in Path(result["page"]).read_text()
    told = capsys.readouterr().err
    assert "40 of 40 items matched by id" in told
    assert "float64: kept as float32" in told
    alone = run(tmp_path, source_of(**given), out="alone", **given)
    assert (alone["results"], alone["n_items"]) == ([], 40)
    with pytest.raises(UsageError, match="no pictures for .* to look at"):
        run(tmp_path, source, str(fake_backbone.make(tmp_path / "model")), out="other", **given)


def test_a_model_is_not_asked_for_what_was_given(tmp_path: Path) -> None:
    from deponij.pipeline.backbones import describe
    from deponij.project.extraction.given import refuse_given
    from deponij.store.identity import Identity

    with pytest.raises(DeponijError, match="is no model"):
        describe("given:mine.npy")
    with pytest.raises(IdentityError, match="no model is known"):
        refuse_given(Identity("given:mine/5", "a" * 64, "embedding", "", "", "", "float32"), "mine")


def test_a_coco_file_of_pictures_alone_gives_whole_pictures(tmp_path: Path, model: str, flat: Path) -> None:
    """As COCO's own `image_info` files; and boxes of no category are items without a label."""
    images = [{"id": i, "file_name": path.name} for i, path in enumerate(sorted(flat.iterdir()))]
    boxes = [{"id": i, "image_id": i, "bbox": [2, 3, 10, 9], "area": 90} for i in range(len(images))]
    for number, document in enumerate(
        (
            {"images": images},
            {"images": images, "annotations": [], "categories": []},
            {"images": images, "annotations": boxes, "categories": []},
        )
    ):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(document))
        result = run(tmp_path, source_of(coco=path, images=flat), model, out=str(number))
        assert (result["results"], result["n_items"], result["n_failed"]) == ([], len(images), 0)
