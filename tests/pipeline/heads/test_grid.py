"""The batched computation against one head after another in plain PyTorch, and what it refuses."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_heads import Plain, fit_plain, make

from deponij.pipeline.heads.gradient import grid as grid_module
from deponij.pipeline.heads.gradient.grid import GridPoint, Recipe, fit_grid, train_grid
from deponij.pipeline.heads.gradient.training import Trained
from deponij.store.errors import DataError, UsageError

N_TRAIN, N_VAL = 90, 40
TRAIN, VAL = np.arange(N_TRAIN), np.arange(N_TRAIN, N_TRAIN + N_VAL)


def clusters(dim: int, names: str, seed: int, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes of unequal size, each at least once in training; names sort as their letters."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, len(names) + 1)
    codes = rng.choice(len(names), size=N_TRAIN + N_VAL, p=shares / shares.sum())
    codes[: len(names)] = np.arange(len(names))
    rows = rng.normal(size=(len(names), dim))[codes] + rng.normal(size=(len(codes), dim))
    return rows.astype(dtype), np.array(list(names))[codes]


X, FEW = clusters(5, "abc", seed=0)
WIDE = np.concatenate([X, np.random.default_rng(1).normal(size=(len(X), 13))], axis=1)
MANY = np.array([f"{a}{i % 4}" for i, a in enumerate(FEW)])
FEATURES = {"narrow": X, "wide": WIDE}
LABELS = {"few": FEW, "many": MANY}


def plain(point: GridPoint, recipe: Recipe, dtype: type = np.float64, val: np.ndarray = VAL) -> Plain:
    names = LABELS[point.labels]
    classes, codes = np.unique(names[TRAIN], return_inverse=True)
    codes_val = np.array(
        [np.flatnonzero(classes == name)[0] if name in classes else -1 for name in names[val]]
    )
    rows = FEATURES[point.features].astype(dtype)
    return fit_plain(point, rows[TRAIN], codes, rows[val], codes_val.astype(np.int64), recipe)


def batched(
    points: list[GridPoint], recipe: Recipe, dtype: type = np.float64, threads: int = 1
) -> list[Trained]:
    features = {name: rows.astype(dtype) for name, rows in FEATURES.items()}
    return train_grid(points, features, LABELS, TRAIN, VAL, recipe, threads=threads)


# A grid with everything different, in no order: two kinds, widths and label sets, seeds with one, two
# and four heads, all balances.
GRID = [
    GridPoint("wide", "few", "mlp", 1e-2, 0.1, 3),
    GridPoint("narrow", "few", "linear", 3e-2, 0.0, 0),
    GridPoint("narrow", "few", "linear", 1e-1, 0.5, 1),
    GridPoint("narrow", "few", "linear", 1e-3, 0.0, 0),
    GridPoint("wide", "many", "linear", 3e-1, 0.01, 2),
    GridPoint("wide", "few", "mlp", 1e-3, 0.0, 0),
    GridPoint("narrow", "few", "linear", 3e-1, 0.0, 0),
    GridPoint("narrow", "few", "linear", 3e-1, 0.0, 1),
    GridPoint("narrow", "few", "linear", 1.0, 0.3, 0),
    GridPoint("narrow", "few", "linear", 1.0, 0.3, 2),
    GridPoint("wide", "few", "mlp", 3e-2, 0.0, 3),
    GridPoint("wide", "many", "linear", 3e-1, 0.0, 0, "class-weights"),
    GridPoint("wide", "many", "linear", 1e-1, 0.0, 1, "class-weights"),
    GridPoint("wide", "many", "linear", 1e-1, 0.0, 1, "balanced-softmax"),
    GridPoint("wide", "few", "mlp", 3e-3, 0.0, 1, "class-weights"),
    GridPoint("wide", "few", "mlp", 3e-3, 0.0, 1, "balanced-softmax", 0.5),
    GridPoint("wide", "few", "mlp", 3e-3, 0.0, 2, "balanced-softmax", 0.5),
]


@pytest.fixture(scope="module")
def usual() -> tuple[Recipe, list[Plain], list[Trained]]:
    # The usual 20 epochs, at most 5 without a lower loss.
    recipe = Recipe(batch=16)
    return recipe, [plain(point, recipe) for point in GRID], batched(GRID, recipe)


def test_weights_equal_the_plain_loop_in_float64(usual: tuple[Recipe, list[Plain], list[Trained]]) -> None:
    _, expected, found = usual
    for point, one, two in zip(GRID, expected, found, strict=True):
        assert (two.best_epoch, two.n_epochs) == (one.best_epoch, one.n_epochs), point
        assert two.val_loss == pytest.approx(one.val_loss, abs=1e-9), point
        for ours, theirs in zip(two.weights, one.weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9, err_msg=str(point))


def test_the_grid_has_heads_that_stop_early_and_such_that_do_not(
    usual: tuple[Recipe, list[Plain], list[Trained]],
) -> None:
    # Otherwise the test above would say nothing about heads that leave the computation.
    recipe, expected, _ = usual
    for kind in ("linear", "mlp"):
        n_epochs = {one.n_epochs for point, one in zip(GRID, expected, strict=True) if point.kind == kind}
        assert len(n_epochs) > 2
    assert recipe.epochs in {one.n_epochs for one in expected}


def test_weights_equal_the_plain_loop_in_float32_over_few_epochs() -> None:
    recipe = Recipe(epochs=3, batch=16, patience=None)
    for point, found in zip(GRID, batched(GRID, recipe, np.float32), strict=True):
        assert found.weights[0].dtype == np.float32
        for ours, theirs in zip(found.weights, plain(point, recipe, np.float32).weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-5, err_msg=str(point))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_stochastic_gradient_descent_equals_torch_s(decay: float) -> None:
    recipe = Recipe(
        optimiser="sgd",
        epochs=3,
        batch=32,
        patience=None,
        final_lr=0,
        steps_per_epoch=11,
        per_step=True,
        keep="last",
    )
    points = [GridPoint("wide", "few", "linear", lr, decay, seed) for lr in (0.01, 0.3) for seed in (0, 5)]
    for point, found in zip(points, batched(points, recipe), strict=True):
        expected = plain(point, recipe)
        np.testing.assert_allclose(found.weights[0], expected.weights()[0], rtol=0, atol=1e-9)
        assert found.val_loss == pytest.approx(expected.val_losses[-1], abs=1e-9)


def test_without_validation_the_last_weights_are_kept() -> None:
    recipe = Recipe(epochs=4, batch=16)
    (found,) = train_grid(GRID[1:2], FEATURES, LABELS, TRAIN, VAL[:0], recipe)
    np.testing.assert_allclose(found.weights[0], plain(GRID[1], recipe, val=VAL[:0]).weights()[0], atol=1e-9)
    assert (found.best_epoch, found.n_epochs) == (4, 4)
    assert np.isnan(found.val_loss)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_first_weights_are_torch_s(kind: str) -> None:
    # One step of next to nothing leaves them as they were.
    recipe = Recipe(epochs=1, batch=N_TRAIN, final_lr=0)
    (found,) = batched([GridPoint("narrow", "few", kind, 1e-30, 0.0, 7)], recipe, np.float32)
    expected = Plain(make(kind, 5, 3, 7, torch.float32), [], 0, 0, 0).weights()
    for ours, theirs in zip(found.weights, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("n_rates", "n_seeds", "n_runs"), [(1, 5, 1), (2, 3, 1), (3, 3, 3), (8, 1, 1)])
def test_what_is_trained_together(
    monkeypatch: pytest.MonkeyPatch, n_rates: int, n_seeds: int, n_runs: int
) -> None:
    # One run of few heads costs about as much as one of a single head, and seeds with few heads are few.
    runs = []
    real = grid_module.train_together
    monkeypatch.setattr(grid_module, "train_together", lambda *run: runs.append(run) or real(*run))
    rates = [10.0**-k for k in range(n_rates)]
    points = [GridPoint("narrow", "few", "linear", lr, 0.0, seed) for lr in rates for seed in range(n_seeds)]
    batched(points, Recipe(epochs=1))
    assert len(runs) == n_runs


def test_threads_change_no_byte() -> None:
    recipe = Recipe(epochs=3, batch=16, patience=1)
    before = torch.get_num_threads()
    one, three = (batched(GRID, recipe, np.float32, threads) for threads in (1, 3))
    assert torch.get_num_threads() == before
    for a, b in zip(one, three, strict=True):
        assert [layer.tobytes() for layer in a.weights] == [layer.tobytes() for layer in b.weights]


@pytest.mark.parametrize("most", [1, 2, 100])
def test_what_is_trained_together_does_not_matter(
    most: int, usual: tuple[Recipe, list[Plain], list[Trained]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, _, expected = usual
    monkeypatch.setattr(grid_module, "_CHUNK_HEADS", most)
    monkeypatch.setattr(grid_module, "_CHUNK_BYTES", 10**12)
    for one, two in zip(expected, batched(GRID, recipe), strict=True):
        for ours, theirs in zip(two.weights, one.weights, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_progress_counts_heads() -> None:
    told: list[tuple[int, int]] = []
    fit_grid(
        GRID[:4],
        FEATURES,
        LABELS,
        TRAIN,
        VAL,
        Recipe(epochs=1),
        progress=lambda done, of: told.append((done, of)),
    )
    assert told[-1] == (4, 4)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_no_points_no_heads() -> None:
    assert fit_grid([], FEATURES, LABELS, TRAIN, VAL) == []


# ------------------------------------------------------------------ heads


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_heads_answer_as_the_trained_modules(kind: str) -> None:
    recipe = Recipe(epochs=3, batch=16, patience=None)
    point = GridPoint("wide", "few", kind, 1e-2, 0.1, 3)
    (head,) = fit_grid([point], FEATURES, LABELS, TRAIN, VAL, recipe)
    expected = plain(point, recipe)
    with torch.no_grad():
        logits = expected.module(torch.from_numpy(WIDE)).numpy()
    # Heads are kept in float32.
    np.testing.assert_allclose(head.decision_function(WIDE), logits, atol=1e-6)
    assert head.classes_.tolist() == ["a", "b", "c"]
    assert head.val_loss_ == pytest.approx(expected.val_loss, abs=1e-9)
    assert head.val_top1_ == (np.array(["a", "b", "c"])[logits[VAL].argmax(1)] == FEW[VAL]).mean()
    assert (head.best_epoch_, head.n_epochs_) == (expected.best_epoch, 3)
    assert (head.lr, head.weight_decay, head.seed, head.epochs, head.batch, head.patience) == (
        (1e-2, 0.1, 3, 3, 16, None)
    )


def test_logit_adjustment_subtracts_the_log_prior_afterwards() -> None:
    # Menon et al. 2021, equation 9: argmax f_y(x) - tau log pi_y, with f learned plainly.
    point = GridPoint("wide", "few", "linear", 1e-2, 0.1, 3)
    adjusted = replace(point, balance="logit-adjustment", tau=0.7)
    one, two = fit_grid([point, adjusted], FEATURES, LABELS, TRAIN, VAL, Recipe(epochs=2))
    priors = np.array([(FEW[TRAIN] == name).mean() for name in "abc"])
    np.testing.assert_allclose(
        one.decision_function(WIDE) - two.decision_function(WIDE),
        np.tile(0.7 * np.log(priors), (130, 1)),
        atol=1e-6,
    )


@pytest.mark.parametrize("balance", ["class-weights", "balanced-softmax", "logit-adjustment"])
def test_balancing_helps_the_rare_class(balance: str) -> None:
    # Two unit Gaussians 2 apart, one twenty times as frequent: the plain optimum gives the rare one
    # a recall of 1 - Phi(1 + log(20) / 2) = 0.6 %, the balanced one of Phi(1) = 84 %.
    rng = np.random.default_rng(0)
    codes = np.r_[np.arange(2), rng.random(3998) < 1 / 21].astype(int)
    x = (rng.normal(size=(4000, 2)) + np.outer(codes - 0.5, [2, 0])).astype(np.float32)
    names = np.array(["often", "rare"])[codes]
    points = [GridPoint("x", "y", "linear", 0.03, 0.0, 0, which) for which in ("none", balance)]
    rows = np.arange(4000)
    none, balanced = fit_grid(points, {"x": x}, {"y": names}, rows[:3000], rows[3000:], Recipe(epochs=8))
    fresh = rng.normal([1, 0], size=(4000, 2)).astype(np.float32)
    assert (none.predict(fresh) == "rare").mean() < 0.3
    assert (balanced.predict(fresh) == "rare").mean() == pytest.approx(0.8413, abs=0.1)


def test_float16_features_are_computed_in_float32() -> None:
    half = {name: rows.astype(np.float16) for name, rows in FEATURES.items()}
    single = {name: rows.astype(np.float32) for name, rows in half.items()}
    one, two = (train_grid(GRID[:2], each, LABELS, TRAIN, VAL, Recipe(epochs=2)) for each in (half, single))
    for a, b in zip(one, two, strict=True):
        assert [layer.tobytes() for layer in a.weights] == [layer.tobytes() for layer in b.weights]


# ------------------------------------------------------------------ odd data


def test_a_class_with_one_example_works() -> None:
    names = FEW.copy()
    names[TRAIN[FEW[TRAIN] == "c"]] = "b"
    names[0] = "c"
    (head,) = fit_grid([GRID[1]], FEATURES, LABELS | {"few": names}, TRAIN, VAL, Recipe(epochs=2))
    assert head.classes_.tolist() == ["a", "b", "c"]


def test_classes_that_either_part_lacks() -> None:
    # `c` is not in validation, `z` not in training: it has no loss, but counts as wrong.
    keep = FEW[VAL] != "c"
    names = FEW.copy()
    names[VAL[0]] = "z"
    labels = {"few": names}
    (head,) = fit_grid([GRID[1]], FEATURES, labels, TRAIN, VAL[keep], Recipe(epochs=2))
    assert head.classes_.tolist() == ["a", "b", "c"]
    (other,) = fit_grid([GRID[1]], FEATURES, labels, TRAIN, VAL[keep][1:], Recipe(epochs=2))
    if keep[0]:
        assert head.val_loss_ == pytest.approx(other.val_loss_, abs=1e-12)
        assert head.val_top1_ * keep.sum() == pytest.approx(other.val_top1_ * (keep.sum() - 1))


def test_a_diverging_head_spares_the_others() -> None:
    huge = {"narrow": X * 1e150}
    wild = GridPoint("narrow", "few", "linear", 1e200, 0.0, 0)
    bad, good = train_grid([wild, GRID[1]], {**FEATURES, **huge}, LABELS, TRAIN, VAL, Recipe(epochs=2))
    assert bad.best_epoch == 0
    assert np.isnan(bad.val_loss)
    assert np.isfinite(bad.weights[0]).all()
    assert np.isfinite(good.weights[0]).all()


def refused(message: str, error: type[Exception] = DataError, **changes: object) -> None:
    arguments: dict = {"features": FEATURES, "labels": LABELS, "train": TRAIN, "val": VAL, "recipe": Recipe()}
    points = changes.pop("points", GRID[:2])
    with pytest.raises(error, match=message):
        fit_grid(points, **(arguments | changes))


def test_odd_features_are_refused() -> None:
    broken = X.copy()
    broken[7, 1] = np.nan
    refused(r"training features 'narrow': 1 of 90 rows hold NaN", features=FEATURES | {"narrow": broken})
    broken = X.copy()
    broken[95, 1] = np.inf
    refused(r"validation features 'narrow': 1 of 40 rows hold NaN", features=FEATURES | {"narrow": broken})
    refused(r"same \(constant\) features", features=FEATURES | {"narrow": np.ones((130, 5))})
    refused(
        r"features 'narrow' has 130 rows, features 'wide' has 129 rows",
        features={**FEATURES, "wide": WIDE[1:]},
    )


def test_odd_labels_are_refused() -> None:
    refused("have the class 'a'; a probe needs at least two", labels=LABELS | {"few": np.full(130, "a")})
    refused("there are no examples", train=TRAIN[:0])
    strange = FEW.copy()
    strange[VAL] = "z"
    refused("none of the 40 validation examples has a class of 'few'", labels=LABELS | {"few": strange})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": "absent"}, r"feature set 'absent'; there are: narrow, wide"),
        ({"labels": "absent"}, r"label set 'absent'; there are: few, many"),
        ({"kind": "tree"}, r"head kind 'tree'; there are: linear, mlp"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"lr": float("nan")}, "lr must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"balance": "fair"}, "balance must be one of none, class-weights"),
        ({"tau": float("inf")}, "tau must be a number"),
    ],
)
def test_odd_points_are_refused(change: dict, message: str) -> None:
    refused(message, UsageError, points=[replace(GRID[1], **change)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"patience": 0}, "patience must be 1 or more"),
        ({"final_lr": -1.0}, "final_lr must be 0 or more"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1"),
    ],
)
def test_odd_recipes_are_refused(change: dict, message: str) -> None:
    refused(message, UsageError, recipe=Recipe(**change))


def test_importing_heads_imports_no_torch() -> None:
    code = (
        "import sys, deponij.pipeline.heads.registry as r; r.kinds()\n"
        "assert not {'torch', 'open_clip', 'transformers'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(grid_module.__file__).resolve().parents[3]
    )
