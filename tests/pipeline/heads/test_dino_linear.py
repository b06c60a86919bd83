"""dinov2's linear evaluation: which features each head sees, how many there are, how one is chosen."""

from pathlib import Path

import numpy as np
import pytest

from deponij.pipeline.heads.choosing import worth
from deponij.pipeline.heads.gradient.dino_linear import DINOV2_LRS, DinoLinear
from deponij.pipeline.heads.registry import load_head
from deponij.store.errors import DataError, UsageError

D = 3


def tokens(n: int, where: tuple[int, int] | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[n, 4 * 2 * D] of noise, and classes; only the token of block and kind `where` tells them."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, size=n)
    array = rng.normal(size=(n, 4, 2, D))
    if where is not None:
        array[:, where[0], where[1]] += 4 * np.eye(3, D)[codes]
    return array.reshape(n, -1).astype(np.float32), np.array(list("abc"))[codes]


def fit(where: tuple[int, int] | None, **params: object) -> DinoLinear:
    head = DinoLinear(4, True, iterations=150, **params)  # type: ignore[arg-type]
    return head.fit(*tokens(300, where, 0), *tokens(200, where, 1))


def test_fifty_two_heads_of_tokens_thirteen_of_an_embedding() -> None:
    # 13 rates x last {1, 4} blocks x with and without mean patch tokens, as dinov2's paper counts them.
    head = fit((3, 0))
    assert len(DINOV2_LRS) == 13
    assert len(head.trials_) == 52
    assert {(t.blocks, t.patches) for t in head.trials_} == {(1, False), (1, True), (4, False), (4, True)}
    X, y = tokens(300, (3, 0), 0)
    assert len(DinoLinear(iterations=20).fit(X, y, X, y).trials_) == 13


@pytest.mark.parametrize(
    ("where", "seen"),
    [
        ((3, 0), {(1, False), (1, True), (4, False), (4, True)}),  # the last class token: all see it
        ((3, 1), {(1, True), (4, True)}),  # its mean patch token
        ((0, 0), {(4, False), (4, True)}),  # the class token of an older block
        ((0, 1), set()),  # the mean patch token of an older block: none
    ],
)
def test_which_tokens_are_seen(where: tuple[int, int], seen: set[tuple[int, bool]]) -> None:
    best: dict[tuple[int, bool], float] = {}
    for trial in fit(where).trials_:
        key = trial.blocks, trial.patches
        best[key] = max(best.get(key, 0), trial.top1)
    # 200 examples of three classes: chance is 0.33 +- 0.03, and the best of 13 tries is a little more.
    assert {key for key, top1 in best.items() if top1 > 0.8} == seen
    assert all(top1 < 0.55 for key, top1 in best.items() if key not in seen)


def test_the_best_on_validation_is_kept(tmp_path: Path) -> None:
    head = fit((0, 0))
    X_val, y_val = tokens(200, (0, 0), 1)
    top1, log_loss = worth(head.decision_function(X_val), head.classes_, y_val)
    assert (top1, log_loss) == pytest.approx((head.best_.top1, head.best_.log_loss))
    assert head.best_.top1 == max(trial.top1 for trial in head.trials_)
    ties = [trial for trial in head.trials_ if trial.top1 == head.best_.top1]
    assert head.best_.log_loss == min(trial.log_loss for trial in ties)
    assert head.coef_.shape == (3, 4 * 2 * D)
    # Mean patch tokens of older blocks are never seen.
    assert (head.coef_.reshape(3, 4, 2, D)[:, :3, 1] == 0).all()
    assert "of the last 4 blocks" in head.protocol
    head.save(tmp_path, [])
    again = load_head(tmp_path)
    assert isinstance(again, DinoLinear)
    assert (again.best_, again.trials_) == (head.best_, head.trials_)


def test_rates_are_scaled_to_the_batch() -> None:
    # A rate is stated for batches of 256: half of it for batches of 512 is the same step. Both batches
    # hold all 256 examples, once or twice, so that their mean gradients are equal.
    X = np.repeat(np.eye(2, 4), 128, axis=0).astype(np.float32)
    y = np.repeat(["a", "b"], 128)
    one, two = (
        DinoLinear(lrs=(lr,), iterations=5, batch=batch).fit(X, y, X, y)
        for lr, batch in ((0.1, 256), (0.05, 512))
    )
    np.testing.assert_allclose(one.coef_, two.coef_, atol=1e-6)


def test_without_validation_a_tenth_is_held_out() -> None:
    X, y = tokens(300, (3, 0), 0)
    # Of 300 the tenth of each class, rounded.
    assert sum(round(n / 10) for n in np.unique(y, return_counts=True)[1]) == 31
    head = DinoLinear(4, True, iterations=50).fit(X, y)
    assert head.chosen_on_.startswith("a held-out tenth of training (n = 31)")
    with pytest.raises(DataError, match="no class has a second example"):
        DinoLinear(iterations=5).fit(np.eye(3), list("abc"))


def test_refusals() -> None:
    X, y = tokens(30, None, 0)
    with pytest.raises(DataError, match="width 23 cannot be 4 blocks of 2 tokens"):
        DinoLinear(4, True).fit(X[:, 1:], y)
    with pytest.raises(DataError, match="every learning rate diverged"):
        DinoLinear(lrs=(1e200,), iterations=20).fit(X.astype(np.float64) * 1e200, y, X * 1e30, y)
    for params in ({"lrs": ()}, {"lrs": (0.0,)}, {"n_blocks": 0}, {"iterations": 0}, {"batch": 0}):
        with pytest.raises(UsageError, match="must be"):
            DinoLinear(**params).fit(X, y)  # type: ignore[arg-type]
