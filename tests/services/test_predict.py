"""`deponij predict`, end to end with tiny models of real families: what is answered, by which classifier, and refusals."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cli_world
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_models
import yaml
from cli_world import N_PER_CLASS, TRUNCATED, Answer, call, done
from resealing import reseal, rewrite

from deponij.pipeline.data.adapters.registry import open_source
from deponij.pipeline.data.splitting.strategies import SplitParams
from deponij.pipeline.heads.centroid import NearestClassMean
from deponij.pipeline.heads.head import softmax
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions
from deponij.project.learning.learn import HeadParams
from deponij.project.learning.learn import learn as learn_head
from deponij.project.learning.out_of_fold import Learned
from deponij.project.learning.result_files import read_logits, read_result
from deponij.project.learning.results import evaluate, feature_sources, read_shared_examples, write_results
from deponij.stages import ensembles, extract, extract_text, items, split, weights
from deponij.store.depot import FeatureStore
from deponij.store.items import Items
from deponij.store.view import View

CLIP, DINO = "clip", "dino"
N_SOUND = 3 * N_PER_CLASS
# A strong penalty: two of 18 training pictures apart, probabilities far from 0 and 1.
PROBE = HeadParams(head="logistic", arguments={"cs": [1e-3]})
OPTIONS = ["--device", "cpu", "--threads", 1, "--workers", 1]


@dataclass(frozen=True)
class World:
    """A run of the profile `mine` as the stages leave it, and the pictures it was learned from."""

    root: Path
    models: tiny_models.Shelf

    @property
    def at(self) -> Layout:
        return Layout(self.root / "runs" / "mine")

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    def result(self, method: str, backbone: str) -> Path:
        return self.at.result(method, backbone) / "random-label"


def learn(world: World, options: RunOptions) -> None:
    """Items, split, features, probes, zero-shot, a head on both backbones side by side, ensembles."""
    at = world.at
    items.run("folder", {"folder": world.pictures}, out=at.items, run_options=options)
    params = SplitParams(strategy="random", labels="label", fractions=(0.5, 0.25, 0.25))
    split.run(params, items=at.items, out=at.split("random"))
    specs = {CLIP: str(world.models["open_clip_vit"]), DINO: str(world.models["dinov2"])}
    weights.run(specs, at.weights)
    inputs = {"items": at.items, "split": at.split("random"), "labels": "label"}
    for name, spec in specs.items():
        chosen = extract.ExtractParams()
        extract.run(chosen, items=at.items, backbone=spec, out=at.view(name), options=options, name=name)
        learn_head(PROBE, features=[at.view(name)], out=world.result("logistic", name), **inputs)
    prompts = extract_text.prompts_from_labels(at.items, ("label",), ("name",))
    texts = at.texts(CLIP)
    extract_text.run(
        extract_text.TextParams(), prompts, backbone=specs[CLIP], out=texts, options=options, name=CLIP
    )
    out = world.result("zero-shot", CLIP)
    learn_head(HeadParams(head="zero-shot"), features=[at.view(CLIP)], texts=texts, out=out, **inputs)
    side_by_side(world)
    for how in ("mean-logits", "greedy"):
        members = [
            world.result("logistic", CLIP),
            world.result("logistic", DINO),
            world.result("zero-shot", CLIP),
        ]
        ensembles.run(how, members, out=ensemble_of(world, how))


def side_by_side(world: World) -> None:
    views = [View(world.at.view(CLIP)), View(world.at.view(DINO))]
    table = Items(world.at.items)
    examples, parts = read_shared_examples(views, table, world.at.split("random"), "label")
    features, train = np.concatenate(parts, axis=1), examples.rows("train")
    head = NearestClassMean().fit(features[train], examples.labels[train])
    sources = feature_sources(views, "label")
    where: dict[str, Any] = {"labels": "label", "split": world.at.split("random")}
    made = Learned(head, head.decision_function(features), head.protocol)
    judged = evaluate(made, sources, examples, **where)
    out = world.result("centroid", f"{CLIP}+{DINO}")
    write_results(out, judged.evaluation, judged.predictions, judged.logits, head.files(sources))


def ensemble_of(world: World, how: str) -> Path:
    return world.at.result(how, f"{CLIP}+{DINO}", "ensembles") / "random-label"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("predict")
    made = World(root, tiny_models.Shelf(root / "models"))
    cli_world.class_folders(made.pictures)
    options = RunOptions(depot=str(root / "depot"), device="cpu", threads=1, workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        learn(made, options)
    profile = {
        "profile": "mine",
        "data": {"adapter": "coco", "root": "data", "options": {"crop": {"margin": 0.25}}},
        "splits": {"random": {}},
        "labels": ["label"],
        "backbones": {CLIP: {}, DINO: {}},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(profile))
    return made


@pytest.fixture(autouse=True)
def in_the_project(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(world.root)
    monkeypatch.setenv("DEPONIJ_CACHE", str(world.root / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("DEPONIJ_DEPOT", raising=False)


def predict(*arguments: object, status: int = 0) -> Any:
    """The JSON document of a command that is meant to end so."""
    return done("predict", *arguments, *OPTIONS, "--json", status=status).json


def refused(*arguments: object, status: int = 1) -> str:
    answer: Answer = call("predict", *arguments, *OPTIONS, "--json")
    assert answer.status == status, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    return answer.err


def stored(folder: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Item ids, classes and probabilities [n, C] of a results folder, by its own temperature."""
    result, found = read_result(folder)
    temperature = result.calibration.temperature if result.calibration else None
    probs = softmax(read_logits(folder).astype(np.float64) / (temperature or 1.0))
    return found.ids.tolist(), list(result.classes), probs


