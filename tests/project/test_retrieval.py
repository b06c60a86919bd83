"""Retrieval and its command on made-up worlds: joins, photographs, words, captions, files, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from captions_world import CAPTIONS, caption_of, make_told
from cli_world import call, done
from learning_world import CLASSES, World, learned, make_world, write_features, write_split, write_texts
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from deponij.pipeline.metrics.retrieval import RETRIEVAL, RetrievalResult, figures_of
from deponij.project.retrieval import images, texts
from deponij.project.retrieval.archive import RetrievalParams, choose_examples, compared
from deponij.store.errors import DataError, IdentityError, StoreError, UsageError
from deponij.store.view import View

QUICK = RetrievalParams()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), noise=0.5)


def run(world: World, params: RetrievalParams = QUICK, **changes: Path | str) -> RetrievalResult:
    arguments = {"features": world.features, "items": world.items, "split": world.split, "labels": "label"}
    return images.run(params, **{**arguments, **changes})  # type: ignore[arg-type]


def run_texts(
    world: World, params: RetrievalParams = QUICK, **changes: Path | str
) -> tuple[RetrievalResult, RetrievalResult]:
    arguments = {"features": world.features, "items": world.items, "split": world.split, "labels": "label"}
    both = texts.run(params, **{**arguments, "texts": world.texts, **changes})  # type: ignore[arg-type]
    return both[0], both[1]


def rows_of(world: World) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """By hand: ids, labels, photographs, whether of the test part, and vectors of what can be used."""
    used = [
        (item, label, item.split("#")[0], part == "test")
        for item, label, part in zip(world.ids, world.labels, world.parts, strict=True)
        if label and part and item not in world.failed
    ]
    ids, labels, photos, tested = (list(column) for column in zip(*used, strict=True))
    return ids, np.array(labels), np.array(photos), np.array(tested), View(world.features).read(ids)


def test_pictures_find_pictures_of_other_photographs(world: World) -> None:
    """Expected: scikit-learn's cosines and average precision, over the labelled items of all other photographs."""
    _, labels, photos, tested, embedding = rows_of(world)
    scores = cosine_similarity(embedding.astype(np.float64))
    ap, first, names = [], [], []
    for row in np.flatnonzero(tested):
        kept = photos != photos[row]
        truth = labels[kept] == labels[row]
        ap.append(average_precision_score(truth, scores[row][kept]))
        first.append(truth[scores[row][kept].argmax()])
        names.append(labels[row])
    found = run(world)
    assert found.figures.micro["mAP"].value == pytest.approx(np.mean(ap), abs=1e-6)
    assert found.figures.micro["recall@1"].value == pytest.approx(np.mean(first), abs=1e-6)
    by_class = {name: np.mean([a for a, n in zip(ap, names, strict=True) if n == name]) for name in CLASSES}
    assert [one.name for one in found.figures.classes] == sorted(CLASSES)
    for one in found.figures.classes:
        assert one.figures["mAP"].value == pytest.approx(by_class[one.name], abs=1e-6)
        assert one.n == names.count(one.name)
    assert found.figures.macro["mAP"].value == pytest.approx(np.mean(list(by_class.values())), abs=1e-6)
    assert (found.n_queries, found.n_without, found.n_gallery) == (tested.sum(), 0, len(labels))
    assert found.figures.n_resampled == len(set(photos[tested].tolist()))
    low, high = found.figures.micro["mAP"].interval or (1, 0)
    assert low < found.figures.micro["mAP"].value < high
    assert found.figures.micro["recall@1"].chance == pytest.approx(0.25, abs=0.02)
    assert (found.backbone, found.column, found.split, found.part) == ("tiny", "label", "split", "test")
    assert f"all {len(labels)} labelled items of the split but those of its own photograph" in found.protocol


def test_what_has_no_like_elsewhere_is_counted_and_told(world: World) -> None:
    """Every class in one photograph alone: relevant items are all of the query's own."""
    found = run(world, labels="image_id")
    tested = zip(world.ids, world.parts, strict=True)
    n = sum(part == "test" and item not in world.failed for item, part in tested)
    assert (found.n_queries, found.n_without) == (0, n)
    assert found.figures.micro == {}
    assert "there is nothing for them to find" in found.notes[0]
    assert compared([found]) == {"split": {"image_id": {"image-to-image": {}}}}


def test_without_a_test_part_the_last_one_is_judged(world: World, tmp_path: Path) -> None:
    parts = ["train" if part == "test" else part for part in world.parts]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    found = run(world, split=tmp_path / "split.parquet")
    assert found.part == "val"
    assert found.protocol.startswith("each val item")


