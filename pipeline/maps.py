"""Maps of embeddings: each item's place in a plane, by principal components and by t-SNE.

Arrays in, arrays out; drawing them is the reports' business.

Shape letters: n items, d feature width, m items that t-SNE lays out.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from deponij.pipeline.heads.head import Floats, check_features
from deponij.store.errors import DataError

# Below that neighbourhoods mean nothing.
MIN_TSNE = 5
# As van der Maaten and Hinton (JMLR 9, 2008) reduce their data before t-SNE.
TSNE_DIM = 50
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """Places of n items.

    Attributes:
        pca: float32 [n, 2].
        pca_explained: the two components' shares of the variance.
        tsne: float32 [n, 2]; NaN for items that were not laid out.
        n_tsne: how many were.
        perplexity: of t-SNE, clamped to them; None without t-SNE.
    """

    pca: NDArray[np.float32]
    pca_explained: tuple[float, float]
    tsne: NDArray[np.float32]
    n_tsne: int
    perplexity: float | None


def embedding_map(
    features: Floats,
    *,
    perplexity: float = 30.0,
    max_items: int = 5000,
    iterations: int = 750,
    seed: int = 0,
    advance: Advance = lambda _: None,
) -> EmbeddingMap:
    """Lay out features [n, d] by their direction (rows at length 1; vectors of one number as they are).

    The principal components are of all items. t-SNE starts from them, sees the first 50, and lays out at
    most `max_items`, drawn by the seed; with fewer than five there is none. One thread is used: the same
    input gives the same numbers on one machine.

    Args:
        advance: is told of t-SNE's iterations that were done.

    Raises:
        DataError: no items, values that are not finite, or every item has the same features.
    """
    checked = check_features(features, "the features").astype(np.float64)
    _check_varied(checked)
    with threadpool_limits(limits=1):
        components, shares = _components(_directions(checked))
        rows = _sample(len(checked), max_items, seed)
        tsne = np.full((len(checked), 2), np.nan, dtype=np.float32)
        chosen = None
        if len(rows) >= MIN_TSNE:
            # Three times the perplexity is how many neighbours count; there are len(rows) - 1.
            chosen = min(perplexity, (len(rows) - 1) / 3)
            with _told(advance):
                tsne[rows] = _tsne(components[rows], chosen, iterations, seed)
    return EmbeddingMap(
        pca=_two(components).astype(np.float32),
        pca_explained=shares,
        tsne=tsne,
        n_tsne=len(rows) if chosen is not None else 0,
        perplexity=chosen,
    )


def _check_varied(features: Floats) -> None:
    if len(features) == 0:
        raise DataError("there are no items to lay out; does the view hold any?")
    if (np.ptp(features, axis=0) == 0).all():
        raise DataError(
            f"all {len(features)} items have the same (constant) features, so that no map can be made of them; "
            "does the view hold what it should?"
        )


def _directions(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows at length 1. Zeros stay zero; where directions tell nothing, as of one number, rows stay."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions: NDArray[np.float64] = features / np.where(lengths > 0, lengths, 1.0)
    is_told = features.shape[1] > 1 and (np.ptp(directions, axis=0) > 1e-9).any()
    return directions if is_told else features


def _components(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The first TSNE_DIM principal components [n, at most 50], and the first two's shares of the variance."""
    from sklearn.decomposition import PCA

    # By this solver the sign of a component, which is anybody's choice, makes its largest loading positive.
    n_components = min(TSNE_DIM, *features.shape)
    model = PCA(n_components, svd_solver="covariance_eigh").fit(features)
    first, second = (*model.explained_variance_ratio_.tolist(), 0.0)[:2]
    return model.transform(features), (first, second)


def _two(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two columns, the second one zero where there is but one."""
    missing = max(0, 2 - components.shape[1])
    return np.pad(components[:, :2], ((0, 0), (0, missing)))


def _sample(n: int, max_items: int, seed: int) -> NDArray[np.int64]:
    if n <= max_items:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:max_items])


def _tsne(
    components: NDArray[np.float64], perplexity: float, iterations: int, seed: int
) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE

    # As scikit-learn's init="pca" does, which wants at least two columns.
    start = _two(components - components.mean(axis=0))
    start = start / max(float(start[:, 0].std()), np.finfo(np.float64).tiny) * 1e-4
    model = TSNE(
        perplexity=perplexity,
        init=start.astype(np.float32),
        max_iter=iterations,
        random_state=seed,
        n_jobs=1,
        verbose=2,
    )
    return np.asarray(model.fit_transform(components.astype(np.float32)), dtype=np.float32)


class _Listening(io.StringIO):
    """What scikit-learn prints every fifty iterations, the only sign of life that its t-SNE gives."""

    _ITERATION = re.compile(r"Iteration (\d+):")

    def __init__(self, advance: Advance) -> None:
        super().__init__()
        self._advance, self._n_done = advance, 0

    def write(self, text: str) -> int:
        if match := self._ITERATION.search(text):
            n_done = int(match[1])
            self._advance(n_done - self._n_done)
            self._n_done = n_done
        return len(text)


@contextmanager
def _told(advance: Advance) -> Iterator[None]:
    with redirect_stdout(_Listening(advance)):
        yield