def answered(document: Any, root: Path, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Paths relative to `root`, and the probabilities of all classes in their order."""
    paths = [str(Path(one["path"]).relative_to(root)) for one in document["predictions"]]
    rows = [{a["label"]: a["prob"] for a in one["top"]} for one in document["predictions"]]
    return paths, np.array([[row[name] for name in classes] for row in rows])


@pytest.mark.parametrize(
    "kind",
    ["logistic/clip", "logistic/dino", "zero-shot/clip", "centroid/clip+dino", "mean-logits", "greedy"],
)
def test_the_same_pictures_get_the_stored_answers(world: World, kind: str) -> None:
    method, _, backbone = kind.partition("/")
    folder = world.result(method, backbone) if backbone else ensemble_of(world, method)
    document = predict(world.pictures, "--model", folder, "--top", 9, status=3)
    ids, classes, expected = stored(folder)
    paths, probs = answered(document, world.pictures, classes)
    assert sorted(paths) == sorted(ids)
    assert len(paths) == N_SOUND
    order = [ids.index(path) for path in paths]
    np.testing.assert_allclose(probs, expected[order], atol=1e-5)
    _, found = read_result(folder)
    assert [one["label"] for one in document["predictions"]] == found.top_labels[order, 0].tolist()
    assert expected.max(axis=1).min() < 0.999, "probabilities of 0 and 1 would show no temperature"


def test_the_temperature_of_validation_is_applied(world: World) -> None:
    # Zero-shot by random text vectors errs on validation, so that its temperature is far from 1.
    folder = world.result("zero-shot", CLIP)
    document = predict(world.pictures / "can", "--model", folder)
    result, found = read_result(folder)
    assert result.calibration is not None
    assert result.calibration.temperature is not None
    assert document["model"]["temperature"] == pytest.approx(result.calibration.temperature)
    assert document["model"]["calibrated"]
    raw = dict(zip(found.ids.tolist(), found.top_probs[:, 0].tolist(), strict=True))
    gaps = [abs(one["prob"] - raw[f"can/{Path(one['path']).name}"]) for one in document["predictions"]]
    assert min(gaps) > 1e-3


def test_without_a_temperature_it_says_uncalibrated(world: World, tmp_path: Path) -> None:
    folder = Layout(tmp_path / "runs" / "other").result("logistic", CLIP) / "random-label"
    shutil.copytree(world.result("zero-shot", CLIP), folder)
    rewrite(folder / "result.json", lambda record: record | {"calibration": None})
    named = ["--model", folder, "--backbone-spec", world.models["open_clip_vit"]]
    document = predict(world.pictures / "can", *named)
    assert (document["model"]["temperature"], document["model"]["calibrated"]) == (None, False)
    _, found = read_result(folder)
    raw = dict(zip(found.ids.tolist(), found.top_probs[:, 0].tolist(), strict=True))
    for one in document["predictions"]:
        assert one["prob"] == pytest.approx(raw[f"can/{Path(one['path']).name}"], abs=1e-5)
    assert "uncalibrated" in done("predict", world.pictures / "can", *named, *OPTIONS).out


# ------------------------------------------------------------------ what is printed and written


def test_shape_of_the_json(world: World) -> None:
    picture, damaged = world.pictures / "can" / "00.png", world.pictures / TRUNCATED
    document = predict(picture, damaged, "--model", world.result("logistic", DINO), "--top", 2, status=3)
    assert set(document) == {"model", "predictions", "failures"}
    (one,) = document["predictions"]
    assert set(one) == {"path", "item_id", "label", "prob", "top", "labels"}
    assert one["labels"] is None
    assert (one["path"], one["item_id"]) == (str(picture), None)
    assert [set(answer) for answer in one["top"]] == [{"label", "prob"}] * 2
    assert (one["top"][0]["label"], one["top"][0]["prob"]) == (one["label"], one["prob"])
    assert one["top"][0]["prob"] >= one["top"][1]["prob"]
    (failure,) = document["failures"]
    assert failure["path"] == str(damaged)
    assert "cannot be decoded" in failure["reason"]
    model = document["model"]
    assert (model["labels"], model["split"], model["n_classes"]) == ("label", "random", 3)
    assert [used["name"] for used in model["backbones"]] == [DINO]
    assert model["backbones"][0]["fingerprint"] == View(world.at.view(DINO)).fingerprint


def test_a_table_for_people(world: World) -> None:
    folder = world.result("logistic", CLIP)
    answer = done("predict", world.pictures / "lid" / "03.png", "--model", folder, *OPTIONS)
    assert str(world.pictures / "lid" / "03.png") in answer.out
    assert "calibrated on validation" in answer.out
    assert str(folder) in answer.out


def test_tables_on_disk_hold_answers_and_failures(world: World, tmp_path: Path) -> None:
    folder = world.result("logistic", CLIP)
    document = predict(world.pictures / "cup", "--model", folder, "--out", tmp_path / "a.parquet", status=3)
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert len(rows) == N_PER_CLASS + 1
    assert [row["label"] for row in rows[:-1]] == [one["label"] for one in document["predictions"]]
    assert rows[0]["top_labels"] == [one["label"] for one in document["predictions"][0]["top"]]
    assert (rows[-1]["label"], rows[-1]["failure"]) == (None, document["failures"][0]["reason"])
    done(
        "predict", world.pictures / "cup", "--model", folder, "--out", tmp_path / "a.csv", *OPTIONS, status=3
    )
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["label_1"] for line in lines[:-1]] == [one["label"] for one in document["predictions"]]
    assert float(lines[0]["prob_2"]) == document["predictions"][0]["top"][1]["prob"]
    assert lines[-1]["failure"] == document["failures"][0]["reason"]
    assert ".parquet or .csv" in refused(world.pictures, "--out", tmp_path / "a.xlsx", status=2)


# ------------------------------------------------------------------ pictures


def test_files_and_folders_are_answered_once_in_their_order(world: World, tmp_path: Path) -> None:
    deep = tmp_path / "deep" / "er"
    deep.mkdir(parents=True)
    source = world.pictures / "can" / "00.png"
    for name in ("b.png", "a.png", ".hidden.png"):
        shutil.copy(source, deep / name)
    (deep / "note.txt").write_text("no picture")
    document = predict(
        deep / "b.png", tmp_path / "deep", source, deep / "b.png", "--model", world.result("logistic", CLIP)
    )
    paths = [one["path"] for one in document["predictions"]]
    assert paths == [str(deep / "b.png"), str(deep / "a.png"), str(source)]
    assert len({one["prob"] for one in document["predictions"]}) == 1, "equal bytes, equal answers"


def test_where_nothing_can_be_read(world: World, tmp_path: Path) -> None:
    page = tmp_path / "page.jpg"
    page.write_text("<html>not here</html>")
    answer = call(
        "predict", page, tmp_path / "gone.png", "--model", world.result("logistic", CLIP), *OPTIONS, "--json"
    )
    assert answer.status == 1
    assert answer.json["predictions"] == []
    reasons = {one["path"]: one["reason"] for one in answer.json["failures"]}
    assert "HTML" in reasons[str(page)]
    assert "No such file" in reasons[str(tmp_path / "gone.png")]
    assert all(f"{path}: " in answer.err for path in reasons)
    assert "2 of 2 could not be answered" in answer.err


def test_a_folder_without_pictures(world: World, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    said = refused(tmp_path / "empty", "--model", world.result("logistic", CLIP))
    assert f"no pictures in {tmp_path / 'empty'}" in said
    assert ".jpg" in said and "it holds files that are not pictures: 1 (.txt: 1)" in said


def test_what_a_folder_holds_beside_pictures_is_told(world: World, tmp_path: Path) -> None:
    """Other files are counted, a kind that is not read is named, and a picture without an ending is answered."""
    shutil.copy(world.pictures / "can" / "00.png", tmp_path / "plain")
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "notes.txt").write_text("x")
    model = world.result("logistic", CLIP)
    answer = call("predict", tmp_path, "--model", model, *OPTIONS, "--json")
    assert answer.status == 3
    assert [one["path"] for one in answer.json["predictions"]] == [str(tmp_path / "plain")]
    assert "HEIC" in answer.json["failures"][0]["reason"] and "ImageMagick" in answer.err
    assert f"warning: {tmp_path} holds files that are not pictures: 1 (.txt: 1)" in answer.err


def test_features_that_are_not_finite_are_failures(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from deponij.pipeline.backbones.kinds import Kind

    real, marked = Kind.compute, []

    def overflows(kind: Kind, model: Any, batch: Any) -> Any:
        marked.append(batch[1])
        arrays = real(kind, model, batch)
        arrays["embedding"][[bool((one == marked[0]).all()) for one in batch]] = float("nan")
        return arrays

    monkeypatch.setattr(Kind, "compute", overflows)
    document = predict(world.pictures / "can", "--model", world.result("logistic", CLIP), status=3)
    assert [Path(one["path"]).name for one in document["failures"]] == ["01.png"]
    assert "hold NaN when computed in fp32" in document["failures"][0]["reason"]
    assert len(document["predictions"]) == N_PER_CLASS - 1


# ------------------------------------------------------------------ COCO crops


def test_coco_instances_are_answered_as_their_crops(world: World, tmp_path: Path) -> None:
    annotations = cli_world.coco(tmp_path / "coco")
    images = annotations.parent / "images"
    named = ["--model", world.result("logistic", CLIP), "--top", 3]
    document = predict("--coco", annotations, "--images", images, "--margin", 0, *named)
    source = open_source("coco", {"annotations": annotations, "images": images})
    crops = tmp_path / "crops"
    crops.mkdir()
    for number, item in enumerate(source.items()):
        (crops / f"{number}.png").write_bytes(item.content or b"")
        assert document["predictions"][number]["item_id"] == item.item_id
    whole = predict(crops, *named)
    for one, other in zip(document["predictions"], whole["predictions"], strict=True):
        assert [a["label"] for a in one["top"]] == [a["label"] for a in other["top"]]
        assert one["prob"] == pytest.approx(other["prob"], abs=1e-5)
    assert [one["path"] for one in document["predictions"]] == [
        *[str(images / "a.png")] * 2,
        *[str(images / "b.png")] * 2,
    ]


def test_crops_are_cut_as_the_profile_of_the_model_cuts_them(world: World, tmp_path: Path) -> None:
    annotations = cli_world.coco(tmp_path / "coco")
    named = ["--coco", annotations, "--images", annotations.parent / "images"]
    folder = world.result("logistic", CLIP)
    of_profile, asked, tight = (
        [one["prob"] for one in predict(*named, "--model", folder, *more)["predictions"]]
        for more in ([], ["--margin", 0.25], ["--margin", 0])
    )
    assert of_profile == asked  # the margin of params.yaml
    assert of_profile != tight
    shutil.copytree(folder, tmp_path / "alone")
    elsewhere = ["--model", tmp_path / "alone", "--backbone-spec", world.models["open_clip_vit"]]
    assert [one["prob"] for one in predict(*named, *elsewhere)["predictions"]] == tight


def test_instances_that_cannot_be_cut_are_failures(world: World, tmp_path: Path) -> None:
    annotations = cli_world.coco(tmp_path / "coco", file_name="gone.png")
    named = ["--coco", annotations, "--images", annotations.parent / "images"]
    document = predict(*named, "--model", world.result("logistic", CLIP), status=3)
    assert len(document["predictions"]) == 2
    assert all("missing" in one["reason"] and one["item_id"] for one in document["failures"])


# ------------------------------------------------------------------ which classifier


def test_the_best_on_validation_is_chosen(world: World) -> None:
    document = predict(world.pictures / "can")
    tops = {folder: read_result(folder)[0].parts["val"].top1 for folder in world.at.results()}
    assert len(tops) == 4
    assert len(set(tops.values())) > 1, "otherwise the test shows nothing"
    assert tops[world.root / document["model"]["folder"]] == max(tops.values())
    assert "best validation top-1" in document["model"]["chosen"]
    assert document["model"]["val_top1"] == max(tops.values())


def test_the_choice_can_be_narrowed(world: World) -> None:
    assert [
        one["name"]
        for one in predict(world.pictures / "can", "--backbone", f"{CLIP}+{DINO}")["model"]["backbones"]
    ] == [CLIP, DINO]
    assert predict(world.pictures / "can", "--model", world.at.root, "--backbone", DINO)["model"][
        "folder"
    ] == str(world.result("logistic", DINO))
    for flag, value, there in (
        ("--backbone", "siglip", "clip, clip+dino, dino"),
        ("--labels", "colour", "there are: label"),
        ("--split", "group", "there are: random"),
    ):
        said = refused(world.pictures, flag, value, status=2)
        assert repr(value) in said
        assert there in said
    assert "names one classifier already" in refused(
        world.pictures, "--model", world.result("logistic", CLIP), "--labels", "label", status=2
    )


def test_classifiers_whose_backbone_is_not_here_are_left_out(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.at.root, tmp_path / "run")
    record = tmp_path / "run" / "weights" / f"{CLIP}.json"
    record.unlink()
    answer = done("predict", world.pictures / "can", "--model", tmp_path / "run", *OPTIONS, "--json")
    assert [one["name"] for one in answer.json["model"]["backbones"]] == [DINO]
    (tmp_path / "run" / "weights" / f"{DINO}.json").unlink()
    said = refused(world.pictures, "--model", tmp_path / "run")
    assert "none has its backbone here" in said
    assert "--backbone-spec FOLDER" in said


def test_without_results_or_profile(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "make one of your pictures: `deponij run --folder PICTURES`" in refused(world.pictures, status=2)
    shutil.copy(world.root / "params.yaml", tmp_path)
    assert "runs/mine, the run of the profile in force, was not made yet" in refused(world.pictures)
    (tmp_path / "runs/mine/items").mkdir(parents=True)
    assert "there are no classifiers in runs/mine/results" in refused(world.pictures)
    assert "neither a folder of results" in refused(world.pictures, "--model", tmp_path)


# ------------------------------------------------------------------ which backbone


def alone(world: World, tmp_path: Path, name: str) -> Path:
    """A probe outside its run, whose card calls its backbone `name`."""
    folder = tmp_path / "alone"
    shutil.copytree(world.result("logistic", CLIP), folder)
    card = json.loads((folder / "head.json").read_text())
    card["sources"][0]["backbone"] = name
    rewrite(folder / "head.json", lambda _: card)
    return folder


def test_an_unknown_backbone_can_be_named(world: World, tmp_path: Path) -> None:
    folder = alone(world, tmp_path, "somebody's")
    said = refused(world.pictures, "--model", folder)
    assert "no backbone of the catalog" in said
    assert "--backbone-spec FOLDER" in said
    spec = world.models["open_clip_vit"]
    document = predict(world.pictures / "can", "--model", folder, "--backbone-spec", spec)
    assert document["model"]["backbones"][0]["spec"] == str(spec)


def test_absent_weights_say_how_to_get_them(world: World, tmp_path: Path) -> None:
    said = refused(world.pictures, "--model", alone(world, tmp_path, "dinov2-base"))
    assert "deponij weights fetch dinov2-base" in said
    assert "--backbone-spec FOLDER" in said


def test_another_backbone_is_refused_with_the_difference(world: World, tmp_path: Path) -> None:
    stranger = tiny_models.open_clip_vit(tmp_path / "stranger", seed=5)
    folder = world.result("logistic", CLIP)
    ours = View(world.at.view(CLIP)).identity.weights
    said = refused(world.pictures, "--model", folder, "--backbone-spec", stranger)
    assert f"weights: {ours} against " in said
    assert "does not belong to this backbone" in said
    # Of the two that are needed the stranger is compared with the nearer one.
    both = world.result("centroid", f"{CLIP}+{DINO}")
    good = ["--backbone-spec", world.models["dinov2"]]
    assert f"weights: {ours} against" in refused(
        world.pictures, "--model", both, *good, "--backbone-spec", stranger
    )
    assert len(predict(world.pictures / "can", "--model", both, *good)["predictions"]) == N_PER_CLASS


def test_a_card_that_was_changed_is_refused(world: World, tmp_path: Path) -> None:
    folder = alone(world, tmp_path, CLIP)
    card = json.loads((folder / "head.json").read_text())
    card["sources"][0]["identity"]["precision"] = "bf16"
    rewrite(folder / "head.json", lambda _: card)
    named = ["--backbone-spec", world.models["open_clip_vit"]]
    assert "the card was changed" in refused(world.pictures, "--model", folder, *named)


def test_weights_that_changed_since_are_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.at.root, tmp_path / "run")
    other = tiny_models.dinov2(tmp_path / "other", seed=7)
    record = tmp_path / "run" / "weights" / f"{DINO}.json"
    reseal(record, lambda _: {"spec": str(other)})
    folder = Layout(tmp_path / "run").result("logistic", DINO) / "random-label"
    assert "weights: " in refused(world.pictures, "--model", folder)


@pytest.mark.parametrize(
    "change",
    [{"precision": "bf16"}, {"decode": "full"}, {"stored": "float16"}, {"input_px": (40, 48)}],
    ids=str,
)
def test_features_are_made_as_the_head_learned_them(
    world: World, tmp_path: Path, change: dict[str, Any]
) -> None:
    options = RunOptions(depot=str(tmp_path / "depot"), device="cpu", threads=1, workers=1)
    params = extract.ExtractParams(**change)
    spec, view = str(world.models["open_clip_vit"]), tmp_path / "view.h5"
    extract.run(params, items=world.at.items, backbone=spec, out=view, options=options, name=CLIP)
    out = tmp_path / "out"
    where: dict[str, Any] = {"items": world.at.items, "split": world.at.split("random"), "labels": "label"}
    learn_head(PROBE, features=[view], out=out, **where)
    document = predict(world.pictures, "--model", out, "--backbone-spec", spec, status=3)
    ids, classes, expected = stored(out)
    paths, probs = answered(document, world.pictures, classes)
    np.testing.assert_allclose(probs, expected[[ids.index(path) for path in paths]], atol=1e-5)


def test_heads_over_tokens_see_them_flat(world: World, tmp_path: Path) -> None:
    options = RunOptions(depot=str(tmp_path / "depot"), device="cpu", threads=1, workers=1)
    spec, path = str(world.models["dinov2"]), tmp_path / "view.h5"
    params = extract.ExtractParams(kind="tokens@2")
    extract.run(params, items=world.at.items, backbone=spec, out=path, options=options, name=DINO)
    view = View(path)
    result, found = read_result(world.result("logistic", DINO))
    features = view.read(found.ids.tolist()).reshape(len(found.ids), -1)  # [n, 2 * 2 * 32]
    head = NearestClassMean().fit(features, found.truth)
    folder = tmp_path / "tokens"
    record = result.model_copy(update={"calibration": None})
    learned = head.files(feature_sources([view], "label"))
    write_results(folder, record, found, head.decision_function(features), learned)
    document = predict(world.pictures, "--model", folder, "--backbone-spec", spec, status=3)
    ids, classes, expected = stored(folder)
    paths, probs = answered(document, world.pictures, classes)
    np.testing.assert_allclose(probs, expected[[ids.index(path) for path in paths]], atol=1e-5)


def test_an_ensemble_needs_no_backbone_of_a_member_without_a_share(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.at.root, tmp_path / "run")
    folder = Layout(tmp_path / "run").ensembles / "greedy" / f"{CLIP}+{DINO}" / "random-label"
    card = json.loads((folder / "ensemble.json").read_text())
    shares = [1.0, 0.0, 0.0]
    for member, share in zip(card["members"], shares, strict=True):
        member["share"] = share
    card["learned"]["shares"] = shares
    rewrite(folder / "ensemble.json", lambda _: card)
    (tmp_path / "run" / "weights" / f"{DINO}.json").unlink()
    document = predict(world.pictures / "can", "--model", folder)
    assert [one["name"] for one in document["model"]["backbones"]] == [CLIP]


def test_an_ensemble_whose_member_was_learned_anew_is_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.at.root, tmp_path / "run")
    folder = next((tmp_path / "run" / "results" / "ensembles").glob("*/*/random-label"))
    predict(world.pictures / "can", "--model", folder)
    member = json.loads((folder / "ensemble.json").read_text())["members"][0]["folder"]
    rewrite((folder / member).resolve() / "result.json", lambda record: record | {"title": "another"})
    said = refused(world.pictures, "--model", folder)
    assert "was made anew since the ensemble" in said
    assert "make the ensemble again" in said


# ------------------------------------------------------------------ the depot


def test_known_rows_are_taken_and_none_is_written(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.root / "depot", tmp_path / "depot")
    files = sorted(path.name for path in (tmp_path / "depot").rglob("*"))
    named = [world.pictures / "can", "--model", world.result("logistic", CLIP), "--depot", tmp_path / "depot"]
    with pytest.MonkeyPatch.context() as patch:

        def never(*_: object, **__: object) -> None:
            raise AssertionError("the model was loaded")

        patch.setattr("deponij.project.extraction.feature_maker.load_backbone", never)
        document = predict(*named)
    assert len(document["predictions"]) == N_PER_CLASS
    new = tmp_path / "new.png"
    cli_world.picture((200, 40, 40), 999).save(new)
    assert len(predict(new, *named)["predictions"]) == N_PER_CLASS + 1
    assert sorted(path.name for path in (tmp_path / "depot").rglob("*")) == files
    assert FeatureStore(tmp_path / "depot").identities()
    assert "depot" in refused(*named[:-1], tmp_path / "absent")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name pictures"),
        (["a.png", "--coco", "x.json", "--images", "."], "or else --coco"),
        (["--coco", "x.json"], "go together"),
        (["a.png", "--margin", 0.1], "margin: only instances of a COCO file"),
        (["a.png", "--top", 0], "--top must be at least 1"),
    ],
    ids=str,
)
def test_requests_that_make_no_sense(world: World, arguments: list[object], said: str) -> None:
    assert said in refused(*arguments, status=2)


@pytest.mark.parametrize(
    ("head", "kind", "token"),
    [
        ("attentive", "dense@1", None),
        ("logistic", "dense@1", "mean"),
        ("logistic", "tokens@1", "class"),
    ],
)
def test_what_learned_from_tokens_gets_tokens_of_new_pictures(
    world: World, tmp_path: Path, head: str, kind: str, token: str | None
) -> None:
    """By the commands alone: maps into a depot, a head that reads them, its answers to the same pictures as files."""
    spec, depot, out = world.models["dinov2"], tmp_path / "depot", tmp_path / "out"
    options = ["--device", "cpu", "--threads", 1, "--depot", depot]
    view = tmp_path / "view.h5"
    done(
        "extract",
        "--items",
        world.at.items,
        "--backbone",
        spec,
        "--kind",
        kind,
        "--out",
        view,
        *options,
        status=3,
    )
    chosen = ["--set", "n_queries=1", "--set", "epochs=3"] if token is None else ["--token", token]
    done(
        *("fit", "--head", head, "--features", view, "--items", world.at.items, "--labels", "label", *chosen),
        *("--split", world.at.split("random"), "--depot", depot, "--out", out),
    )
    named = ["--model", out, "--backbone-spec", spec, "--top", 9]
    document = predict(world.pictures, *named, status=3)
    ids, classes, expected = stored(out)
    paths, probs = answered(document, world.pictures, classes)
    # Maps are float16 in the depot and in what is computed anew alike.
    np.testing.assert_allclose(probs, expected[[ids.index(path) for path in paths]], atol=1e-5)
    # With the depot nothing is computed, and the answers are the same.
    again = predict(world.pictures, *named, "--depot", depot, status=3)
    np.testing.assert_allclose(answered(again, world.pictures, classes)[1], probs, atol=1e-5)