def test_examples_are_the_nearest_of_other_photographs(world: World) -> None:
    ids, labels, photos, tested, embedding = rows_of(world)
    scores = cosine_similarity(embedding.astype(np.float64))
    found = run(world, RetrievalParams(n_examples=5, n_hits=3))
    assert len(found.examples) == 5
    # One of each class before any has two.
    assert len({example.label for example in found.examples}) == len(CLASSES)
    for example in found.examples:
        row = ids.index(example.item_id)
        assert tested[row]
        order = [o for o in np.argsort(-scores[row]) if photos[o] != photos[row]][:3]
        assert [hit.item_id for hit in example.hits] == [ids[o] for o in order]
        assert [hit.is_relevant for hit in example.hits] == [labels[o] == labels[row] for o in order]
        assert [hit.score for hit in example.hits] == pytest.approx([scores[row][o] for o in order], abs=1e-5)
    again = run(world, RetrievalParams(n_examples=5, n_hits=3, seed=1))
    assert {e.item_id for e in again.examples} != {e.item_id for e in found.examples}
    assert choose_examples(np.array(["a", "a"]), 5, 0) in ([0, 1], [1, 0])


def test_pictures_find_their_class_as_zero_shot_does(world: World) -> None:
    _, by_picture = run_texts(world)
    scores = learned(world, "zero-shot", texts=world.texts).parts["test"]
    assert by_picture.task == "image-to-text"
    assert by_picture.figures.micro["recall@1"].value == pytest.approx(scores.top1, abs=1e-6)
    assert by_picture.figures.macro["recall@1"].value == pytest.approx(scores.balanced_accuracy, abs=1e-6)
    assert by_picture.figures.micro["recall@1"].chance == 0.25
    assert (by_picture.n_queries, by_picture.n_gallery) == (scores.n, 4)


def test_words_find_pictures_of_their_class(world: World) -> None:
    """Expected: the mean of unit texts of a class against the test items, by scikit-learn."""
    _, labels, _, tested, embedding = rows_of(world)
    texts = View(world.texts)
    units = texts.embedding / np.linalg.norm(texts.embedding, axis=1, keepdims=True)
    by_text, _ = run_texts(world)
    assert (by_text.n_queries, by_text.n_gallery, by_text.resampled) == (4, tested.sum(), "texts")
    for one in by_text.figures.classes:
        mean = units[texts.columns["group"] == one.name].mean(axis=0)
        scores = cosine_similarity(mean[None].astype(np.float64), embedding[tested])[0]
        expected = average_precision_score(labels[tested] == one.name, scores)
        assert one.figures["mAP"].value == pytest.approx(expected, abs=1e-6)
        assert one.figures["mAP"].interval is None
    # Each class is one query: means over queries and over classes are the same.
    assert by_text.figures.macro == {}
    only, _ = run_texts(world, RetrievalParams(templates=("{}",)))
    assert "the mean of 1 text a class" in only.protocol


def test_a_class_that_no_judged_item_has_is_told(world: World, tmp_path: Path) -> None:
    parts = [
        "train" if part == "test" and label == "Lid" else part
        for part, label in zip(world.parts, world.labels, strict=True)
    ]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    by_text, by_picture = run_texts(world, split=tmp_path / "split.parquet")
    assert (by_text.n_queries, by_text.n_without) == (3, 1)
    assert by_text.notes[0] == "1 of 4 classes have no test item to be found; they are in no figure."
    assert by_picture.n_gallery == 4


# ------------------------------------------------------------------ captions


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_told(tmp_path_factory.mktemp("told"))


def run_captions(told: World, **changes: Path) -> list[RetrievalResult]:
    arguments = {"features": told.features, "texts": told.texts, "items": told.items, "split": told.split}
    return texts.run_captions(QUICK, labels=["label"], **{**arguments, **changes})


