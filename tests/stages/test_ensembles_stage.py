"""The ensembles stage: stored answers combined, members recorded, folders that do not fit refused."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from learning_world import World, learned, make_world, write_split
from resealing import relist, rewrite
from under_dvc import under_dvc

from deponij.pipeline.ensembles.ensemble import ENSEMBLES
from deponij.pipeline.ensembles.registry import kinds, load_ensemble
from deponij.project.frame.layout import Layout
from deponij.project.learning.result_files import read_logits, read_result
from deponij.stages import ensembles
from deponij.stages.ensembles import EnsembleResult, EnsemblesParams
from deponij.store.errors import DataError, StoreError, UsageError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), n=240, noise=0.6)


@pytest.fixture(scope="module")
def runs(world: World, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Results of a probe, k-NN, class means and zero-shot, where the pipeline puts them."""
    at = Layout(tmp_path_factory.mktemp("runs"))
    make_results(world, at, world.split)
    return at


def make_results(world: World, at: Layout, split: Path) -> None:
    more = {"logistic": {"arguments": {"cs": [0.01]}}, "zero-shot": {"texts": world.texts}}
    for head in ("logistic", "knn", "centroid", "zero-shot"):
        out = at.result(head, "tiny") / f"{split.stem}-label"
        learned(world, head, out, split=split, **more.get(head, {}))


def test_mean_of_logits_by_hand(runs: Layout, tmp_path: Path) -> None:
    folders = runs.results()
    assert len(folders) == 4
    result = ensembles.run("mean-logits", folders, out=tmp_path)
    np.testing.assert_allclose(
        read_logits(tmp_path), np.mean([read_logits(folder) for folder in folders], axis=0), rtol=1e-5
    )
    assert (result.method, result.backbone) == ("ensemble-mean-logits", "tiny")
    assert result.fingerprint == read_result(folders[0])[0].fingerprint
    assert [member.share for member in result.members] == [0.25] * 4
    assert [(tmp_path / member.folder).resolve() for member in result.members] == [
        folder.resolve() for folder in folders
    ]
    assert EnsembleResult.model_validate_json((tmp_path / "result.json").read_bytes()) == result


@pytest.mark.parametrize("how", kinds())
def test_what_was_saved_gives_the_stored_answers(runs: Layout, how: str, tmp_path: Path) -> None:
    folders = runs.results()
    result = ensembles.run(how, folders, out=tmp_path)
    rule, card = load_ensemble(tmp_path)
    assert card.members == result.members
    assert card.classes == result.classes
    members = np.array([read_logits(tmp_path / member.folder) for member in card.members])
    table = pq.read_table(tmp_path / "predictions.parquet")
    rows = np.array(table["part"].to_pylist()) == "test"
    np.testing.assert_allclose(rule.combine(members[:, rows]), read_logits(tmp_path)[rows], atol=1e-4)
    top1 = [read_result(folder)[0].parts["test"].top1 for folder in folders]
    assert result.parts["test"].top1 > min(top1)


@pytest.mark.parametrize("how", kinds())
def test_one_member(runs: Layout, how: str) -> None:
    folder = runs.results()[0]
    result = ensembles.run(how, [folder])
    assert [member.share for member in result.members] == [1]
    if how != "stacking":
        assert result.parts == read_result(folder)[0].parts


