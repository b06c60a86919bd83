"""The zero-shot classifier against open_clip's own builder and by hand."""

import numpy as np
import pytest

from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.store.errors import DataError


def test_by_hand() -> None:
    # Class a: unit vectors (1, 0) and (0, 1), whatever their lengths were; mean direction (1, 1) / sqrt 2.
    head = ZeroShotClassifier().fit([[10.0, 0.0], [0.0, 0.1], [0.0, -3.0]], ["a", "a", "b"])
    np.testing.assert_allclose(head.coef_, [[2**-0.5, 2**-0.5], [0, -1]], atol=1e-7)
    np.testing.assert_allclose(head.decision_function([[5.0, 0.0], [0.0, -0.5]])[:, 1], [0, 100], atol=1e-5)
    np.testing.assert_allclose(head.decision_function([[5.0, 0.0]])[0, 0], 100 * 2**-0.5, rtol=1e-6)
    assert head.n_texts_.tolist() == [2, 1]


def test_equals_open_clip_build_zero_shot_classifier() -> None:
    torch = pytest.importorskip("torch")
    from open_clip.zero_shot_classifier import build_zero_shot_classifier

    names, templates = ["cup", "lid", "can"], ["{}", "a photo of a {}.", "one {} on the ground"]
    texts = [template.format(name) for name in names for template in templates]
    table = dict(zip(texts, np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32), strict=True))

    class Tokens(list):
        def to(self, device: object) -> "Tokens":
            return self

    class Model:
        def encode_text(self, tokens: Tokens, normalize: bool) -> "torch.Tensor":
            rows = torch.tensor(np.array([table[text] for text in tokens]))
            return torch.nn.functional.normalize(rows, dim=-1) if normalize else rows

    theirs = build_zero_shot_classifier(Model(), Tokens, names, templates, num_classes_per_batch=2).numpy()
    groups = [name for name in names for _ in templates]
    head = ZeroShotClassifier().fit(np.array([table[text] for text in texts]), groups)
    assert head.classes_.tolist() == ["can", "cup", "lid"]
    np.testing.assert_allclose(head.coef_, theirs.T[[2, 0, 1]], atol=1e-6)
    images = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    units = images / np.linalg.norm(images, axis=1, keepdims=True)
    np.testing.assert_allclose(
        head.decision_function(images), 100 * (units @ theirs)[:, [2, 0, 1]], atol=1e-4
    )


def test_length_of_a_feature_does_not_matter() -> None:
    head = ZeroShotClassifier().fit(np.eye(3), list("abc"))
    rows = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(head.decision_function(rows), head.decision_function(rows * 37), rtol=1e-12)


def test_a_scale_changes_no_ranking() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    small, large = (ZeroShotClassifier(scale).fit(np.eye(3), list("abc")) for scale in (1.0, 100.0))
    assert small.predict(rows).tolist() == large.predict(rows).tolist()
    assert small.predict_proba(rows).max() < large.predict_proba(rows).max()


def test_vectors_without_direction_are_refused() -> None:
    with pytest.raises(DataError, match="1 of 2 rows have length 0"):
        ZeroShotClassifier().fit([[0.0, 0.0], [1.0, 0.0]], ["a", "b"])
    with pytest.raises(DataError, match="mean text vectors"):
        ZeroShotClassifier().fit([[1.0, 0.0], [-1.0, 0.0]], ["a", "a"])
    with pytest.raises(DataError, match=r"features: 1 of 1 rows have length 0"):
        ZeroShotClassifier().fit([[1.0, 0.0]], ["a"]).decision_function([[0.0, 0.0]])
