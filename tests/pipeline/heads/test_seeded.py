"""Heads of several seeds: which rate is taken, and what is trained at all."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from deponij.pipeline.heads.gradient import seeded
from deponij.pipeline.heads.gradient.grid import GridPoint, Recipe, fit_grid
from deponij.pipeline.heads.gradient.seeded import SeededPlan, fit_seeds, n_heads
from deponij.pipeline.heads.head import Head

RNG = np.random.default_rng(0)
LABELS = np.array(["a", "b", "c"])[np.arange(90) % 3]
FEATURES = (np.eye(3, 6)[np.arange(90) % 3] + 0.3 * RNG.normal(size=(90, 6))).astype(np.float32)
TRAIN, VAL = np.arange(60), np.arange(60, 90)
RECIPE = Recipe(epochs=3, batch=16, patience=None)
ONE = SeededPlan("f", "l", "linear", (0.01,))
MANY = SeededPlan("f", "l", "mlp", (1e-4, 1e-2, 1e-3))


def fit(
    plans: Sequence[SeededPlan], seeds: Sequence[int], advance: Callable[[int], None] | None = None
) -> dict[SeededPlan, seeded.Seeded]:
    return fit_seeds(
        plans,
        {"f": FEATURES},
        {"l": LABELS},
        TRAIN,
        VAL,
        recipe=RECIPE,
        seeds=seeds,
        weight_decay=0.01,
        advance=advance,
    )


def test_the_rate_with_the_lowest_loss_under_the_first_seed_is_taken_for_all() -> None:
    found = fit([MANY], (3, 4))[MANY]
    losses = dict(found.tried)
    assert set(losses) == set(MANY.lrs)
    assert losses[found.lr] == min(losses.values())
    # Trained apart, one point at a time, the same comes out.
    for lr, loss in found.tried:
        (alone,) = fit_grid(
            [GridPoint("f", "l", "mlp", lr, 0.01, 3)],
            {"f": FEATURES},
            {"l": LABELS},
            TRAIN,
            VAL,
            RECIPE,
            threads=1,
        )
        assert alone.val_loss_ == pytest.approx(loss, abs=1e-5)
    assert len(found.heads) == 2
    assert not np.allclose(*(head.decision_function(FEATURES) for head in found.heads))
    assert found.protocol.startswith("2 seeds, of which the first: ")
    assert found.protocol.endswith(
        "; learning rate of 0.0001, 0.01, 0.001 by the first seed's validation loss"
    )


def test_a_given_rate_is_no_choice() -> None:
    found = fit([ONE], (0, 1, 2))[ONE]
    assert (found.lr, found.tried, len(found.heads)) == (0.01, (), 3)
    assert found.protocol == f"3 seeds, of which the first: {found.heads[0].protocol}"


def test_a_choice_of_three_costs_two_heads_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[list[GridPoint]] = []

    def counted(points: Sequence[GridPoint], *args: object, **kwargs: object) -> list[Head]:
        rounds.append(list(points))
        return fit_grid(points, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(seeded, "fit_grid", counted)
    told: list[int] = []
    fit([ONE, MANY], (0, 1, 2), told.append)
    assert sum(told) == n_heads([ONE, MANY], 3) == 3 + 3 + 2
    first, second = rounds
    assert [(p.kind, p.lr, p.seed) for p in first] == [
        *(("linear", 0.01, seed) for seed in (0, 1, 2)),
        *(("mlp", lr, 0) for lr in MANY.lrs),
    ]
    assert [(p.kind, p.seed) for p in second] == [("mlp", 1), ("mlp", 2)]
    assert len({p.lr for p in second}) == 1


def test_a_diverged_head_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {1e-4: 0.7, 1e-2: float("nan"), 1e-3: 0.7}

    class Made:
        def __init__(self, lr: float) -> None:
            self.val_loss_ = losses[lr]

    def made(points: Sequence[GridPoint], *_: object, **__: Mapping[str, object]) -> list[Made]:
        return [Made(point.lr) for point in points]

    monkeypatch.setattr(seeded, "fit_grid", made)
    # Of equal losses the smaller rate.
    assert fit([MANY], (0, 1))[MANY].lr == 1e-4
