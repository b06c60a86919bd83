"""What is computed some rows at a time is what NumPy computes of all at once, to the last bit."""

import numpy as np
import pytest

from deponij.pipeline import unit_vectors
from deponij.pipeline.heads.softmax_regression import moments, standardise
from deponij.pipeline.unit_vectors import directions, nearest
from deponij.store.errors import DataError


@pytest.fixture(params=[1, 500, 7000], ids="{} numbers at once".format)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_vectors, "BLOCK_CELLS", request.param)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("width", [2, 3, 8, 17, 64])
@pytest.mark.usefixtures("block")
def test_mean_and_deviation_of_columns(width: int, dtype: type) -> None:
    features = np.random.default_rng(width).normal(3, 2, (1001, width)).astype(dtype)
    features[:, 1] = 7
    wide = features.astype(np.float64)
    mean, scale = moments(features)
    np.testing.assert_array_equal(mean, wide.mean(axis=0).astype(np.float32))
    deviation = wide.std(axis=0)
    deviation[1] = 1
    np.testing.assert_array_equal(scale, deviation.astype(np.float32))
    standard = (wide - mean) / scale
    np.testing.assert_array_equal(standardise(features, mean, scale), standard)
    np.testing.assert_array_equal(standardise(features, mean, scale, np.float32), standard.astype(np.float32))


@pytest.mark.usefixtures("block")
def test_directions() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 9)).astype(np.float32)
    wide = vectors.astype(np.float64)
    units = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    np.testing.assert_array_equal(directions(vectors, "rows"), units)
    np.testing.assert_array_equal(directions(vectors, "rows", np.float32), units.astype(np.float32))
    vectors[[4, 270]] = 0
    with pytest.raises(DataError, match=r"rows: 2 of 300 rows have length 0 \(first rows: \[4, 270\]\)"):
        directions(vectors, "rows")


@pytest.mark.parametrize("k", [1, 7, 200])
@pytest.mark.usefixtures("block")
def test_neighbours(k: int) -> None:
    """Half of the stored rows occur twice; of equal cosines the lower row comes first."""
    rng = np.random.default_rng(1)
    stored = directions(rng.normal(size=(150, 5)), "stored", np.float32)[np.r_[:150, 50:150]]
    queries = directions(rng.normal(size=(40, 5)), "queries")
    cosines = np.round(queries @ stored.astype(np.float64).T, 13)
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    found = nearest(queries, stored, k)
    np.testing.assert_array_equal(found[1], rows)
    np.testing.assert_allclose(found[0], np.take_along_axis(cosines, rows, axis=1), rtol=0, atol=1e-12)
