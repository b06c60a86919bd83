"""The stage `advice` where something is lacking: labels, features, splits, results, anything to find; and with folds."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from learning_world import (
    World,
    identity,
    learned,
    make_world,
    picture,
    vectors,
    write_features,
    write_items,
)
from under_dvc import under_dvc

from deponij.commands.show.advice import print_advice, show_next
from deponij.pipeline.advice.records import ADVICE, Advice
from deponij.pipeline.mistakes.records import MISTAKES
from deponij.project.advice.acting import Acting
from deponij.project.advice.pools import chosen_result
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, check
from deponij.project.learning.learn import HeadParams, learn
from deponij.services.curate.suggest import SuggestRequest, choose_batch
from deponij.stages import advice, mistakes
from deponij.stages.mistakes import MistakesParams
from deponij.store.atomic import write_bytes, write_table
from deponij.store.errors import StoreError
from deponij.store.keys import key_of_bytes
from deponij.store.sealed import sealed
from deponij.store.shard import row_checksums
from deponij.store.view import View, write_view


def run(root: Path, labels: tuple[str, ...] = ("label",), **changes: Any) -> Advice:
    """As `deponij run` does it; the files of a world lie at the run's root."""
    at = Layout(root)
    values = {
        "data": {"adapter": "folder", "root": ".", "options": {"folder": "pictures"}},
        "backbones": {"tiny": {}},
        "splits": {"split": {"strategy": "random"}},
        "labels": list(labels),
        **changes,
    }
    advice.main(check(advice.Params, values, "this test"), at, RunOptions(workers=1, threads=1))
    (found,) = ADVICE.load(at.advice_file.read_bytes(), "")
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world as a run's folder: items, a view, a split, one result, an audit."""
    made = make_world(tmp_path)
    at = Layout(tmp_path)
    for source, target in ((made.features, at.view("tiny")), (made.split, at.split("split"))):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    learned(made, "logistic", at.result("logistic", "tiny") / "split-label")
    report = mistakes.run(MistakesParams(), features=made.features, items=made.items, labels="label")
    at.mistakes("tiny").parent.mkdir()
    at.mistakes("tiny").write_bytes(MISTAKES.dump([report]))
    return made


def kinds(found: Advice) -> set[str]:
    return {one.kind for one in found.findings}


def test_everything_there(world: World, tmp_path: Path) -> None:
    found = run(tmp_path)
    by_kind = {one.kind: one for one in found.findings}
    assert {one.item_id for one in by_kind["unreadable"].subjects} == set(world.failed)
    assert by_kind["unlabelled"].n == 3
    # Wilson's interval of 10 of 10 is 72 to 100 %, of 6 of 10 it is 31 to 83 %.
    assert all("10 test items" in fact or "9 test items" in fact for fact in by_kind["small-classes"].facts)
    assert found.backbone == "tiny"
    assert found.again[0].startswith("deponij run --folder pictures --backbone tiny --split random --out ")


def test_equal_inputs_give_equal_bytes(world: World, tmp_path: Path) -> None:
    run(tmp_path)
    first = {path.name: path.read_bytes() for path in (tmp_path / "advice").iterdir()}
    run(tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "advice").iterdir()} == first


def test_without_labels_what_needs_none_is_found(world: World, tmp_path: Path) -> None:
    for name in ("results", "mistakes", "splits"):
        shutil.rmtree(tmp_path / name)
    found = run(tmp_path, labels=(), splits={})
    assert "unreadable" in kinds(found)
    assert not kinds(found) & {"labels", "small-classes", "confused", "unlabelled"}


def test_without_features_pictures_are_looked_at_all_the_same(world: World, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "views")
    shutil.rmtree(tmp_path / "mistakes")
    found = run(tmp_path)
    assert "unreadable" in kinds(found) and "unlabelled" not in kinds(found)
    assert found.backbone == ""


def test_what_was_settled_by_a_person_is_not_listed_again(world: World, tmp_path: Path) -> None:
    before = run(tmp_path)
    doubted = [one for finding in before.findings if finding.kind == "labels" for one in finding.subjects]
    rows = "".join(f"{one.item_id},right\n" for one in doubted)
    (tmp_path / "fixes.csv").write_text(f"item_id,do\nnobody,right\n{rows}")
    data = {
        "adapter": "folder",
        "root": ".",
        "options": {"folder": "pictures"},
        "corrections": [tmp_path / "fixes.csv"],
    }
    after = run(tmp_path, data=data)
    assert "labels" not in kinds(after)
    assert f"--corrections {tmp_path}/fixes.csv --corrections corrections.csv" in after.again[0]


def test_copies_in_two_folds_are_near_duplicates_across_parts(tmp_path: Path) -> None:
    """Of folds every item's part is test; which fold tests it is what counts."""
    contents = [picture(i) for i in (0, 0, 1, 1, 2, 3)]
    ids = [f"{i}.png" for i in range(6)]
    write_items(tmp_path / "items", [(one, content, "x") for one, content in zip(ids, contents, strict=True)])
    at = Layout(tmp_path)
    vectors = np.eye(6, dtype=np.float32)
    at.view("tiny").parent.mkdir()
    write_features(at.view("tiny"), ids, [key_of_bytes(one) for one in contents], vectors)
    folds = pa.array([0, 1, 2, 2, 0, 1], pa.int64())
    write_table(at.split("split"), pa.table({"item_id": ids, "part": ["test"] * 6, "fold": folds}))
    (found,) = (one for one in run(tmp_path).findings if one.kind == "duplicates")
    assert [(one.item_id, one.note) for one in found.subjects] == [("1.png", "in fold 1, the same in fold 0")]


