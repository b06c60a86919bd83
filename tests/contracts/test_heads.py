"""What every head of the registry keeps: shapes, determinism, saving, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from resealing import relist, rewrite
from safetensors.numpy import load_file
from sklearn.base import clone

from deponij.pipeline.heads.head import HEADS, FeatureSource, Head
from deponij.pipeline.heads.registry import head_class, kinds, load_head, register
from deponij.store.bundle import MANIFEST
from deponij.store.errors import DataError, IdentityError, StoreError, UsageError

SOURCE = FeatureSource(backbone="tiny", fingerprint="f" * 20, labels="label", identity={"weights": "abc"})
CLASSES = ["bottle", "can", "cup"]


# What the usual settings, made for thousands of examples, need for forty.
SETTINGS: dict[str, dict[str, object]] = {
    "linear": {"lr": 0.03},
    "dino-linear": {"iterations": 200},
}


@pytest.fixture(params=kinds())
def head(request: pytest.FixtureRequest) -> Head:
    return head_class(request.param)(**SETTINGS.get(request.param, {}))


def examples(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three classes in eight dimensions, learnable from images and usable as texts."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    rows = 2 * np.eye(3, 8)[codes] + 0.3 * rng.normal(size=(n, 8))
    return rows.astype(np.float32), np.array(CLASSES)[codes]


@pytest.fixture
def fitted(head: Head) -> Head:
    X, y = examples(60, seed=0)
    return head.fit(X[:40], y[:40], X[40:], y[40:])


def test_learns_what_is_easy(fitted: Head) -> None:
    X, y = examples(90, seed=1)
    assert (fitted.predict(X) == y).mean() > 0.95
    assert fitted.classes_.tolist() == CLASSES
    assert fitted.n_features_in_ == 8


def test_shapes_and_probabilities(fitted: Head) -> None:
    X, _ = examples(7, seed=2)
    logits, probs = fitted.decision_function(X), fitted.predict_proba(X)
    assert logits.shape == probs.shape == (7, 3)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert (probs >= 0).all()
    assert (logits.argmax(axis=1) == probs.argmax(axis=1)).all()
    assert fitted.decision_function(X[:0]).shape == (0, 3)


def test_rows_are_answered_one_by_one(fitted: Head) -> None:
    X, _ = examples(9, seed=3)
    single = np.concatenate([fitted.decision_function(X[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(single, fitted.decision_function(X), rtol=1e-9, atol=1e-9)


def test_deterministic(head: Head, fitted: Head, tmp_path: Path) -> None:
    X, y = examples(60, seed=0)
    fitted.save(tmp_path / "a", [SOURCE])
    clone(head).fit(X[:40], y[:40], X[40:], y[40:]).save(tmp_path / "b", [SOURCE])
    for name in (HEADS.card_name, HEADS.tensors_name):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_saved_and_loaded(fitted: Head, tmp_path: Path) -> None:
    X, _ = examples(20, seed=4)
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
    X, _ = examples(20, seed=5)
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
        copy.predict(examples(3, seed=0)[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(head: Head, fitted: Head, bad: float) -> None:
    X, y = examples(12, seed=6)
    X[7, 2] = bad
    with pytest.raises(DataError, match=r"1 of 12 rows hold NaN or infinite values \(first rows: \[7\]\)"):
        type(head)().fit(X, y)
    with pytest.raises(DataError, match="NaN or infinite"):
        fitted.decision_function(X)


@pytest.mark.parametrize("kind", [kind for kind in kinds() if head_class(kind).learns_from == "images"])
def test_features_that_say_nothing_are_refused(kind: str) -> None:
    head = head_class(kind)()
    X, y = examples(12, seed=0)
    with pytest.raises(DataError, match="constant"):
        head.fit(np.ones_like(X), y)


def test_no_examples_are_refused(head: Head) -> None:
    with pytest.raises(DataError, match="no examples"):
        head.fit(np.empty((0, 8)), [])


def test_labels_must_match(head: Head) -> None:
    with pytest.raises(DataError, match=r"6 rows of features for labels of shape \(5,\)"):
        head.fit(*[part[:size] for part, size in zip(examples(6, seed=0), (6, 5), strict=True)])


@pytest.mark.parametrize("shape", [(4,), (4, 2, 8), (4, 0)])
def test_other_shapes_are_refused(head: Head, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"must be an array \[n, d\]"):
        head.fit(np.zeros(shape), list("aabb"))


def test_another_width_is_refused(fitted: Head) -> None:
    with pytest.raises(DataError, match="width 8, got width 5"):
        fitted.decision_function(np.zeros((2, 5)))


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
