"""What every head of the registry keeps: shapes, determinism, saving, refusals.

Heads that read maps get the same examples, of which each is a grid.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from dealt_anew import choices, dealt_anew, top1_of_test
from learning_world import World, learned, make_world
from resealing import relist, rewrite
from safetensors.numpy import load_file
from sklearn.base import clone

from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.heads.head import HEADS, Head
from deponij.pipeline.heads.registry import head_class, kinds, load_head, register
from deponij.project.learning.arguments import make_head
from deponij.store.bundle import MANIFEST
from deponij.store.errors import DataError, IdentityError, StoreError, UsageError

SOURCE = FeatureSource(backbone="tiny", fingerprint="f" * 20, labels="label", identity={"weights": "abc"})
CLASSES = ["bottle", "can", "cup"]


# What the usual settings, made for thousands of examples, need for forty.
SETTINGS: dict[str, dict[str, object]] = {
    "linear": {"lr": 0.03},
    "dino-linear": {"iterations": 200},
    "knn": {"ks": [1, 3, 5, 10, 20]},
    "attentive": {"lrs": [1e-3, 0.01, 0.03], "batch": 8},
}
GRID = (2, 3)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    """A world, and the same with the labels of its test part dealt anew."""
    world = make_world(tmp_path_factory.mktemp("world"), n=240, noise=0.6)
    return world, dealt_anew(world, tmp_path_factory.mktemp("anew"))


@pytest.fixture(params=kinds())
def head(request: pytest.FixtureRequest) -> Head:
    return head_class(request.param)(**SETTINGS.get(request.param, {}))


def examples(n: int, seed: int, head: Head | type[Head] = Head) -> tuple[np.ndarray, np.ndarray]:
    """Three classes in eight dimensions, learnable from images and usable as texts; in the form that a head reads."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    rows = 2 * np.eye(3, 8)[codes] + 0.3 * rng.normal(size=(n, 8))
    return as_read(rows.astype(np.float32), head), np.array(CLASSES)[codes]


def as_read(rows: np.ndarray, head: Head | type[Head]) -> np.ndarray:
    """Vectors [n, d], or a grid each whose cells lie around the vector."""
    if head.reads == "vectors":
        return rows
    around = 0.1 * np.random.default_rng(9).normal(size=(1, 1, *GRID))
    return (rows[:, :, None, None] + around).astype(rows.dtype)


@pytest.fixture
def fitted(head: Head) -> Head:
    X, y = examples(60, seed=0, head=head)
    return head.fit(X[:40], y[:40], X[40:], y[40:])


def test_learns_what_is_easy(fitted: Head) -> None:
    X, y = examples(90, seed=1, head=fitted)
    assert (fitted.predict(X) == y).mean() > 0.95
    assert fitted.classes_.tolist() == CLASSES
    assert fitted.n_features_in_ == 8


def test_shapes_and_probabilities(fitted: Head) -> None:
    X, _ = examples(7, seed=2, head=fitted)
    logits, probs = fitted.decision_function(X), fitted.predict_proba(X)
    assert logits.shape == probs.shape == (7, 3)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert (probs >= 0).all()
    assert (logits.argmax(axis=1) == probs.argmax(axis=1)).all()
    assert fitted.decision_function(X[:0]).shape == (0, 3)


