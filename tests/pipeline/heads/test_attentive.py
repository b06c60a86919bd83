"""The attentive probe's arithmetic against loops, and what of it learns."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.heads.attentive.head import AttentiveProbe
from deponij.pipeline.heads.attentive.training import Sizes, Weights
from deponij.pipeline.heads.choosing import worth
from deponij.pipeline.heads.registry import load_head
from deponij.store.errors import DataError, UsageError

N, DIM, GRID, QUERIES, CLASSES = 60, 8, (3, 4), 4, ("can", "cup", "lid")


def made(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Maps float16 [n, DIM, 3, 4] whose class shows in one cell alone, the brightest in the last channel."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    maps = 0.5 * rng.normal(size=(n, DIM, *GRID)) + 3.0
    rows, columns = rng.integers(GRID[0], size=n), rng.integers(GRID[1], size=n)
    maps[np.arange(n), codes, rows, columns] += 3
    maps[np.arange(n), DIM - 1, rows, columns] += 4
    return maps.astype(np.float16), np.array(CLASSES)[codes]


@pytest.fixture(params=[None, 12], ids=["plain", "projected"])
def fitted(request: pytest.FixtureRequest) -> AttentiveProbe:
    X, y = made()
    head = AttentiveProbe(n_queries=QUERIES, value_dim=request.param, lrs=(0.01, 0.03), epochs=8, batch=10)
    return head.fit(X[:40], y[:40], X[40:], y[40:])


def by_loops(head: AttentiveProbe, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits [C] and attention [M, h, w] of one picture [d, h, w], one number after the other."""
    cells = list(itertools.product(range(picture.shape[1]), range(picture.shape[2])))
    tokens = [[float(picture[c, y, x]) for c in range(picture.shape[0])] for y, x in cells]
    values = tokens
    if head.value_ is not None:
        values = [
            [sum(float(w) * t for w, t in zip(row, token, strict=True)) for row in head.value_]
            for token in tokens
        ]
    width = len(values[0]) // len(head.queries_)
    pooled: list[float] = []
    attention = np.zeros((len(head.queries_), *picture.shape[1:]))
    for m, query in enumerate(head.queries_):
        scores = [sum(float(q) * t for q, t in zip(query, token, strict=True)) for token in tokens]
        powers = [np.exp(score) for score in scores]
        for (y, x), power in zip(cells, powers, strict=True):
            attention[m, y, x] = power / sum(powers)
        for c in range(m * width, (m + 1) * width):
            pooled.append(sum(p * value[c] for p, value in zip(powers, values, strict=True)) / sum(powers))
    logits = [
        sum(float(w) * p for w, p in zip(row, pooled, strict=True)) + float(b)
        for row, b in zip(head.coef_, head.intercept_, strict=True)
    ]
    return np.array(logits), attention


def test_logits_and_attention_are_those_of_plain_loops(fitted: AttentiveProbe) -> None:
    X, _ = made(5, seed=1)
    attention = fitted.attention(X)
    assert attention.shape == (5, QUERIES, *GRID)
    for row, picture in enumerate(X):
        logits, seen = by_loops(fitted, picture)
        np.testing.assert_allclose(fitted.decision_function(X)[row], logits, rtol=1e-9)
        np.testing.assert_allclose(attention[row], seen, rtol=1e-9)
    np.testing.assert_allclose(attention.sum(axis=(2, 3)), 1)


def test_what_is_saved_answers_as_what_was_trained(fitted: AttentiveProbe) -> None:
    """Standardisation is folded in: tokens around 3 as they are give the loss that training saw on standardised ones."""
    X, y = made()
    told = next(one for one in fitted.trials_ if one.lr == fitted.lr_)
    top1, log_loss = worth(fitted.decision_function(X[40:]), fitted.classes_, y[40:])
    assert told.top1 == top1 and told.log_loss == pytest.approx(log_loss, rel=1e-4)


