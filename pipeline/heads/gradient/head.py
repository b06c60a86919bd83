"""What heads that learn by gradient steps share: parameters, fitting one of them, what the card says.

Many at once, and how: `grid`. Here a fit is a grid of one point.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from deponij.pipeline.cards import COUNT, NUMBER, Condition, Fact
from deponij.pipeline.heads.augment import Augmentation
from deponij.pipeline.heads.choosing import validation_pair
from deponij.pipeline.heads.gradient.recipe import GridPoint, Recipe
from deponij.pipeline.heads.gradient.training import Trained
from deponij.pipeline.heads.head import Floats, Head, check_examples
from deponij.store.errors import DataError
from deponij.store.scratch import stacked

_ONLY = "only"


@dataclass(eq=False)
class GradientHead(Head):
    """A head whose weights are found by stochastic gradient steps on cross-entropy.

    Without a validation pair nothing stops a fit early, and the last weights are kept.

    Args:
        lr: learning rate of the first epoch; it falls by a cosine to 1e-6.
        weight_decay: of AdamW, on weights and biases.
        seed: of the first weights and of the order of the examples.
        epochs: at most.
        batch: examples of a step.
        patience: epochs without a lower validation loss after which to stop; None never stops early.
        balance, tau: what is done about unequal classes, see `GridPoint`.
        noise: augmentation, see `Recipe`.

    Attributes:
        val_loss_: of the kept weights, by the loss that was learned with; NaN without validation.
        val_top1_: share of validation examples answered rightly; NaN without validation.
        best_epoch_: whose weights are kept, from 1; 0 if the fit diverged at once.
        n_epochs_: how many were run.
        recipe_: how all of it was learned.
    """

    model: ClassVar[str]
    choices: ClassVar[Mapping[str, str]] = {"epochs": "best_epoch_", "lr": "lr"}
    facts: ClassVar[Mapping[str, Fact]] = {
        "val_loss": NUMBER,
        "val_top1": NUMBER,
        "best_epoch": COUNT,
        "n_epochs": COUNT,
        "recipe": Fact(asdict, lambda fields: Recipe(**fields), of=Recipe),
    }

    lr: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0
    epochs: int = 20
    batch: int = 32
    patience: int | None = 5
    balance: str = "none"
    tau: float = 1.0
    noise: float = 0.0

    val_loss_: float = field(init=False, repr=False)
    val_top1_: float = field(init=False, repr=False)
    best_epoch_: int = field(init=False, repr=False)
    n_epochs_: int = field(init=False, repr=False)
    recipe_: Recipe = field(init=False, repr=False)

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

        self.check_params()
        features, names = check_examples(X, y, "training features")
        n_train = len(names)
        validation = validation_pair(X_val, y_val, np.unique(names), features.shape[1])
        if validation is not None:
            features = stacked([features, validation[0]])
            names = np.concatenate([names, validation[1]])
        rows = np.arange(len(names))
        (head,) = fit_grid(
            [self._point()],
            {_ONLY: features},
            {_ONLY: names},
            rows[:n_train],
            rows[n_train:],
            self._recipe(),
            threads=1,
        )
        if head.best_epoch_ == 0:
            raise DataError(
                f"the {self.title} diverged at once with learning rate {self.lr:g}; lower it, or scale the features"
            )
        self.__dict__.update(vars(head))
        return self

    def _point(self) -> GridPoint:
        return GridPoint(
            _ONLY, _ONLY, self.kind, self.lr, self.weight_decay, self.seed, self.balance, self.tau
        )

    def _recipe(self) -> Recipe:
        return Recipe(epochs=self.epochs, batch=self.batch, patience=self.patience, noise=self.noise)

    def _conditions(self) -> Sequence[Condition]:
        return *self._point().conditions(), *self._recipe().conditions()

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
            recipe.noise,
        )
        head.recipe_ = recipe
        head.val_loss_, head.val_top1_ = trained.val_loss, float("nan")
        head.best_epoch_, head.n_epochs_ = trained.best_epoch, trained.n_epochs
        layers = [weights.copy() for weights in trained.weights]
        if point.balance == "logit-adjustment":
            layers[-1][:, -1] -= point.tau * log_priors
        head.n_features_in_ = layers[0].shape[1] - 1
        arrays = [part.astype(np.float32) for layer in layers for part in (layer[:, :-1], layer[:, -1])]
        for attribute, array in zip(cls.tensors.values(), arrays, strict=True):
            setattr(head, attribute, array)
        return head

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
        if recipe.noise:
            words.append(f"augmented by {Augmentation(noise=recipe.noise)}")
        if np.isnan(self.val_loss_):
            words.append(f"{self.n_epochs_} epochs, no validation")
        else:
            chosen = "last" if recipe.keep == "last" else "lowest validation loss"
            words.append(f"epoch {self.best_epoch_} of {self.n_epochs_} by {chosen}")
        return "; ".join(words)