def test_rows_are_answered_one_by_one(fitted: Head) -> None:
    X, _ = examples(9, seed=3, head=fitted)
    single = np.concatenate([fitted.decision_function(X[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(single, fitted.decision_function(X), rtol=1e-9, atol=1e-9)


def test_deterministic(head: Head, fitted: Head, tmp_path: Path) -> None:
    X, y = examples(60, seed=0, head=head)
    fitted.save(tmp_path / "a", [SOURCE])
    clone(head).fit(X[:40], y[:40], X[40:], y[40:]).save(tmp_path / "b", [SOURCE])
    for name in (HEADS.card_name, HEADS.tensors_name):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("kind", kinds())
def test_labels_of_the_test_part_choose_nothing(
    worlds: tuple[World, World], kind: str, tmp_path: Path
) -> None:
    """What is learned, chosen, tried and answered is the same to the byte; only figures of test move."""
    for name, world in zip("ab", worlds, strict=True):
        more = {"texts": world.texts} if head_class(kind).starts_from_texts else {}
        more |= {"per_class": (1, 2, 3, 5, 8), "tries": 3}
        learned(world, kind, tmp_path / name, SETTINGS.get(kind), **more)
    assert choices(tmp_path / "a") == choices(tmp_path / "b")
    assert top1_of_test(tmp_path / "a") > top1_of_test(tmp_path / "b") + 0.2


@pytest.mark.parametrize("kind", [kind for kind in kinds() if "trials" in head_class(kind).facts])
def test_of_what_was_tried_the_best_on_validation_is_taken(kind: str) -> None:
    """The fitted head does on validation what its best trial did there; ties in top-1 go to the lower log-loss."""
    # Noise, and columns that lie elsewhere on validation: what is standardised must be so by training.
    X, y = examples(120, seed=7)
    X += np.random.default_rng(8).normal(scale=1.5, size=X.shape).astype(np.float32)
    X[60:] += np.linspace(-0.5, 0.5, 8, dtype=np.float32)
    head = head_class(kind)(**SETTINGS.get(kind, {}))
    X = as_read(X, head)
    # Words that say little, so that the examples must.
    words = {"texts": examples(3, seed=9)[0] + 2 * np.eye(3, 8)[::-1], "text_names": CLASSES}
    head.fit(X[:60], y[:60], X[60:], y[60:], **(words if head.starts_from_texts else {}))
    probs = head.predict_proba(X[60:])
    log_loss = -np.log(probs[np.arange(60), np.searchsorted(CLASSES, y[60:])]).mean()
    best = min(head.trials_, key=lambda trial: (-trial.top1, trial.log_loss))
    first = head.trials_[0]
    assert abs(np.log(first.log_loss / best.log_loss)) > 0.1, "otherwise the test shows nothing"
    # One item may be another's where the choice was made by quicker fits than the last.
    assert best.top1 == pytest.approx((head.predict(X[60:]) == y[60:]).mean(), abs=1.5 / 60)
    assert best.log_loss == pytest.approx(log_loss, rel=0.01)


def test_saved_and_loaded(fitted: Head, tmp_path: Path) -> None:
    X, _ = examples(20, seed=4, head=fitted)
    fitted.save(tmp_path, [SOURCE])
    again = load_head(tmp_path)
    assert type(again) is type(fitted)
    np.testing.assert_array_equal(again.decision_function(X), fitted.decision_function(X))
    assert again.classes_.tolist() == CLASSES
    assert again.sources_ == (SOURCE,)
    assert again.protocol == fitted.protocol
    again.save(tmp_path / "again", again.sources_)
    assert (tmp_path / "again" / HEADS.card_name).read_bytes() == (tmp_path / HEADS.card_name).read_bytes()


def test_the_card_says_how_to_apply_the_tensors(fitted: Head, tmp_path: Path) -> None:
    # Someone without this project has the JSON, the tensors and numpy.
    X, _ = examples(20, seed=5, head=fitted)
    fitted.save(tmp_path, [SOURCE])
    card = json.loads((tmp_path / HEADS.card_name).read_text())
    scope = {"features": X.astype(np.float64), "norm": lambda a: np.linalg.norm(a, axis=1, keepdims=True)}
    scope |= load_file(tmp_path / HEADS.tensors_name) | card["params"]
    exec(card["apply"], scope)
    np.testing.assert_allclose(scope["logits"], fitted.decision_function(X), rtol=1e-5, atol=1e-5)
    assert card["classes"] == CLASSES
    assert [source["fingerprint"] for source in card["sources"]] == [SOURCE.fingerprint]


def test_only_numbers_are_saved(fitted: Head, tmp_path: Path) -> None:
    fitted.save(tmp_path, [SOURCE])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        MANIFEST,
        HEADS.card_name,
        HEADS.tensors_name,
    ]
    assert all(array.dtype == np.float32 for array in load_file(tmp_path / HEADS.tensors_name).values())


def test_clone_keeps_parameters_and_forgets_what_was_learned(fitted: Head) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(DataError, match="learned nothing"):
        copy.predict(examples(3, seed=0, head=fitted)[0])


WRONG = {int: -1, float: float("nan"), tuple: (float("nan"),), str: "no such"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in kinds()
        for name, value in head_class(kind)().get_params().items()
        if type(value) in WRONG
    ],
)
def test_every_parameter_is_checked_before_any_data_are_seen(kind: str, name: str) -> None:
    wrong = {name: WRONG[type(head_class(kind)().get_params()[name])]}
    with pytest.raises(UsageError, match=f"{name} .*got"):
        head_class(kind)(**wrong).check_params()
    with pytest.raises(UsageError, match=f"{name}.*got"):
        make_head(kind, wrong)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(head: Head, fitted: Head, bad: float) -> None:
    X, y = examples(12, seed=6, head=head)
    X[7, 2] = bad
    with pytest.raises(DataError, match=r"1 of 12 rows hold NaN or infinite values \(first rows: \[7\]\)"):
        type(head)().fit(X, y)
    with pytest.raises(DataError, match="NaN or infinite"):
        fitted.decision_function(X)


@pytest.mark.parametrize("kind", [kind for kind in kinds() if head_class(kind).learns_from == "images"])
def test_features_that_say_nothing_are_refused(kind: str) -> None:
    head = head_class(kind)()
    X, y = examples(12, seed=0, head=head)
    with pytest.raises(DataError, match="constant"):
        head.fit(np.ones_like(X), y)


def test_no_examples_are_refused(head: Head) -> None:
    with pytest.raises(DataError, match="no examples"):
        head.fit(as_read(np.empty((0, 8)), head), [])


def test_labels_must_match(head: Head) -> None:
    with pytest.raises(DataError, match=r"6 rows of features for labels of shape \(5,\)"):
        head.fit(*[part[:size] for part, size in zip(examples(6, seed=0, head=head), (6, 5), strict=True)])


@pytest.mark.parametrize("shape", [(4,), (4, 2, 8), (4, 0)])
def test_other_shapes_are_refused(head: Head, shape: tuple[int, ...]) -> None:
    wanted = r"\[n, d\]" if head.reads == "vectors" else r"\[n, d, h, w\]"
    with pytest.raises(DataError, match=f"must be an array {wanted}"):
        head.fit(np.zeros(shape), list("aabb"))


def test_another_width_is_refused(fitted: Head) -> None:
    with pytest.raises(DataError, match="width 8, got width 5"):
        fitted.decision_function(as_read(np.zeros((2, 5)), fitted))


def test_damage_is_found(fitted: Head, tmp_path: Path) -> None:
    fitted.save(tmp_path, [SOURCE])
    tensors = tmp_path / HEADS.tensors_name
    data = bytearray(tensors.read_bytes())
    data[-3] ^= 1
    tensors.write_bytes(data)
    with pytest.raises(StoreError, match="head.safetensors is damaged or was edited"):
        load_head(tmp_path)
    tensors.unlink()
    with pytest.raises(StoreError, match="head.safetensors is missing"):
        load_head(tmp_path)
    relist(tmp_path)
    with pytest.raises(StoreError, match="head.safetensors is missing or is not the file"):
        load_head(tmp_path)
    rewrite(tmp_path / HEADS.card_name, lambda card: card | {"format": 9})
    with pytest.raises(StoreError, match="newer format"):
        load_head(tmp_path)
    (tmp_path / HEADS.card_name).unlink()
    relist(tmp_path)
    with pytest.raises(StoreError, match="no heads in"):
        load_head(tmp_path)


def test_a_head_of_an_older_version_is_refused(fitted: Head, tmp_path: Path) -> None:
    fitted.save(tmp_path, [SOURCE])
    rewrite(tmp_path / HEADS.card_name, lambda card: card | {"format": 1})
    with pytest.raises(StoreError, match="written by an older version; run the stage again"):
        load_head(tmp_path)


def test_several_sources_keep_their_order(fitted: Head, tmp_path: Path) -> None:
    other = SOURCE.model_copy(update={"backbone": "other", "fingerprint": "0" * 20})
    fitted.save(tmp_path, [SOURCE, other])
    assert load_head(tmp_path).sources_ == (SOURCE, other)


def test_a_head_of_another_kind_is_refused(fitted: Head, tmp_path: Path) -> None:
    fitted.save(tmp_path, [SOURCE])
    other = next(kind for kind in kinds() if kind != HEADS.read_card(tmp_path).kind)
    with pytest.raises(StoreError, match="the head in .* is of kind"):
        head_class(other).load(tmp_path)


def test_features_of_another_identity_are_refused() -> None:
    SOURCE.require("f" * 20, {}, "the view")
    with pytest.raises(IdentityError, match="weights: abc against xyz"):
        SOURCE.require("0" * 20, {"weights": "xyz"}, "the view")


def test_an_unknown_kind_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"head 'linaer'. Did you mean 'linear'\? Known: .*, linear, "):
        head_class("linaer")


def test_a_kind_is_given_once() -> None:
    with pytest.raises(ValueError, match=r"taken by deponij\.pipeline\.heads\.gradient\.linear"):
        register("linear")(type("Other", (Head,), {}))


@pytest.mark.parametrize("kind", [kind for kind in kinds() if "-" in kind])
def test_a_kind_may_be_spelled_with_underscores(kind: str) -> None:
    assert head_class(kind.replace("-", "_")) is head_class(kind)