def test_queries_of_zero_are_mean_pooling() -> None:
    X, _ = made(7, seed=2)
    first = Weights.first(Sizes(DIM, QUERIES, None, 3), seed=0)
    first.queries.zero_()
    tokens = torch.from_numpy(X.astype(np.float32)).flatten(2)
    expected = tokens.mean(2) @ first.weight.T + first.bias
    np.testing.assert_allclose(first.logits(tokens).numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_cells_that_are_not_seen_have_no_say() -> None:
    X, _ = made(4, seed=3)
    tokens = torch.from_numpy(X.astype(np.float32)).flatten(2)
    weights = Weights.first(Sizes(DIM, QUERIES, 12, 3), seed=0)
    seen = torch.zeros(4, GRID[0] * GRID[1], dtype=torch.bool)
    seen[:, 2:7] = True
    np.testing.assert_allclose(
        weights.logits(tokens, seen).numpy(), weights.logits(tokens[:, :, 2:7]).numpy(), rtol=1e-5
    )


@pytest.mark.parametrize("value_dim", [None, 12])
def test_the_gradient_reaches_every_weight(value_dim: int | None) -> None:
    X, y = made(12, seed=4)
    weights = Weights.first(Sizes(DIM, QUERIES, value_dim, 3), seed=0)
    for one in weights.tensors():
        one.requires_grad_()
    codes = torch.from_numpy(np.searchsorted(CLASSES, y))
    logits = weights.logits(torch.from_numpy(X.astype(np.float32)).flatten(2))
    torch.nn.functional.cross_entropy(logits, codes).backward()
    assert all((one.grad != 0).all() for one in weights.tensors())


def test_the_count_of_weights(fitted: AttentiveProbe) -> None:
    """M d, v d and (v + 1) C, as the class says."""
    v = fitted.value_dim or DIM
    assert fitted.n_weights_ == QUERIES * DIM + (v * DIM if fitted.value_dim else 0) + (v + 1) * 3
    assert fitted.n_weights_ == sum(one.size for one in fitted._tensors().values())
    assert f"{fitted.n_weights_:,} weights" in fitted.protocol


def test_it_finds_the_cell_that_tells() -> None:
    """The class is in one cell of twelve, where the last channel is bright."""
    X, y = made(240, seed=5)
    head = AttentiveProbe(n_queries=2, lrs=(0.03,), epochs=30).fit(X[:180], y[:180], X[180:], y[180:])
    new, truth = made(90, seed=6)
    assert head.score(new, truth) > 0.9
    bright = new[:, DIM - 1].reshape(90, -1).argmax(1)
    looked = head.attention(new).mean(axis=1).reshape(90, -1).argmax(1)
    assert (looked == bright).mean() > 0.8


def test_the_order_of_tokens_and_the_grid_do_not_matter(fitted: AttentiveProbe) -> None:
    X, _ = made(6, seed=7)
    mixed = X.reshape(6, DIM, -1)[:, :, np.random.default_rng(0).permutation(12)].reshape(6, DIM, 2, 6)
    np.testing.assert_allclose(fitted.decision_function(mixed), fitted.decision_function(X), rtol=1e-9)


class Lazy:
    """Maps that are read when they are asked for; notes how many at once."""

    def __init__(self, maps: np.ndarray, read: list[int], flipped: "Lazy | None" = None) -> None:
        self._maps, self._read, self.shape, self.flipped = maps, read, maps.shape, flipped

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, rows: object) -> "Lazy":
        flipped = None if self.flipped is None else self.flipped[rows]
        return Lazy(self._maps[rows], self._read, flipped)

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        self._read.append(len(self._maps))
        return self._maps


