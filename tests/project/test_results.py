"""Reading examples of several views, judging logits, and results folders that come back."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from learning_world import CLASSES, World, learned, make_world, picture, write_features
from resealing import relist

from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.heads.head import softmax
from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.project.learning.item_columns import photograph_of, read_groups
from deponij.project.learning.out_of_fold import Learned
from deponij.project.learning.result_files import LOGITS_NAME, Judged, read_judged, read_logits, read_result
from deponij.project.learning.results import (
    evaluate,
    examples_of,
    feature_sources,
    judge,
    metrics_of,
    read_examples,
    read_shared_examples,
    write_results,
)
from deponij.store.atomic import write_table
from deponij.store.errors import DataError, StoreError, UsageError
from deponij.store.items import Items, ItemWriter
from deponij.store.keys import key_of_bytes
from deponij.store.view import View


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def second_view(
    world: World, path: Path, *, without: tuple[int, ...] = (), fail: bool = True, shift: int = 0
) -> View:
    """Other features of the same pictures, in another order; `shift` makes them of other pictures."""
    rows = [i for i in range(len(world.ids)) if i != 12 and i not in without][::-1]
    failed = [(world.ids[12], "not a picture"), *((world.ids[i], "decoder died") for i in without if fail)]
    write_features(
        path,
        [world.ids[i] for i in rows],
        [key_of_bytes(picture(i + shift)) for i in rows],
        np.stack([np.full(3, i, dtype=np.float32) for i in rows]),
        weights="v" * 64,
        failures=failed,
    )
    return View(path)


def test_shared_examples_have_features_in_every_view(world: World, tmp_path: Path) -> None:
    # The first view lacks item 30, the second items 0 and 7.
    first, second = View(world.features), second_view(world, tmp_path / "v.h5", without=(0, 7))
    examples, (one, two) = read_shared_examples([first, second], Items(world.items), world.split, "label")
    assert one.shape == (len(examples.ids), 16)
    assert two.shape == (len(examples.ids), 3)
    for item_id, row, number in zip(examples.ids.tolist(), one, two, strict=True):
        np.testing.assert_array_equal(row, first.read([item_id])[0])
        assert world.ids[int(number[0])] == item_id
    alone, _ = read_examples(first, Items(world.items), world.split, "label")
    assert set(alone.ids) - set(examples.ids) == {world.ids[0], world.ids[7]}
    assert examples.n_without_features == alone.n_without_features + 2
    assert examples.pool_classes == alone.pool_classes


def test_views_that_do_not_belong_are_refused(world: World, tmp_path: Path) -> None:
    first, items = View(world.features), Items(world.items)
    lacking = second_view(world, tmp_path / "lacking.h5", without=(0,), fail=False)
    with pytest.raises(StoreError, match=r"lacking\.h5 lacks 1 of 120 items that did not fail"):
        read_shared_examples([first, lacking], items, world.split, "label")
    other = second_view(world, tmp_path / "other.h5", shift=1000)
    with pytest.raises(StoreError, match=r"other\.h5 saw other pictures"):
        read_shared_examples([first, other], items, world.split, "label")
    with pytest.raises(UsageError, match="kind 'text'"):
        read_shared_examples([first, View(world.texts)], items, world.split, "label")
    with pytest.raises(UsageError, match="at least one view"):
        read_shared_examples([], items, world.split, "label")


def judged(world: World, seed: int = 0) -> Judged:
    examples, _ = read_examples(View(world.features), Items(world.items), world.split, "label")
    right = np.array([CLASSES.index(label) for label in examples.labels])
    logits = np.random.default_rng(seed).normal(size=(len(right), 4))
    logits[np.arange(len(right)), right] += 1.5
    return judge(
        logits,
        CLASSES,
        examples,
        method="ensemble",
        title="mean of logits",
        protocol="nothing learned",
        backbone="x+y",
        fingerprint="f+g",
        labels="label",
        split="split",
    )


def test_ready_logits_are_judged(world: World) -> None:
    found = judged(world)
    result, logits = found.evaluation, found.logits
    test = found.predictions.parts == "test"
    codes = np.array([CLASSES.index(name) for name in found.predictions.truth])
    assert result.parts["test"].top1 == (logits.argmax(axis=1) == codes)[test].mean()
    np.testing.assert_allclose(
        found.predictions.top_probs[:, 0], softmax(logits.astype(float)).max(axis=1), rtol=1e-5
    )
    assert (result.backbone, result.fingerprint, result.method) == ("x+y", "f+g", "ensemble")
    assert result.calibration.part == "test"
    assert result.calibration.n == result.parts["test"].n
    assert result.calibration.temperature > 0
    numbers = metrics_of(result)
    assert numbers["test"]["ece"] == pytest.approx(result.calibration.ece, abs=1e-6)
    # Few, for DVC makes each a column: what to choose by, and what to report.
    assert set(numbers) == {"val", "test"}
    assert set(numbers["val"]) == {"top1"}
    assert numbers["val"]["top1"] == pytest.approx(result.parts["val"].top1, abs=1e-6)
    assert set(numbers["test"]) == {"top1", "top2", "top3", "balanced_accuracy", "ece"}


def test_a_head_of_two_views_names_both(world: World, tmp_path: Path) -> None:
    views = [View(world.features), second_view(world, tmp_path / "v.h5")]
    sources = feature_sources(views, "label")
    assert [source.identity["weights"][0] for source in sources] == ["w", "v"]
    examples, arrays = read_shared_examples(views, Items(world.items), world.split, "label")
    features = np.concatenate(arrays, axis=1) + 1
    head = ZeroShotClassifier().fit(np.eye(4, 19) + 0.01, CLASSES)
    made = Learned(head, head.decision_function(features), head.protocol)
    found = evaluate(made, sources, examples, labels="label", split=world.split)
    assert found.evaluation.backbone == "tiny+tiny"
    assert found.evaluation.fingerprint == "+".join(view.fingerprint for view in views)
    np.testing.assert_allclose(found.logits, head.decision_function(features), rtol=1e-5)


def test_a_folder_comes_back_whole(world: World, tmp_path: Path) -> None:
    found = judged(world)
    write_results(tmp_path, found.evaluation, found.predictions, found.logits)
    again = read_judged(tmp_path)
    assert again.evaluation == found.evaluation
    np.testing.assert_array_equal(again.logits, found.logits)
    assert again.logits.dtype == np.float32
    assert again.predictions.ids.tolist() == found.predictions.ids.tolist()
    # An ensemble of one stored member is that member.
    same = judge(
        again.logits,
        again.evaluation.classes,
        examples_of(again.evaluation, again.predictions),
        **{name: getattr(found.evaluation, name) for name in ("method", "title", "protocol", "backbone")},
        **{name: getattr(found.evaluation, name) for name in ("fingerprint", "labels", "split")},
    )
    assert same.evaluation.parts == found.evaluation.parts
    assert same.evaluation.model_copy(update={"calibration": None}) == found.evaluation.model_copy(
        update={"calibration": None}
    )
    assert same.predictions.top_labels.tolist() == found.predictions.top_labels.tolist()


def test_logits_are_numbers_alone_and_damage_is_found(world: World, tmp_path: Path) -> None:
    found = judged(world)
    write_results(tmp_path, found.evaluation, found.predictions, found.logits)
    path = tmp_path / LOGITS_NAME
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), found.logits)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StoreError, match="logits.npy is damaged"):
        read_logits(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="logits.npy is damaged"):
        read_logits(tmp_path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    relist(tmp_path)
    with pytest.raises(StoreError, match="logits.npy holds no array"):
        read_logits(tmp_path)
    np.save(path, found.logits.astype(np.float64))
    relist(tmp_path)
    with pytest.raises(StoreError, match="float64"):
        read_logits(tmp_path)
    np.save(path, found.logits[1:])
    relist(tmp_path)
    with pytest.raises(StoreError, match="predictions over 4 classes"):
        read_judged(tmp_path)
    path.unlink()
    relist(tmp_path)
    with pytest.raises(StoreError, match="it has no logits.npy; run its stage again"):
        read_logits(tmp_path)


def test_logits_that_are_not_finite_are_refused(world: World) -> None:
    examples, _ = read_examples(View(world.features), Items(world.items), world.split, "label")
    logits = np.zeros((len(examples.ids), 4))
    logits[3, 1] = -np.inf
    names = ("method", "title", "protocol", "backbone", "fingerprint", "labels", "split")
    with pytest.raises(
        DataError, match=r"1 of \d+ items have scores that are not finite; the first is row 3"
    ):
        judge(logits, CLASSES, examples, **dict.fromkeys(names, "x"))


def test_a_source_is_what_a_view_says(world: World) -> None:
    view = View(world.features)
    (source,) = feature_sources([view], "label")
    assert isinstance(source, FeatureSource)
    assert (source.backbone, source.fingerprint, source.labels) == (view.backbone, view.fingerprint, "label")


def test_results_do_not_depend_on_the_last_bit(tmp_path: Path) -> None:
    """What another number of threads does to features: some are a bit off. Figures are the same, to the byte."""
    world = make_world(tmp_path / "world", noise=0.6)
    view = View(world.features)
    values = view.read(view.ids.tolist())
    values[::7] = np.nextafter(values[::7], np.float32(np.inf), dtype=np.float32)
    write_features(
        tmp_path / "off.h5", view.ids.tolist(), view.keys.tolist(), values, failures=list(view.failures)
    )
    for path in (world.features, tmp_path / "off.h5"):
        learned(world, "knn", tmp_path / path.stem, features=path)
    one, other = (tmp_path / name for name in ("view", "off"))
    assert (one / "result.json").read_bytes() == (other / "result.json").read_bytes()
    assert (read_logits(one) != read_logits(other)).any()


def test_items_of_no_photograph_are_alone(tmp_path: Path) -> None:
    with ItemWriter(tmp_path / "items", pa.schema([])) as writer:
        for item_id, photo in {"a": "p", "b": "p", "c": None, "d": None}.items():
            writer.add(content=None, failure="cut off", item_id=item_id, image_id=photo, metadata={})
    items = Items(tmp_path / "items")
    write_table(tmp_path / "split.parquet", pa.table({"item_id": items.ids, "group": ["p", "p", None, None]}))
    alone = {"a": "p", "b": "p", "c": "c", "d": "d"}
    assert photograph_of(items) == alone
    assert read_groups(tmp_path / "split.parquet", items) == (alone, "photographs")


def test_groups_are_those_of_the_split_else_photographs(tmp_path: Path) -> None:
    """A split's column `group` goes from its table through predictions to an ensemble's examples."""
    world = make_world(tmp_path, noise=0.6)
    photos = [item_id.split("#")[0] for item_id in world.ids]
    batches = [f"batch{i // 8}" if i != 17 else None for i in range(len(world.ids))]
    for groups, unit in ((None, "photographs"), (photos, "photographs"), (batches, "groups")):
        columns = {} if groups is None else {"group": pa.array(groups, pa.string())}
        table = {"item_id": list(world.ids), "part": pa.array(world.parts, pa.string()), **columns}
        write_table(world.split, pa.table(table))
        result = learned(world, "centroid", tmp_path / "out")
        expected = dict(zip(world.ids, groups or photos, strict=True))
        evaluation, found = read_result(tmp_path / "out")
        assert found.groups.tolist() == [expected[i] or i for i in found.ids.tolist()]
        assert result.parts["test"].unit == unit
        assert result.parts["test"].n_groups == len(set(found.of("test").groups.tolist()))
        again = examples_of(evaluation, found)
        assert (again.groups.tolist(), again.unit) == (found.groups.tolist(), unit)
