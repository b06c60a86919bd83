"""The linear evaluation of dinov2: many heads by SGD, learning rates x feature sets, the best on validation.

Protocol: dinov2's `eval/linear.py`. Pictures are not augmented here: features come from a store. How
the heads are trained together lives in `grid`.

Shape letters: n examples, K blocks, d token width, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from deponij.pipeline.cards import WORD, Condition, Fact, are_positive, rows_of
from deponij.pipeline.heads.choosing import halves, validation_pair, worth
from deponij.pipeline.heads.gradient.recipe import GridPoint, Recipe
from deponij.pipeline.heads.gradient.training import Trained
from deponij.pipeline.heads.head import AffineHead, Floats, Names, check_examples, check_learnable
from deponij.pipeline.heads.registry import register
from deponij.store.errors import DataError
from deponij.store.scratch import beside, stacked

DINOV2_LRS = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
# Learning rates are stated for this many examples a step.
_STATED_BATCH = 256


@dataclass(frozen=True, slots=True)
class Trial:
    """One head of the grid and how it does on validation; `lr` as stated, for a batch of 256."""

    lr: float
    blocks: int
    patches: bool
    top1: float
    log_loss: float


@register("dino-linear")
@dataclass(eq=False)
class DinoLinear(AffineHead):
    """The best of linear heads over last blocks x mean patch tokens x learning rates.

    Of features `tokens@K`, an array [n, K, 2, d] with the oldest block first that is given as
    [n, K * 2 * d], heads see the class tokens of the last block or of all K, alone or with the last
    block's mean patch token: 4 x 13 heads for K = 4. Of a plain embedding there are 13. All learn
    together by SGD from weights N(0, 0.01), the learning rate falls at each step by a cosine to 0.
    The highest top-1 on validation wins, ties go to the lower log-loss. Without a validation pair a
    tenth of training is held out for it.

    Args:
        n_blocks: K.
        has_patches: whether the features hold mean patch tokens.
        lrs: learning rates for batches of 256; they are scaled to `batch`.
        iterations: steps.
        batch: examples of a step.
        momentum: of SGD.
        seed: of the first weights and of the order of the examples.

    Attributes:
        coef_, intercept_: of the best head, float32 [C, K * 2 * d] and [C]; columns it does not see are 0.
        best_: its trial.
        trials_: all that gave finite numbers.
        chosen_on_: `validation` or what stood in.
    """

    title: ClassVar[str] = "linear probe (DINOv2's grid)"
    takes_tokens: ClassVar[bool] = True
    facts: ClassVar[Mapping[str, Fact]] = {"chosen_on": WORD, "trials": rows_of(Trial)}

    n_blocks: int = 1
    has_patches: bool = False
    lrs: Sequence[float] = DINOV2_LRS
    iterations: int = 12_500
    batch: int = 128
    momentum: float = 0.9
    seed: int = 0

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Train the grid on features [n, K * 2 * d] and class names [n]; choose on validation.

        Raises:
            DataError: no examples, one class only, NaN or infinite values, features that are the same
                for every example, widths that do not fit, no validation example of a trained class, or
                steps that lead to no finite numbers.
            UsageError: a parameter out of its range.
        """
        self.check_params()
        features, names = check_examples(X, y, "training features")
        check_learnable(features, names)
        self._check_tokens(features.shape[1])
        validation = validation_pair(X_val, y_val, np.unique(names), features.shape[1])
        parts = halves(features, names, validation, self.seed)
        self.chosen_on_, features, names, validation = (
            parts.told,
            parts.features,
            parts.names,
            parts.validation,
        )
        if len(validation[1]) == 0:
            raise DataError(
                "no class has a second example to choose the learning rate by; give validation examples"
            )
        self.classes_ = np.unique(names)
        self.n_features_in_ = features.shape[1]
        self._choose(self._train(features, names, validation), validation)
        return self

    def _choose(
        self, trained: Sequence[tuple[float, tuple[int, bool], Trained]], validation: tuple[Floats, Names]
    ) -> None:
        tried: list[tuple[Trial, NDArray[np.float32], NDArray[np.float32]]] = []
        for lr, (blocks, patches), head in trained:
            if head.best_epoch == 0:
                continue
            (layer,) = head.weights
            self.coef_ = np.zeros((len(self.classes_), self.n_features_in_), dtype=np.float32)
            self.coef_[:, self._columns(blocks, patches)] = layer[:, :-1]
            self.intercept_ = layer[:, -1].astype(np.float32)
            top1, log_loss = worth(self.decision_function(validation[0]), self.classes_, validation[1])
            tried.append((Trial(lr, blocks, patches, top1, log_loss), self.coef_, self.intercept_))
        if not tried:
            raise DataError("every learning rate diverged; lower them, or scale the features")
        self.trials_ = tuple(trial for trial, _, _ in tried)
        best = min(tried, key=lambda one: (-one[0].top1, one[0].log_loss, one[0].lr))
        self.best_, self.coef_, self.intercept_ = best

    def _train(
        self, features: Floats, names: Names, validation: tuple[Floats, Names]
    ) -> list[tuple[float, tuple[int, bool], Trained]]:
        """Learning rate, feature set and weights of each head."""
        import torch

        from deponij.pipeline.heads.gradient.grid import train_grid

        everything = stacked([features, validation[0]])
        sets = {f"{one}": self._of_columns(everything, self._columns(*one)) for one in self._feature_sets()}
        pairs = [(float(lr), one) for one in self._feature_sets() for lr in self.lrs]
        rows = np.arange(len(everything))
        trained = train_grid(
            [
                GridPoint(f"{one}", "y", "linear", lr * self.batch / _STATED_BATCH, 0.0, self.seed)
                for lr, one in pairs
            ],
            sets,
            {"y": np.concatenate([names, validation[1]])},
            rows[: len(names)],
            rows[len(names) :],
            Recipe(
                optimiser="sgd",
                epochs=1,
                steps_per_epoch=self.iterations,
                batch=self.batch,
                patience=None,
                final_lr=0.0,
                momentum=self.momentum,
                per_step=True,
                keep="last",
                init_std=0.01,
            ),
            # How many there are does not change what comes out.
            threads=torch.get_num_threads(),
        )
        return [(lr, one, head) for (lr, one), head in zip(pairs, trained, strict=True)]

    def _feature_sets(self) -> Iterator[tuple[int, bool]]:
        """How many last blocks, and whether with mean patch tokens."""
        return product(sorted({1, self.n_blocks}), (False, True) if self.has_patches else (False,))

    def _columns(self, blocks: int, patches: bool) -> NDArray[np.int64]:
        """Columns of the class tokens of the last blocks, and of the last block's mean patch token."""
        per_block = 2 if self.has_patches else 1
        places = np.arange(self.n_features_in_).reshape(self.n_blocks, per_block, -1)
        chosen = [places[-blocks:, 0].ravel(), *([places[-1, 1]] if patches else [])]
        return np.concatenate(chosen)

    def _of_columns(self, features: Floats, columns: NDArray[np.int64]) -> Floats:
        """Features [n, ...] of these columns, which are those of whole tokens."""
        width = self.n_features_in_ // (self.n_blocks * (2 if self.has_patches else 1))
        return beside([features[:, start : start + width] for start in columns[::width]])

    def _conditions(self) -> Sequence[Condition]:
        counts = {name: getattr(self, name) for name in ("n_blocks", "iterations", "batch")}
        return (
            (are_positive(self.lrs), f"lrs must be positive numbers, got {list(self.lrs)}"),
            *((n >= 1, f"{name} must be 1 or more, got {n}") for name, n in counts.items()),
            (0 <= self.momentum < 1, f"momentum must be from 0 to below 1, got {self.momentum}"),
            (self.seed >= 0, f"seed must be 0 or more, got {self.seed}"),
        )

    def _check_tokens(self, width: int) -> None:
        per_block = 2 if self.has_patches else 1
        if width % (self.n_blocks * per_block):
            raise DataError(
                f"features of width {width} cannot be {self.n_blocks} blocks of {per_block} tokens each; give "
                "`tokens@K` as [n, K * 2 * d] with n_blocks = K and has_patches, or an embedding with neither"
            )

    @property
    def protocol(self) -> str:
        """In words: what was learned from what, and chosen on what."""
        seen = "the embedding"
        if self.n_blocks > 1 or self.has_patches:
            last = "the last block" if self.best_.blocks == 1 else f"the last {self.best_.blocks} blocks"
            seen = f"class tokens of {last}{' and its mean patch token' if self.best_.patches else ''}"
        return (
            f"{len(self.trials_)} linear heads by SGD, {self.iterations} steps of {self.batch}; learning rate "
            f"{self.best_.lr:g} (for batches of 256) on {seen} by top-1 on {self.chosen_on_}"
        )

    def _learned(self) -> dict[str, JsonValue]:
        return {**super()._learned(), "best": self.trials_.index(self.best_)}

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        super()._restore(tensors, learned)
        self.best_ = self.trials_[learned["best"]]