@pytest.mark.parametrize("kept_bytes", [0, 1 << 20])
def test_maps_that_are_read_bit_by_bit_give_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, kept_bytes: int, tmp_path: Path
) -> None:
    X, y = made()
    head = AttentiveProbe(n_queries=2, lrs=(0.01, 0.03), epochs=3, batch=7, crop=0.5, noise=0.1)
    head.fit(X[:40], y[:40], X[40:], y[40:]).save(tmp_path / "here", [])
    read: list[int] = []
    lazy = Lazy(X, read)
    monkeypatch.setattr("deponij.pipeline.heads.maps.READ_BYTES", 10 * 2 * DIM * 12)
    monkeypatch.setattr("deponij.pipeline.heads.attentive.head._KEPT_BYTES", kept_bytes)
    other = AttentiveProbe(**head.get_params()).fit(
        lazy[np.arange(40)], y[:40], lazy[np.arange(40, 60)], y[40:]
    )
    other.save(tmp_path / "read", [])
    assert (tmp_path / "here/head.safetensors").read_bytes() == (
        tmp_path / "read/head.safetensors"
    ).read_bytes()
    assert max(read) <= (14 if kept_bytes == 0 else 40)
    assert len(read) > 10 if kept_bytes == 0 else len(read) == 2
    np.testing.assert_array_equal(other.decision_function(lazy), head.decision_function(X))


def test_stored_flips_are_learned_from() -> None:
    """Pictures that show their class mirrored alone are told only by who has learned from flips."""
    X, y = made(90, seed=8)
    mirrored = X.copy()
    mirrored[:, :3] = X[:, 3:6]
    mirrored[:, 3:6] = X[:, :3]
    flipped = Lazy(mirrored, [])
    scores = {}
    for flip in (False, True):
        head = AttentiveProbe(n_queries=2, lrs=(0.03,), epochs=30, flip=flip)
        head.fit(Lazy(X, [], flipped)[np.arange(90)], y)
        scores[flip] = head.score(mirrored, y)
    assert scores[True] > scores[False] + 0.2


def test_flips_that_are_not_stored_are_refused() -> None:
    X, y = made()
    with pytest.raises(DataError, match=r"\+flip"):
        AttentiveProbe(n_queries=2, flip=True).fit(X, y)


def test_without_validation_several_rates_are_chosen_from_by_a_tenth_of_training() -> None:
    X, y = made()
    head = AttentiveProbe(n_queries=2, lrs=(1e-3, 0.03), epochs=4).fit(X, y)
    assert head.chosen_on_ == "a held-out tenth of training (n = 6)" and len(head.trials_) == 2
    alone = AttentiveProbe(n_queries=2, lrs=(0.03,), epochs=4).fit(X, y)
    assert alone.chosen_on_ == "nothing" and alone.best_epoch_ == 4 and not alone.trials_


def test_settled_for_the_last_fit_of_cross_validation(fitted: AttentiveProbe) -> None:
    last = fitted.settled([fitted, fitted, fitted])
    assert last.lrs == (fitted.lr_,) and last.epochs == fitted.best_epoch_


def test_saved_and_loaded_with_and_without_a_value_map(fitted: AttentiveProbe, tmp_path: Path) -> None:
    X, _ = made(9, seed=9)
    source = FeatureSource(backbone="tiny", fingerprint="f" * 20, labels="label")
    fitted.save(tmp_path, [source])
    again = load_head(tmp_path)
    assert isinstance(again, AttentiveProbe)
    np.testing.assert_array_equal(again.attention(X), fitted.attention(X))


def test_queries_must_divide_the_width() -> None:
    X, y = made()
    with pytest.raises(DataError, match=r"n_queries = 3 does not divide the width 8 .* it may be 1, 2, 4, 8"):
        AttentiveProbe(n_queries=3).fit(X, y)
    with pytest.raises(DataError, match="does not divide the width 6"):
        AttentiveProbe(n_queries=4, value_dim=6).fit(X, y)
    with pytest.raises(UsageError, match=r"crop must be .* got 0\.0"):
        AttentiveProbe(crop=0.0).fit(X, y)