def test_the_same_members_give_the_same_bytes(runs: Layout, tmp_path: Path) -> None:
    for name in "ab":
        ensembles.run("stacking", runs.results(), out=tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes(), path.name


def test_test_items_choose_nothing(world: World, runs: Layout, tmp_path: Path) -> None:
    """Spoiled test answers change no share and no temperature."""
    spoiled = []
    for number, folder in enumerate(runs.results()):
        copy = tmp_path / str(number)
        copy_of(folder, copy)
        parts = np.array(pq.read_table(copy / "predictions.parquet")["part"].to_pylist())
        logits = read_logits(copy)
        logits[parts != "val"] = np.random.default_rng(number).normal(size=logits[parts != "val"].shape)
        write_logits(copy, logits)
        spoiled.append(copy)
    for how in ("calibrated", "weighted", "greedy", "stacking"):
        ensembles.run(how, runs.results(), out=tmp_path / "clean" / how)
        ensembles.run(how, spoiled, out=tmp_path / "spoiled" / how)
        clean, other = (ENSEMBLES.read_card(tmp_path / name / how).learned for name in ("clean", "spoiled"))
        assert clean == other


def copy_of(folder: Path, target: Path) -> None:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def write_logits(folder: Path, logits: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, logits.astype(np.float32), allow_pickle=False)
    (folder / "logits.npy").write_bytes(file.getvalue())
    relist(folder)


def test_classes_that_some_members_lack(world: World, tmp_path: Path) -> None:
    # Zero-shot knows a class that training lacks.
    parts = [
        "test" if label == "Lid" and part else part
        for label, part in zip(world.labels, world.parts, strict=True)
    ]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    at = Layout(tmp_path / "runs")
    make_results(world, at, tmp_path / "split.parquet")
    for how in kinds():
        result = ensembles.run(how, at.results())
        assert result.classes == ("Bottle", "Can", "Cup", "Lid")
        assert result.unseen_classes == ()


def test_without_validation_only_the_plain_means_work(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ["train" if part == "val" else part for part in world.parts]
    write_split(tmp_path / "split.parquet", world.ids, parts)
    at = Layout(tmp_path / "runs" / "made")
    make_results(world, at, tmp_path / "split.parquet")
    with pytest.raises(DataError, match="no validation items"):
        ensembles.run("greedy", at.results())
    run_main(tmp_path, monkeypatch, "labels: [label]")
    assert sorted(path.name for path in at.ensembles.iterdir()) == ["mean-logits", "mean-probs"]


def run_main(root: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    # Under DVC the tables have run before, even where nothing of them is asked for.
    Layout(root / "runs" / "made").results_of("tables").mkdir(exist_ok=True)
    monkeypatch.chdir(root)
    (root / "params.yaml").write_text(
        f"profile: made\nbackbones: {{tiny: {{}}}}\nsplits: {{split: {{}}}}\n{more}\n"
    )
    under_dvc(ensembles)


def test_the_stage_combines_every_method_that_it_is_told(
    runs: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Layout(tmp_path / "runs" / "made")
    at.root.parent.mkdir()
    at.root.symlink_to(runs.root)
    run_main(tmp_path, monkeypatch, "labels: [label]\nensembles: {methods: [logistic, centroid]}")
    found = at.ensemble_results(["tiny"])
    assert [folder.parent.parent.name for folder in found] == sorted(EnsemblesParams().how)
    members = {folder.parent.parent.name: len(ENSEMBLES.read_card(folder).members) for folder in found}
    assert members == {how: 4 if how == "greedy" else 2 for how in EnsemblesParams().how}
    assert set(json.loads(at.metrics("ensembles").read_text())["split"]["label"]) == set(
        EnsemblesParams().how
    )
    # A second run finds its own ensembles there and combines none of them.
    before = {path: path.read_bytes() for path in sorted(at.ensembles.rglob("*.json"))}
    under_dvc(ensembles)
    assert {path: path.read_bytes() for path in sorted(at.ensembles.rglob("*.json"))} == before
    assert at.ensemble_results(["another"]) == []
    with pytest.raises(
        DataError, match=r"no results of mlp on split/label to combine; it has those of centroid, knn"
    ):
        run_main(tmp_path, monkeypatch, "labels: [label]\nensembles: {methods: [mlp]}")


def test_an_unknown_kind_clears_nothing_away(
    runs: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Layout(tmp_path / "runs" / "made").ensembles / "kept"
    kept.mkdir(parents=True)
    with pytest.raises(UsageError, match="unknown ensemble 'gredy'"):
        run_main(tmp_path, monkeypatch, "labels: [label]\nensembles: {how: [gredy]}")
    assert kept.exists()


def test_different_items_are_refused(world: World, runs: Layout, tmp_path: Path) -> None:
    parts = [None if place > 200 else part for place, part in enumerate(world.parts)]
    (tmp_path / "few").mkdir()
    split = tmp_path / "few" / "split.parquet"
    write_split(split, world.ids, parts)
    at = Layout(tmp_path / "runs")
    make_results(world, at, split)
    with pytest.raises(DataError, match="answer different items"):
        ensembles.run("mean-probs", [runs.results()[0], at.results()[1]])


def test_other_parts_labels_or_truths_are_refused(world: World, runs: Layout, tmp_path: Path) -> None:
    first, second = runs.results()[:2]
    copy_of(second, tmp_path / "swapped")
    table = pq.read_table(second / "predictions.parquet")
    parts = table["part"].to_pylist()
    swapped = list(parts)
    swapped[parts.index("val")], swapped[parts.index("test")] = "test", "val"
    table = table.set_column(table.column_names.index("part"), "part", [swapped])
    pq.write_table(table, tmp_path / "swapped" / "predictions.parquet")
    relist(tmp_path / "swapped")
    with pytest.raises(DataError, match=r"has 'photo.*' as '.*' in .*run the older one's stage again"):
        ensembles.run("mean-probs", [first, tmp_path / "swapped"])
    copy_of(second, tmp_path / "renamed")
    rewrite(tmp_path / "renamed" / "result.json", lambda record: record | {"labels": "colour"})
    with pytest.raises(DataError, match="is of labels 'label' and split 'split', .* of 'colour'"):
        ensembles.run("mean-probs", [first, tmp_path / "renamed"])


def test_bad_folders_are_refused(runs: Layout, tmp_path: Path) -> None:
    first, second = runs.results()[:2]
    with pytest.raises(UsageError, match="unknown ensemble 'mean'"):
        ensembles.run("mean", [first])
    with pytest.raises(UsageError, match="at least one results folder"):
        ensembles.run("greedy", [])
    with pytest.raises(UsageError, match="named twice"):
        ensembles.run("greedy", [first, second, first])
    with pytest.raises(StoreError, match="no results in"):
        ensembles.run("greedy", [tmp_path])
    copy_of(second, tmp_path / "spoiled")
    logits = read_logits(second)
    logits[3, 1] = np.nan
    write_logits(tmp_path / "spoiled", logits)
    with pytest.raises(StoreError, match="the logits of 1 items are NaN or infinite"):
        ensembles.run("greedy", [first, tmp_path / "spoiled"])
    (tmp_path / "spoiled" / "logits.npy").unlink()
    with pytest.raises(StoreError, match="logits.npy is missing"):
        ensembles.run("greedy", [first, tmp_path / "spoiled"])