def test_nothing_to_do_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [f"{i}.png" for i in range(12)]
    write_items(tmp_path / "items", [(one, picture(i), "x") for i, one in enumerate(ids)])
    found = run(tmp_path, labels=())
    assert (found.findings, found.again) == ((), ())
    print_advice(found, 3)
    assert "nothing to do" in capsys.readouterr().out
    show_next([], "run")
    assert capsys.readouterr().out == ""


def test_under_dvc_what_is_lacking_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(
        "profile: p\ndata: {adapter: folder, root: .}\nbackbones: {tiny: {}}\nsplits: {split: {}}\nlabels: [label]\n"
    )
    make_world(tmp_path / "runs/p")
    with pytest.raises(StoreError, match="there are no results"):
        under_dvc(advice)


def as_toy(at: Layout, name: str) -> None:
    write_bytes(at.weights / f"{name}.json", sealed({"toy": True}))


def test_the_audit_of_a_toy_counts_only_where_all_are(world: World, tmp_path: Path) -> None:
    at = Layout(tmp_path)
    (report,) = MISTAKES.load(at.mistakes("tiny").read_bytes(), "")
    better = report.model_copy(update={"backbone": "toy", "accuracy": 1.0})
    at.mistakes("toy").write_bytes(MISTAKES.dump([better]))
    backbones = {"tiny": {}, "toy": {}}
    as_toy(at, "toy")
    assert run(tmp_path, backbones=backbones).backbone == "tiny"
    shutil.copy(at.view("tiny"), at.view("toy"))
    as_toy(at, "tiny")
    assert run(tmp_path, backbones=backbones).backbone == "toy"


def test_a_head_of_other_features_is_not_asked_what_to_label(world: World, tmp_path: Path) -> None:
    """The results stay those of the features that were; what is there now was made by other weights."""
    at = Layout(tmp_path)

    def notes() -> set[str]:
        (found,) = (one for one in run(tmp_path).findings if one.kind == "unlabelled")
        return {one.note for one in found.subjects}

    assert all("%" in note for note in notes())
    asked = choose_batch(SuggestRequest(run=tmp_path), RunOptions(workers=1))
    assert asked.head is not None and all(one.doubt is not None for one in asked.pictures)
    old = View(at.view("tiny"))
    ids, keys, embedding = old.ids.tolist(), old.keys.tolist(), old.embedding
    write_features(at.view("tiny"), ids, keys, embedding, weights="x" * 64, failures=old.failures)
    assert notes() == {"unlike the others"}
    asked = choose_batch(SuggestRequest(run=tmp_path), RunOptions(workers=1))
    assert (asked.head, asked.backbone) == (None, "tiny")
    assert all(one.doubt is None for one in asked.pictures)
    assert "has no classifier of these features" in asked.notes[0]


def test_only_what_was_found_right_is_settled(world: World, tmp_path: Path) -> None:
    """Another decision of the same item changes the data, and leaves a doubt about what came of it."""
    before = run(tmp_path)
    doubted = [one for finding in before.findings if finding.kind == "labels" for one in finding.subjects]
    assert doubted, "otherwise the test shows nothing"
    (tmp_path / "fixes.csv").write_text(
        "item_id,do,label\n" + "".join(f"{one.item_id},relabel,{one.label}\n" for one in doubted)
    )
    data = {"adapter": "folder", "root": ".", "corrections": [tmp_path / "fixes.csv"]}
    after = run(tmp_path, data=data)
    assert [one.subjects for one in after.findings if one.kind == "labels"] == [tuple(doubted)]


def test_a_joined_head_is_not_the_one_that_is_asked(world: World, tmp_path: Path) -> None:
    """Suggestions take the features of one backbone, however much better two together are."""
    at = Layout(tmp_path)
    single = at.result("logistic", "tiny") / "split-label"
    other = View(at.view("tiny"))
    truth = dict(zip(world.ids, world.labels, strict=True))
    exact = vectors([truth[one] for one in other.ids.tolist()], 0.0, 0)
    arrays = {"embedding": exact}
    write_view(
        tmp_path / "exact.h5",
        identity=identity("embedding", "x" * 64),
        backbone="exact",
        ids=other.ids.tolist(),
        keys=other.keys.tolist(),
        checksums=row_checksums(arrays, len(exact)),
        arrays=arrays,
        failures=other.failures,
    )
    shutil.rmtree(single)
    learned(world, "logistic", single, {"cs": [1e-5]})
    joined = learn(
        HeadParams(head="logistic"),
        features=[at.view("tiny"), tmp_path / "exact.h5"],
        items=world.items,
        split=world.split,
        labels="label",
        out=at.result("logistic", "tiny+exact") / "split-label",
    )
    assert joined.parts["val"].top1 == 1.0
    chosen = chosen_result(at, "label")
    assert chosen is not None and chosen[0] == single


def test_folds_are_offered_only_in_place_of_a_split_that_was_drawn() -> None:
    def folded(strategy: str) -> str:
        return Acting(Path("r"), {}, {"m": {}}, {"s": {"strategy": strategy}}, ("label",), False).folded

    assert folded("random") == "deponij run --backbone m --split folds --out r-2"
    assert folded("given") == folded("folds") == ""
