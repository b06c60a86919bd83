"""Cross-validation: answers against scikit-learn's `cross_val_predict` on the same folds, and what must never leak."""

from pathlib import Path
from statistics import median_low

import numpy as np
import pyarrow as pa
import pytest
from learning_world import World, make_world, picture, write_items
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deponij.pipeline.ensembles.members import Aligned
from deponij.pipeline.ensembles.registry import ensemble_class
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.logistic import LogisticProbe
from deponij.pipeline.metrics.calibration import fit_temperature, log_softmax
from deponij.project.learning.learn import HeadParams, learn
from deponij.project.learning.result_files import read_judged
from deponij.project.learning.results import read_examples
from deponij.stages import ensembles
from deponij.store.atomic import read_table, write_table
from deponij.store.errors import DataError
from deponij.store.items import Items
from deponij.store.view import View

N_FOLDS = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world of the learning stages, its split replaced by folds of whole photographs."""
    made = make_world(tmp_path_factory.mktemp("folds"), noise=0.6)
    folds = [None if part is None else int(i // 2) % N_FOLDS for i, part in enumerate(made.parts)]
    parts = [None if part is None else "test" for part in made.parts]
    columns = {
        "item_id": list(made.ids),
        "part": pa.array(parts, pa.string()),
        "fold": pa.array(folds, pa.int64()),
    }
    write_table(made.split, pa.table(columns))
    return made


def examples_of(world: World) -> tuple[Examples, np.ndarray]:
    return read_examples(View(world.features), Items(world.items), world.split, "label")


def learned(world: World, head: str, out: Path | None = None, **arguments: object):
    return learn(
        HeadParams(head=head, arguments=arguments),  # type: ignore[arg-type]
        features=[world.features],
        items=world.items,
        split=world.split,
        labels="label",
        out=out,
    )


def test_every_item_is_tested_once_validated_once_and_learned_from_otherwise(world: World) -> None:
    examples, _ = examples_of(world)
    rotations = examples.rotations()
    assert len(rotations) == N_FOLDS
    assert all(one.folds is None for one in rotations)
    parts = np.stack([one.parts for one in rotations])
    assert ((parts == "test").sum(axis=0) == 1).all()
    assert ((parts == "val").sum(axis=0) == 1).all()
    assert ((parts == "train").sum(axis=0) == N_FOLDS - 2).all()
    for number, one in enumerate(rotations):
        assert set(examples.folds[one.rows("test")].tolist()) == {number}  # type: ignore[index]
        assert set(examples.folds[one.rows("val")].tolist()) == {(number + 1) % N_FOLDS}  # type: ignore[index]


def test_without_folds_examples_are_their_own_rotation(tmp_path: Path) -> None:
    plain = make_world(tmp_path)
    examples, _ = examples_of(plain)
    assert examples.rotations() == (examples,)


def test_answers_equal_those_of_scikit_learn_on_the_same_folds(world: World, tmp_path: Path) -> None:
    examples, vectors = examples_of(world)
    pairs = [(one.rows("train"), one.rows("test")) for one in examples.rotations()]
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000, tol=1e-8))
    expected = cross_val_predict(peer, vectors.astype(np.float64), examples.labels, cv=pairs)
    result = learned(world, "logistic", tmp_path / "out", cs=[0.1])
    found = read_judged(tmp_path / "out")
    assert found.predictions.ids.tolist() == examples.ids.tolist()
    assert found.predictions.top_labels[:, 0].tolist() == expected.tolist()
    assert found.predictions.folds is not None
    assert found.predictions.folds.tolist() == examples.folds.tolist()  # type: ignore[union-attr]
    assert result.n_folds == N_FOLDS
    assert set(result.parts) == {"test"}
    assert result.parts["test"].top1 == pytest.approx((expected == examples.labels).mean())


def test_the_kept_head_learned_from_all_with_the_median_choice(world: World, tmp_path: Path) -> None:
    examples, vectors = examples_of(world)
    result = learned(world, "logistic", tmp_path / "out")
    chosen = []
    for one in examples.rotations():
        train, val = one.rows("train"), one.rows("val")
        head = LogisticProbe().fit(vectors[train], one.labels[train], vectors[val], one.labels[val])
        chosen.append(head.c_)
    expected = LogisticProbe(cs=(median_low(chosen),)).fit(vectors, examples.labels)
    kept = LogisticProbe.load(tmp_path / "out")
    np.testing.assert_array_equal(kept.coef_, expected.coef_)
    assert result.learned["c"] == median_low(chosen)
    assert "learned from all" in result.protocol
    assert "5 folds: in turn one is tested, one chosen on, and 3 learned from" in result.protocol


@pytest.mark.parametrize("head", ["knn", "tip-adapter", "wise-ft", "centroid", "linear", "mlp"])
def test_labels_that_mean_nothing_are_answered_by_chance(world: World, tmp_path: Path, head: str) -> None:
    """A head that had seen its items would know them: k-NN of its own training items is right every time."""
    shuffled = tmp_path / "items"
    rng = np.random.default_rng(0)
    names = rng.choice(["Bottle", "Can", "Cup", "Lid"], len(world.ids)).tolist()
    # Of the same pictures: item 12 is the one that failed.
    contents = [None if i == 12 else picture(i) for i in range(len(world.ids))]
    write_items(shuffled, list(zip(world.ids, contents, names, strict=True)))
    result = learn(
        HeadParams(head=head, arguments={"epochs": 3} if head in ("linear", "mlp") else {}),
        features=[world.features],
        items=shuffled,
        split=world.split,
        labels="label",
        texts=world.texts if head in ("tip-adapter", "wise-ft") else None,
    )
    assert result.parts["test"].n > 100
    # Four classes; 0.45 lies five standard errors above 0.25.
    assert result.parts["test"].top1 < 0.45


def test_temperature_is_that_of_the_other_folds(world: World, tmp_path: Path) -> None:
    result = learned(world, "logistic", tmp_path / "out")
    found = read_judged(tmp_path / "out")
    folds, logits = found.predictions.folds, found.logits.astype(np.float64)
    assert folds is not None and result.calibration is not None
    codes = np.array([result.classes.index(name) for name in found.predictions.truth.tolist()])
    losses = []
    for fold in range(N_FOLDS):
        mine = folds == fold
        scaled = log_softmax(logits[mine] / fit_temperature(logits[~mine], codes[~mine]))
        losses += (-scaled[np.arange(mine.sum()), codes[mine]]).tolist()
    assert result.calibration.nll_scaled == pytest.approx(np.mean(losses), rel=1e-4)
    assert result.calibration.temperature == pytest.approx(fit_temperature(logits, codes), rel=1e-4)


def test_an_ensemble_learns_from_the_other_folds(world: World, tmp_path: Path) -> None:
    for head in ("logistic", "centroid"):
        learned(world, head, tmp_path / head)
    result = ensembles.run("weighted", [tmp_path / "logistic", tmp_path / "centroid"], out=tmp_path / "both")
    members = np.stack([read_judged(tmp_path / head).logits for head in ("logistic", "centroid")]).astype(
        float
    )
    found = read_judged(tmp_path / "both")
    folds, truth = found.predictions.folds, found.predictions.truth
    assert folds is not None and result.n_folds == N_FOLDS
    codes = np.array([result.classes.index(name) for name in truth.tolist()])
    rest = folds != 2
    by_others = ensemble_class("weighted")().fit(members[:, rest], codes[rest]).combine(members[:, ~rest])
    np.testing.assert_allclose(found.logits[~rest], by_others, rtol=1e-5, atol=1e-5)
    assert any("out-of-fold" in note for note in result.notes)


def test_an_ensemble_of_folds_learns_nothing_from_a_class_that_no_member_has() -> None:
    """Half of the truths are unknown: code -1 must not pass for the last class. A fit on the known ones is the peer."""
    rng = np.random.default_rng(0)
    n, classes = 60, ("a", "b", "c")
    codes = np.where(np.arange(n) % 2, rng.integers(0, 3, n), -1)
    truth = np.where(codes < 0, "unknown", np.array(classes)[codes])
    members = rng.normal(size=(2, n, 3))
    members[0, np.arange(n), codes] += 2.0 * (codes >= 0)
    # The second is right where the truth is unknown only if that is taken for the last class.
    members[1, codes < 0, 2] += 4.0
    ids, folds = np.arange(n).astype(str), np.arange(n) // 2 % 3
    examples = Examples(ids, truth, np.full(n, "test"), ids, "items", classes, n, 0, 0, 0, folds)
    stored = ensembles.Stored((), (), examples, Aligned(ids, classes, members))
    kept, logits = ensembles._fitted("weighted", stored, codes)
    known, blank = codes >= 0, ensemble_class("weighted")
    np.testing.assert_allclose(kept.shares_, blank().fit(members[:, known], codes[known]).shares_)
    others = known & (folds != 1)
    peer = blank().fit(members[:, others], codes[others])
    np.testing.assert_allclose(logits[folds == 1], peer.combine(members[:, folds == 1]))


def test_few_shot_neighbours_are_of_other_folds(world: World) -> None:
    result = learn(
        HeadParams(head="knn"),
        features=[world.features],
        items=world.items,
        split=world.split,
        labels="label",
        per_class=[2, 5],
        tries=3,
    )
    shots = result.learned["few_shot"]
    assert isinstance(shots, list)
    assert {shot["n_test"] for shot in shots} == {result.parts["test"].n}  # type: ignore[index, call-overload]
    assert "every_k" not in result.learned


def test_of_an_even_number_of_folds_the_lower_of_the_middle_choices_is_kept() -> None:
    """As `statistics.median_low` has it: a value that was tried, and the stronger penalty of two."""
    fitted = []
    for c in (10.0, 0.1, 1.0, 0.01):
        head = LogisticProbe()
        head.c_ = c
        fitted.append(head)
    assert LogisticProbe(max_iter=77).settled(fitted).get_params() == {
        **LogisticProbe(max_iter=77).get_params(),
        "cs": (0.1,),
    }


# The first and the last of the classes: columns of answers are found by name.
@pytest.mark.parametrize("alone", ["Bottle", "Lid"])
def test_a_class_of_one_fold_is_unknown_where_it_is_tested(world: World, tmp_path: Path, alone: str) -> None:
    table = read_table(world.split)
    folds = [
        0 if label == alone else fold
        for label, fold in zip(world.labels, table["fold"].to_pylist(), strict=True)
    ]
    folds = [
        None if part is None else fold for part, fold in zip(table["part"].to_pylist(), folds, strict=True)
    ]
    split = tmp_path / "split.parquet"
    write_table(split, table.set_column(2, "fold", pa.array(folds, pa.int64())))
    learn(
        HeadParams(head="centroid"),
        features=[world.features],
        items=world.items,
        split=split,
        labels="label",
        out=tmp_path / "out",
    )
    found = read_judged(tmp_path / "out")
    is_alone = found.predictions.truth == alone
    assert is_alone.any()
    assert not (found.predictions.top_labels[is_alone, 0] == alone).any()
    assert (found.predictions.top_labels[~is_alone, 0] == found.predictions.truth[~is_alone]).mean() > 0.5


def test_wrong_folds_are_told(world: World, tmp_path: Path) -> None:
    table = read_table(world.split)

    def told(column: pa.Array) -> str:
        split = tmp_path / "split.parquet"
        write_table(split, table.set_column(2, "fold", column))
        with pytest.raises(DataError) as caught:
            read_examples(View(world.features), Items(world.items), split, "label")
        return str(caught.value)

    n = len(table)
    assert "whole numbers" in told(pa.array(["a"] * n))
    assert "have no fold" in told(pa.array([None] * n, pa.int64()))
    assert "of 2 fold(s)" in told(pa.array([i % 2 for i in range(n)], pa.int64()))