def test_recall_of_captions_is_that_of_clip_benchmark(told: World) -> None:
    """Expected: CLIP_benchmark's definition, spelled out: any positive among the first k; text retrieval is
    averaged over pictures, picture retrieval over different texts."""
    rows = [i for i in range(12) if (caption_of(i) or "").strip()]
    captions = sorted({str(caption_of(i)) for i in rows})
    texts = View(told.texts).embedding[4:][[CAPTIONS.index(caption) for caption in captions]]
    scores = cosine_similarity(View(told.features).embedding[rows], texts)
    positive = np.array([[caption_of(i) == caption for caption in captions] for i in rows])

    def recall(scores: np.ndarray, positive: np.ndarray, k: int) -> float:
        best = np.argsort(-scores, axis=1)[:, :k]
        return float(np.take_along_axis(positive, best, axis=1).any(axis=1).mean())

    by_text, by_picture = run_captions(told)
    for k in (1, 5, 10):
        assert by_text.figures.micro[f"recall@{k}"].value == pytest.approx(
            recall(scores.T, positive.T, k), abs=1e-6
        )
        assert by_picture.figures.micro[f"recall@{k}"].value == pytest.approx(
            recall(scores, positive, k), abs=1e-6
        )
    assert (by_text.n_queries, by_text.n_gallery) == (len(captions), len(rows))
    assert (by_picture.n_queries, by_picture.n_gallery) == (len(rows), len(captions))
    assert {by_text.column, by_picture.column} == {"caption"}
    assert by_picture.figures.n_resampled == len({i // 3 for i in rows})
    assert by_text.figures.classes == ()
    assert "counts as irrelevant" in by_text.notes[0]
    assert by_text.examples[0].item_id == ""
    assert by_text.examples[0].label in captions


def test_captions_speak_of_no_class(told: World) -> None:
    """Class texts beside captions give the very figures that they give alone."""
    alone = told.texts.with_name("alone.h5")
    view = View(told.texts)
    write_features(
        alone, view.ids[:4].tolist(), view.keys[:4].tolist(), view.embedding[:4], kind="text",
        columns={name: view.columns[name][:4].tolist() for name in ("text", "group", "template")},
    )  # fmt: skip
    beside = run_texts(told)
    assert [one.figures for one in beside] == [one.figures for one in run_texts(told, texts=alone)]
    assert run_captions(told, texts=alone) == []
    found = learned(told, "zero-shot", texts=told.texts).texts
    assert (found.n_texts, found.templates, found.unused_groups) == (4, ("{}",), ())


def test_a_caption_without_a_vector_is_refused_with_the_command(told: World, tmp_path: Path) -> None:
    view = View(told.texts)
    write_features(
        tmp_path / "less.h5", view.ids[:7].tolist(), view.keys[:7].tolist(), view.embedding[:7], kind="text",
        columns={name: values[:7].tolist() for name, values in view.columns.items()},
    )  # fmt: skip
    with pytest.raises(DataError, match=r"1 captions have no vectors.*'a torn bottle'") as caught:
        run_captions(told, texts=tmp_path / "less.h5")
    assert f"--items {told.items} --labels label --captions caption --out" in str(caught.value)


# ------------------------------------------------------------------ files, refusals, commands


def test_written_whole_or_refused(world: World) -> None:
    results = [run(world), *run_texts(world)]
    data = RETRIEVAL.dump(results)
    assert RETRIEVAL.load(data, "r.json") == results
    assert RETRIEVAL.dump([run(world), *run_texts(world)]) == data
    numbers = compared(results)["split"]["label"]
    assert {task: sorted(found) for task, found in numbers.items()} == {
        "image-to-image": ["mAP", "recall@1"],
        "text-to-image": ["mAP", "recall@5"],
        "image-to-text": ["recall@1", "recall@5"],
    }
    assert numbers["image-to-image"]["mAP"] == results[0].figures.micro["mAP"].value
    for broken in (data[:-20], data.replace(b'"n_queries"', b'"n_asked"'), b"{}"):
        with pytest.raises(StoreError, match=r"r\.json (is damaged|has no 'checksum')"):
            RETRIEVAL.load(broken, "r.json")


def test_nothing_to_average_gives_no_figures() -> None:
    none = figures_of({"mAP": np.empty(0)}, {"mAP": np.empty(0)}, [], [])
    assert (none.micro, none.macro, none.classes, none.n_resampled) == ({}, {}, (), 0)


def test_refusals(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'lable'"):
        run(world, labels="lable")
    with pytest.raises(UsageError, match="kind 'text'"):
        run(world, features=world.texts)
    with pytest.raises(StoreError, match="extract-text --backbone tiny"):
        run_texts(world, texts=tmp_path / "none.h5")
    write_texts(tmp_path / "other.h5", CLASSES, weights="v" * 64)
    with pytest.raises(IdentityError, match="different models: weights"):
        run_texts(world, texts=tmp_path / "other.h5")
    write_texts(tmp_path / "few.h5", CLASSES[:3])
    with pytest.raises(DataError, match="1 classes have no text vectors.*'Lid'"):
        run_texts(world, texts=tmp_path / "few.h5")
    with pytest.raises(DataError, match="no texts of the templates"):
        run_texts(world, RetrievalParams(templates=("a drawing of {}",)))


def flags(world: World) -> list[object]:
    return ["--features", world.features, "--items", world.items, "--split", world.split, "--labels", "label"]


def test_the_command(told: World, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    answer = json.loads(done("retrieval", *flags(told), "--texts", told.texts, "--out", out, "--json").out)
    assert [(one["task"], one["column"]) for one in answer] == [
        ("image-to-image", "label"),
        ("text-to-image", "label"),
        ("image-to-text", "label"),
        ("text-to-image", "caption"),
        ("image-to-text", "caption"),
    ]
    assert RETRIEVAL.load(out.read_bytes(), "found.json") == [
        RetrievalResult.model_validate(a) for a in answer
    ]
    shown = done("retrieval", *flags(told)).out
    assert "image to image" in shown
    assert "Bottle" in shown
    assert "text to image" not in shown
    refused = call("retrieval", *flags(told), "--texts", tmp_path / "none.h5")
    assert refused.status == 1
    assert "Make them with" in refused.err
