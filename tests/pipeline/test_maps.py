"""Maps of embeddings: principal components against an SVD, t-SNE by what it must keep, edges."""

import numpy as np
import pytest

from deponij.pipeline.maps import embedding_map
from deponij.store.errors import DataError


def clusters(n: int = 90, dim: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    return (np.eye(3, dim)[codes] + 0.1 * rng.normal(size=(n, dim))).astype(np.float32), codes


def test_principal_components_are_those_of_an_svd_up_to_sign() -> None:
    features, _ = clusters()
    found = embedding_map(features, iterations=250)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    left, values, right = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.pca), np.abs(left[:, :2] * values[:2]), atol=1e-5)
    np.testing.assert_allclose(found.pca_explained, (values**2 / (values**2).sum())[:2], atol=1e-5)
    # The sign: the largest loading is positive.
    for axis in range(2):
        loadings = right[axis] * np.sign((left[:, axis] * found.pca[:, axis]).sum())
        assert loadings[np.abs(loadings).argmax()] > 0


def test_tsne_keeps_neighbours() -> None:
    features, codes = clusters()
    found = embedding_map(features)
    assert found.n_tsne == 90
    # (90 - 1) / 3: three times the perplexity cannot be more than the other items.
    assert found.perplexity == pytest.approx(29.67, abs=0.01)
    distance = np.linalg.norm(found.tsne[:, None] - found.tsne[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (codes[distance.argmin(axis=1)] == codes).all()


def test_same_input_same_numbers_and_length_does_not_matter() -> None:
    features, _ = clusters()
    first, second = embedding_map(features, iterations=250), embedding_map(features, iterations=250)
    assert first.pca.tobytes() == second.pca.tobytes()
    assert first.tsne.tobytes() == second.tsne.tobytes()
    longer = embedding_map(features * np.linspace(1, 9, 90)[:, None], iterations=250)
    np.testing.assert_allclose(longer.pca, first.pca, atol=1e-5)


def test_of_many_items_some_are_laid_out() -> None:
    features, _ = clusters()
    found, again = (embedding_map(features, max_items=20, iterations=250, seed=s) for s in (0, 1))
    laid_out = ~np.isnan(found.tsne).any(axis=1)
    assert laid_out.sum() == found.n_tsne == 20
    assert not np.isnan(found.pca).any()
    assert (laid_out != ~np.isnan(again.tsne).any(axis=1)).any()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_handful_has_no_tsne(n: int) -> None:
    found = embedding_map(clusters(n)[0])
    assert (found.n_tsne, found.perplexity) == (0, None)
    assert np.isnan(found.tsne).all()
    assert np.isfinite(found.pca).all()


@pytest.mark.parametrize("n", [5, 6, 7])
def test_few_items(n: int) -> None:
    found = embedding_map(clusters(n)[0], iterations=250)
    assert np.isfinite(found.tsne).all()
    assert found.perplexity < n


def test_one_number_wide() -> None:
    values = np.array([[-3.0], [1], [2], [2.5], [9], [10]])
    found = embedding_map(values, iterations=250)
    # One component, which is the value itself but for its mean (21.5 / 6); the sign makes its loading positive.
    np.testing.assert_allclose(found.pca[:, 0], values[:, 0] - 21.5 / 6, rtol=1e-6)
    assert (found.pca[:, 1] == 0).all()
    assert found.pca_explained == (1.0, 0.0)
    assert np.isfinite(found.tsne).all()


def test_parallel_rows_differ_by_length_only() -> None:
    """Their directions are one point; so they are laid out as they are."""
    found = embedding_map(np.outer(np.arange(1, 9), [3.0, 4.0]), iterations=250)
    # Lengths 5, 10, …, 40 along one line.
    np.testing.assert_allclose(np.diff(found.pca[:, 0]), 5, rtol=1e-5)


def test_equal_rows_among_others_and_a_zero_row() -> None:
    features, _ = clusters(30)
    features[3:9] = features[3]
    features[10] = 0
    found = embedding_map(features, iterations=250)
    assert np.isfinite(found.pca).all()
    assert np.isfinite(found.tsne).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((7, 3)), r"all 7 items have the same \(constant\) features"),
        (np.ones((1, 3)), r"all 1 items have the same"),
        (np.zeros((0, 3)), "there are no items to lay out"),
        (np.full((4, 2), np.nan), "4 of 4 rows hold NaN"),
    ],
)
def test_what_cannot_be_laid_out(features: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        embedding_map(features)


def test_iterations_are_told_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    steps: list[int] = []
    found = embedding_map(clusters()[0], iterations=300, advance=steps.append)
    # scikit-learn speaks every fifty iterations.
    assert steps == [50] * 6
    assert capsys.readouterr().out == ""
    assert found.tsne.tobytes() == embedding_map(clusters()[0], iterations=300).tsne.tobytes()
