"""Texts in, text vectors out: from labels, files and templates."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_backbone
import numpy as np
import pyarrow as pa
import pytest
from learning_world import picture, write_features, write_items
from under_dvc import under_dvc

from deponij.project.extraction.texts import BATCH
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.learning.class_texts import (
    caption_columns,
    caption_vectors,
    class_texts,
    groups_of,
    templates_of,
)
from deponij.project.learning.results import read_labelled
from deponij.stages import extract_text as stage
from deponij.stages.extract_text import (
    Prompt,
    TextParams,
    TextResult,
    captions_from,
    prompts_from_file,
    prompts_from_labels,
)
from deponij.store.depot import FeatureStore
from deponij.store.errors import BackboneError, DataError, StoreError, UsageError
from deponij.store.items import Items, ItemWriter
from deponij.store.keys import key_of_bytes, key_of_text
from deponij.store.view import View


@pytest.fixture(autouse=True, scope="module")
def family() -> Iterator[None]:
    with fake_backbone.registered():
        yield


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return fake_backbone.make(tmp_path / "model")


@pytest.fixture
def items(tmp_path: Path) -> Path:
    labels = ["Paper_cup", "Can", None, "Can"]
    write_items(tmp_path / "items", [(f"{i}.png", picture(i), label) for i, label in enumerate(labels)])
    return tmp_path / "items"


def run(tmp_path: Path, model: Path, prompts: list[Prompt], name: str = "texts.h5") -> TextResult:
    options = RunOptions(depot=str(tmp_path / "depot"), threads=1)
    return stage.run(TextParams(), prompts, backbone=str(model), out=tmp_path / name, options=options)


def test_prompts_of_labels_each_once(items: Path) -> None:
    prompts = prompts_from_labels(items, ["label", "label"], ["name", "photo"])
    assert prompts == [
        Prompt("Can", "Can", "{}"),
        Prompt("a photo of a Can", "Can", "a photo of a {}"),
        Prompt("Paper cup", "Paper_cup", "{}"),
        Prompt("a photo of a Paper cup", "Paper_cup", "a photo of a {}"),
    ]
    with pytest.raises(StoreError, match="lable.*they have"):
        prompts_from_labels(items, ["lable"], ["name"])
    with pytest.raises(UsageError, match="'given'.*has no values"):
        prompts_from_labels(items, ["given"], ["name"])


def test_classes_are_named_as_learning_names_them(tmp_path: Path) -> None:
    """Expected: `read_labelled`'s names; of measures, which are no classes, it makes none either."""
    schema = pa.schema([("is_litter", pa.bool_()), ("number", pa.int64()), ("area", pa.float32())])
    with ItemWriter(tmp_path / "items", schema) as writer:
        for i in range(3):
            metadata = {"is_litter": i > 0, "number": 7 + i, "area": 0.5}
            key = key_of_bytes(picture(i))
            writer.add(item_id=f"{i}", key=key, image_id=f"{i}", content=picture(i), metadata=metadata)
    write_features(
        tmp_path / "v.h5",
        list("012"),
        [key_of_bytes(picture(i)) for i in range(3)],
        np.eye(3, dtype=np.float32),
    )
    for column in ("is_litter", "number"):
        _, labels, _ = read_labelled(View(tmp_path / "v.h5"), Items(tmp_path / "items"), column)
        groups = {prompt.group for prompt in prompts_from_labels(tmp_path / "items", [column], ["name"])}
        assert groups == set(labels.tolist())
    with pytest.raises(UsageError, match="'area' holds float; labels are names"):
        prompts_from_labels(tmp_path / "items", ["area"], ["name"])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.txt", " a can \n\na cup\na can\n", [("a can", "a can"), ("a cup", "a cup")]),
        ("t.json", '["a can", "a cup"]', [("a can", "a can"), ("a cup", "a cup")]),
        ("t.json", '{"Can": ["tin", "can"], "Cup": "mug"}', [("Can", "tin"), ("Can", "can"), ("Cup", "mug")]),
        ("t.JSON", '{"Can": []}', None),
        ("t.json", '[["a can"]]', None),
        ("t.json", '[{"a": 1}]', None),
        ("t.json", '{"Can": [1]}', None),
        ("t.json", "7", None),
        ("t.json", "{", None),
        ("t.txt", "\n", None),
    ],
)
def test_prompts_of_files(
    tmp_path: Path, name: str, content: str, expected: list[tuple[str, str]] | None
) -> None:
    file = tmp_path / name
    file.write_text(content)
    if expected is None:
        with pytest.raises(DataError, match=name):
            prompts_from_file(file, ["name"])
        return
    assert [(p.group, p.text) for p in prompts_from_file(file, ["name"])] == expected
    filled = prompts_from_file(file, ["name", "one {}"])
    assert [p.text for p in filled][:2] == [expected[0][1], f"one {expected[0][1]}"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    for file in (tmp_path / "absent.txt", tmp_path / "bytes.txt", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            prompts_from_file(file, ["name"])


def test_view_of_texts(tmp_path: Path, model: Path, items: Path) -> None:
    prompts = prompts_from_labels(items, ["label"], ["name", "photo"])
    result = run(tmp_path, model, prompts)
    assert (result.n_texts, result.n_groups, result.n_computed) == (4, 2, 4)
    view = View(tmp_path / "texts.h5")
    assert view.kind == "text"
    assert view.ids.tolist() == ["Can#0", "Can#1", "Paper_cup#0", "Paper_cup#1"]
    assert view.columns["text"].tolist() == [p.text for p in prompts]
    assert view.columns["group"].tolist() == [p.group for p in prompts]
    assert view.columns["template"].tolist() == [p.template for p in prompts]
    assert view.keys.tolist() == [key_of_text(p.text) for p in prompts]
    # The made-up tower counts the letters a, e, i, o, u and spaces.
    expected = [[p.text.count(letter) for letter in "aeiou "] for p in prompts]
    np.testing.assert_allclose(view.embedding - np.arange(1, 7) / 10, expected, atol=1e-6)
    assert "tokenizer:" in view.identity.transform


def test_only_new_texts_are_computed(tmp_path: Path, model: Path, items: Path) -> None:
    run(tmp_path, model, prompts_from_labels(items, ["label"], ["name"]))
    first = (tmp_path / "texts.h5").read_bytes()
    more = run(tmp_path, model, prompts_from_labels(items, ["label"], ["name", "photo"]), "more.h5")
    assert (more.n_texts, more.n_computed) == (4, 2)
    assert run(tmp_path, model, prompts_from_labels(items, ["label"], ["name"])).n_computed == 0
    assert (tmp_path / "texts.h5").read_bytes() == first


def test_captions_each_once_as_they_are(tmp_path: Path) -> None:
    captions = ["a Can", "a  cup ", None, "a Can", " ", "Can"]
    write_items(tmp_path / "items", [(f"{i}.png", picture(i), text) for i, text in enumerate(captions)])
    found = captions_from(tmp_path / "items", "label")
    assert found == [Prompt(text, "", "", "label") for text in ("a Can", "a  cup ", "Can")]
    assert captions_from(tmp_path / "items", None) == []
    with pytest.raises(StoreError, match="lable.*they have"):
        captions_from(tmp_path / "items", "lable")
    for column in ("given", "area"):
        with pytest.raises(UsageError, match=f"'{column}'.*holds no captions"):
            captions_from(tmp_path / "items", column)


def test_captions_stand_behind_the_texts_of_classes(tmp_path: Path, model: Path, items: Path) -> None:
    prompts = prompts_from_labels(items, ["label"], ["name"])
    run(tmp_path, model, prompts, "plain.h5")
    result = run(tmp_path, model, [*prompts, *captions_from(items, "label")])
    # The label Can is a text of its class already: one row of the depot, two of the view.
    assert (result.n_texts, result.n_groups, result.n_captions, result.n_computed) == (4, 2, 2, 1)
    assert "2 texts of 2 classes and 2 captions, 1 computed" in stage.summary(result)
    view, plain = View(tmp_path / "texts.h5"), View(tmp_path / "plain.h5")
    assert "caption_column" not in plain.columns
    assert view.columns["text"].tolist() == ["Can", "Paper cup", "Paper_cup", "Can"]
    assert view.columns["group"].tolist() == ["Can", "Paper_cup", "", ""]
    assert view.columns["caption_column"].tolist() == ["", "", "label", "label"]
    np.testing.assert_array_equal(view.embedding[0], view.embedding[3])
    for one in (view, plain):
        assert (groups_of(one), templates_of(one)) == (["Can", "Paper_cup"], ["{}"])
        classes = class_texts(one, ["Can", "Paper_cup"], backbone="b", items=items, labels=["label"])
        np.testing.assert_array_equal(classes.vectors, plain.embedding)
    assert (caption_columns(view), caption_columns(plain)) == (["label"], [])
    captions = ["Can", "Paper_cup"]
    vectors = caption_vectors(view, "label", captions, backbone="b", items=items, labels=[])
    np.testing.assert_array_equal(vectors, view.embedding[[3, 2]])
    with pytest.raises(DataError, match="1 captions have no vectors.*'Paper cup'") as caught:
        caption_vectors(view, "label", ["Paper cup"], backbone="b", items=items, labels=[])
    assert "extract-text --backbone b --items" in str(caught.value)
    # Once more: nothing is computed, and the bytes are the same.
    again = run(tmp_path, model, [*prompts, *captions_from(items, "label")], "again.h5")
    assert again.n_computed == 0
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "texts.h5").read_bytes()


def test_one_text_may_speak_of_two_classes(tmp_path: Path, model: Path) -> None:
    result = run(tmp_path, model, [Prompt("litter", "Can", "{}"), Prompt("litter", "Cup", "{}")])
    assert (result.n_texts, result.n_computed) == (2, 1)
    assert View(tmp_path / "texts.h5").ids.tolist() == ["Can#0", "Cup#0"]


def test_more_texts_than_a_batch_keep_their_order(tmp_path: Path, model: Path) -> None:
    prompts = [Prompt("a" * i, f"{i}", "{}") for i in range(2 * BATCH + 3)]
    run(tmp_path, model, prompts)
    counts = View(tmp_path / "texts.h5").embedding[:, 0] - 0.1
    np.testing.assert_allclose(counts, range(len(prompts)), atol=1e-4)


def test_refusals_leave_nothing_behind(tmp_path: Path) -> None:
    mute = fake_backbone.make(tmp_path / "mute", has_text=False)
    with pytest.raises(BackboneError, match="no text tower"):
        run(tmp_path, mute, [Prompt("a", "a", "{}")])
    model = fake_backbone.make(tmp_path / "model")
    for strange in ("a\0b", json.loads('"\\ud800"')):
        with pytest.raises(DataError, match="valid Unicode"):
            run(tmp_path, model, [Prompt("fine", "fine", "{}"), Prompt(strange, "a", "{}")])
    assert not (tmp_path / "texts.h5").exists()
    depot = tmp_path / "depot"
    assert not depot.exists() or FeatureStore(depot).identities() == {}


def test_under_dvc_every_backbone_with_words_and_texts_of_others_go(
    tmp_path: Path, model: Path, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Layout.of("tiny")
    monkeypatch.chdir(tmp_path)
    at.items.parent.mkdir(parents=True)
    at.items.symlink_to(items)
    at.texts("gone").parent.mkdir(parents=True)
    at.texts("gone").write_text("of a backbone that has left the profile")
    profile = f"profile: tiny\nbackbones: {{a: {{spec: {model}}}, mute: {{}}}}\nlabels: [label]\n"
    (tmp_path / "params.yaml").write_text(f"{profile}text_backbones: [a, b]\n")
    with pytest.raises(UsageError, match="text_backbones names b; the profile has a, mute"):
        under_dvc(stage)
    assert at.texts("gone").exists()
    (tmp_path / "params.yaml").write_text(f"{profile}text_backbones: [a]\n")
    under_dvc(stage)
    assert [path.name for path in at.texts("a").parent.iterdir()] == ["a.h5"]
    assert groups_of(View(at.texts("a"))) == ["Can", "Paper_cup"]


def test_a_text_without_a_finite_vector_is_named_and_costs_no_other(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fake_backbone.Fake._embed_texts

    def overflows(backbone: fake_backbone.Fake, texts: list[str]) -> Any:
        rows = real(backbone, texts)
        rows[[text == "number 7" for text in texts]] = float("inf")
        return rows

    prompts = [Prompt(f"number {i}", f"{i}", "{}") for i in range(90)]
    with monkeypatch.context() as patch:
        patch.setattr(fake_backbone.Fake, "_embed_texts", overflows)
        with pytest.raises(
            BackboneError, match=r"1 of 90 texts are not finite .* in fp32, the first: 'number 7'"
        ):
            run(tmp_path, model, prompts)
    assert run(tmp_path, model, prompts).n_computed == 1
