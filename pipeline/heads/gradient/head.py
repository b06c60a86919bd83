"""What heads that learn by gradient steps share: parameters, fitting one of them, what the card says.

Many at once, and how: `grid`. Here a fit is a grid of one point.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from deponij.pipeline.heads.choosing import validation_pair
from deponij.pipeline.heads.gradient.recipe import GridPoint, Recipe
from deponij.pipeline.heads.gradient.training import Trained
from deponij.pipeline.heads.head import Floats, Head, check_examples
from deponij.store.errors import DataError

_PARAMS = ("lr", "weight_decay", "seed", "epochs", "batch", "patience", "balance", "tau")
_ONLY = "only"


class GradientHead(Head):
    """A head whose weights are found by stochastic gradient steps on cross-entropy.

    Without a validation pair nothing stops a fit early, and the last weights are kept.

    Args:
        lr: learning rate of the first epoch; it falls by a cosine to 1e-6.
        weight_decay: of AdamW, on weights and biases.
        seed: of the first weights and of the order of the examples.
        epochs: at most. batch: examples of a step.
        patience: epochs without a lower validation loss after which to stop; None never stops early.
        balance, tau: what is done about unequal classes, see `GridPoint`.

    Attributes:
        val_loss_: of the kept weights, by the loss that was learned with; NaN without validation.
        val_top1_: share of validation examples answered rightly; NaN without validation.
        best_epoch_: whose weights are kept, from 1; 0 if the fit diverged at once.
        n_epochs_: how many were run. recipe_: how all of it was learned.
    """

    learns_from: ClassVar[Literal["images", "texts"]] = "images"
    model: ClassVar[str]

    val_loss_: float
    val_top1_: float
    best_epoch_: int
    n_epochs_: int
    recipe_: Recipe

    def __init__(
        self,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        seed: int = 0,
        epochs: int = 20,
        batch: int = 32,
        patience: int | None = 5,
        balance: str = "none",
        tau: float = 1.0,
    ) -> None:
        self.lr = lr
        self.weight_decay = weight_decay
        self.seed = seed
        self.epochs = epochs
        self.batch = batch
        self.patience = patience
        self.balance = balance
        self.tau = tau

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Learn from features [n, d] and class names [n]; validation says when to stop.

        Raises:
            DataError: no examples, one class only, NaN or infinite values, features that are the same
                for every example, widths that differ, no validation example of a trained class, or
                steps that lead to no finite numbers.
            UsageError: a parameter out of its range.
        """
        from deponij.pipeline.heads.gradient.grid import fit_grid

        features, names = check_examples(X, y, "training features")
        n_train = len(names)
        validation = validation_pair(X_val, y_val, np.unique(names), features.shape[1])
        if validation is not None:
            features = np.concatenate([features, validation[0]])
            names = np.concatenate([names, validation[1]])
        point = GridPoint(
            _ONLY, _ONLY, self.kind, self.lr, self.weight_decay, self.seed, self.balance, self.tau
        )
        rows = np.arange(len(names))
        (head,) = fit_grid(
            [point],
            {_ONLY: features},
            {_ONLY: names},
            rows[:n_train],
            rows[n_train:],
            Recipe(epochs=self.epochs, batch=self.batch, patience=self.patience),
            threads=1,
        )
        if head.best_epoch_ == 0:
            raise DataError(
                f"the {self.title} diverged at once with learning rate {self.lr:g}; lower it, or scale the features"
            )
        self.__dict__.update(vars(head))
        return self

    @classmethod
    def of(cls, point: GridPoint, recipe: Recipe, trained: Trained, log_priors: Floats) -> Self:
        """The head of a point that has been trained; classes and validation are the caller's to set."""
        head = cls(
            point.lr,
            point.weight_decay,
            point.seed,
            recipe.epochs,
            recipe.batch,
            recipe.patience,
            point.balance,
            point.tau,
        )
        head.recipe_ = recipe
        head.val_loss_, head.val_top1_ = trained.val_loss, float("nan")
        head.best_epoch_, head.n_epochs_ = trained.best_epoch, trained.n_epochs
        layers = [weights.copy() for weights in trained.weights]
        if point.balance == "logit-adjustment":
            layers[-1][:, -1] -= point.tau * log_priors
        head.n_features_in_ = layers[0].shape[1] - 1
        head._set_layers(
            [(layer[:, :-1].astype(np.float32), layer[:, -1].astype(np.float32)) for layer in layers]
        )
        return head

    @abstractmethod
    def _set_layers(self, layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:
        """Set the learned arrays: weight [out, in] and bias [out] of each layer."""

    @property
    def protocol(self) -> str:
        """In words: what was learned from what, and chosen on what."""
        recipe = self.recipe_
        words = [
            f"{self.model} by {'AdamW' if recipe.optimiser == 'adamw' else 'SGD with momentum'} on features as "
            f"they are, learning rate {self.lr:g} by cosine to {recipe.final_lr:g}, weight decay "
            f"{self.weight_decay:g}, batch {recipe.batch}, seed {self.seed}"
        ]
        if self.balance != "none":
            tau = "" if self.balance == "class-weights" else f", tau = {self.tau:g}"
            words.append(f"{self.balance.replace('-', ' ')}{tau}")
        if np.isnan(self.val_loss_):
            words.append(f"{self.n_epochs_} epochs, no validation")
        else:
            chosen = "last" if recipe.keep == "last" else "lowest validation loss"
            words.append(f"epoch {self.best_epoch_} of {self.n_epochs_} by {chosen}")
        return "; ".join(words)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments."""
        return {name: getattr(self, name) for name in _PARAMS}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments, in scikit-learn's manner."""
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def _learned(self) -> dict[str, JsonValue]:
        return {
            # JSON knows no NaN.
            "val_loss": None if np.isnan(self.val_loss_) else self.val_loss_,
            "val_top1": None if np.isnan(self.val_top1_) else self.val_top1_,
            "best_epoch": self.best_epoch_,
            "n_epochs": self.n_epochs_,
            "recipe": asdict(self.recipe_),
        }

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        for name in ("val_loss", "val_top1"):
            value = learned[name]
            setattr(self, f"{name}_", float("nan") if value is None else value)
        self.best_epoch_, self.n_epochs_ = learned["best_epoch"], learned["n_epochs"]
        self.recipe_ = Recipe(**learned["recipe"])
