"""The attentive probe: learned queries that attend over patch tokens, and a linear classifier of what they gather.

Efficient probing, Psomas et al., "Attention, Please! Revisiting Attentive Probing Through the Lens of Efficiency" (ICLR
2026, arXiv 2506.10178). How it is trained: `training`.

Shape letters: n examples, d channels of a token, h and w sides of the grid, t = h w tokens, M queries, v width of the
values, C classes.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from deponij.pipeline.cards import COUNT, WORD, Condition, Fact, are_positive, rows_of
from deponij.pipeline.heads.augment import Augmentation
from deponij.pipeline.heads.choosing import hold_out, worth
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.gradient.recipe import Recipe
from deponij.pipeline.heads.head import Floats, Head, Names
from deponij.pipeline.heads.maps import Maps, check_map_examples, check_maps, in_order, nearby
from deponij.pipeline.heads.registry import register
from deponij.store.errors import DataError

if TYPE_CHECKING:
    from deponij.pipeline.heads.attentive.training import Moments, Tokens, Trained

# Of float16 maps that are kept in memory while they are learned from; what is more is read again each epoch.
_KEPT_BYTES = 1 << 29
# Test pictures whose attention is kept for showing.
_STUDIED = 32


@dataclass(frozen=True, slots=True)
class Trial:
    """One learning rate, and how the probe that learned with it does on validation after its best epoch."""

    lr: float
    epoch: int
    top1: float
    log_loss: float


@register("attentive")
@dataclass(eq=False)
class AttentiveProbe(Head):
    """Multi-query cross-attention over tokens x [t, d] without key and query maps, then a linear layer.

        scores[m, i]    = <query[m], x[i]> / sqrt(d)
        attention[m]    = softmax over i of scores[m]
        values[i]       = value x[i], of width v; without `value_dim` the tokens themselves, v = d
        pooled          = for m = 1 … M: sum over i of attention[m, i] * values[i, m-th slice of v / M channels]
        logits          = weight pooled + bias

    M d weights of the queries, v d of the value map (none without `value_dim`), (v + 1) C of the classifier. The paper's
    probe has a value map of v = d by default; so has this one with `value_dim` = d. Queries of zero are mean pooling: the
    probe begins close to the linear probe on the mean token.

    Unlike the paper's, tokens are standardised, each channel by its mean and deviation over the tokens of training
    (its code has a batch norm without weights before the classifier instead); what is saved has that folded in, so that it
    applies to tokens as they are stored. Learned by AdamW from queries N(0, 0.02) and a classifier N(0, 0.01), the rate
    falls at each step by a cosine. For each rate the epoch with the lowest validation loss is kept; the rate with the
    highest top-1 wins, ties go to the lower log-loss. Without a validation pair a single rate is trained to the last epoch,
    and several are chosen from by a held-out tenth of training.

    Tokens have no place: what is learned asks for none, and applies to other grids. One thread, so that the same
    examples give the same bytes.

    Args:
        n_queries: M; it must divide d, and `value_dim`.
        value_dim: v; None for the tokens themselves.
        lrs: learning rates to choose from.
        weight_decay: of AdamW, on all weights.
        seed: of the first weights, the order of the examples, augmentations and the hold-out.
        epochs: at most.
        batch: examples of a step.
        patience: epochs without a lower validation loss after which a rate stops; None never stops early.
        flip, crop, noise: see `Augmentation`; flips need stored ones.

    Attributes:
        queries_, value_: float32 [M, d] (divided by sqrt(d)) and [v, d], or None; for tokens as they are.
        coef_, intercept_: of the classifier, float32 [C, v] and [C].
        lr_, best_epoch_, n_epochs_: the chosen rate, the epoch that was kept, and how many were run.
        trials_: what was tried, empty where there was nothing to choose by.
        chosen_on_: `validation`, or what stood in, or `nothing`.
        n_weights_: how many were learned.
    """

    title: ClassVar[str] = "attentive probe"
    reads: ClassVar[Literal["vectors", "maps"]] = "maps"
    choices: ClassVar[Mapping[str, str]] = {"lrs": "lr_", "epochs": "best_epoch_"}
    apply: ClassVar[str] = (
        "import numpy as np\n"
        "tokens = features.reshape(*features.shape[:2], -1)\n"  # [n, d, t]
        "scores = queries @ tokens\n"
        "powers = np.exp(scores - scores.max(axis=2, keepdims=True))\n"
        "attention = powers / powers.sum(axis=2, keepdims=True)\n"  # [n, M, t]
        "values = tokens if value_dim is None else value @ tokens\n"
        "slices = values.reshape(len(tokens), len(queries), -1, tokens.shape[2])\n"  # [n, M, v / M, t]
        "pooled = (slices @ attention[..., None]).reshape(len(tokens), -1)\n"
        "logits = pooled @ weight.T + bias"
    )
    tensors: ClassVar[Mapping[str, str]] = {"queries": "queries_", "weight": "coef_", "bias": "intercept_"}
    shapes: ClassVar[Mapping[str, str]] = {"queries": "M d", "value": "v d", "weight": "C v", "bias": "C"}
    facts: ClassVar[Mapping[str, Fact]] = {
        "lr": Fact(of=float),
        **dict.fromkeys(("best_epoch", "n_epochs", "n_weights"), COUNT),
        "trials": rows_of(Trial),
        "chosen_on": WORD,
    }

    n_queries: int = 8
    value_dim: int | None = None
    lrs: Sequence[float] = (1e-3, 3e-3, 1e-2)
    weight_decay: float = 0.01
    seed: int = 0
    epochs: int = 30
    batch: int = 64
    patience: int | None = 5
    flip: bool = False
    crop: float = 1.0
    noise: float = 0.0

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None
    ) -> Self:
        """Learn from maps [n, d, h, w] and class names [n]; epoch and learning rate are chosen on validation.

        Raises:
            DataError: no examples, one class only, NaN or infinite values, maps that are the same for every
                example, widths that do not fit, no validation example of a trained class, no stored flips
                where they are asked for, or steps that lead to no finite numbers.
            UsageError: a parameter out of its range.
        """
        from deponij.pipeline.heads.attentive.training import Sizes, moments_of, train_probes

        self.check_params()
        maps, names = check_map_examples(X, y, "training features")
        self.classes_ = np.unique(names)
        self.n_features_in_ = maps.shape[1]
        self._check_slices()
        flipped = self._flipped(maps)
        maps = nearby(maps, _KEPT_BYTES)
        if len(self.classes_) < 2:
            raise DataError(
                f"all {len(names)} training examples have the class {str(self.classes_[0])!r}; "
                "a probe needs at least two classes"
            )
        moments = moments_of(maps)
        learn, choose = self._parts(maps, flipped, names, X_val, y_val)
        sizes = Sizes(self.n_features_in_, self.n_queries, self.value_dim, len(self.classes_))
        trained = train_probes(
            learn,
            choose,
            sizes,
            self._recipe(),
            [float(lr) for lr in self.lrs],
            self.weight_decay,
            self.seed,
            self._augmentation(),
            moments,
        )
        self._keep(trained, moments, None if choose is None else choose.codes)
        return self

    def decision_function(self, X: ArrayLike) -> Floats:
        """Logits [n, C] of maps [n, d, h, w]; see `Head`."""
        logits = np.empty((len(maps := self._checked(X)), len(self.classes_)))
        for rows, values in in_order(maps, "features"):
            tokens, attention = self._attended(values)
            pooled = self._pooled(tokens, attention).reshape(len(rows), -1)
            logits[rows] = pooled @ self.coef_.astype(np.float64).T + self.intercept_
        return logits

    def _pooled(self, tokens: NDArray[np.float64], attention: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is gathered, [m, M, v / M, 1], of tokens [m, d, t]; the value map, being linear, is applied last."""
        n_queries = len(self.queries_)
        if self.value_ is None:
            slices = tokens.reshape(len(tokens), n_queries, -1, tokens.shape[2])
            return slices @ attention[..., None]
        maps = self.value_.astype(np.float64).reshape(n_queries, -1, tokens.shape[1])
        return maps @ (attention @ tokens.transpose(0, 2, 1))[..., None]

    def attention(self, X: ArrayLike) -> NDArray[np.float64]:
        """How much each query takes of each token of maps [n, d, h, w]: [n, M, h, w]; each grid sums to 1.

        Raises:
            DataError: as `decision_function`.
        """
        maps = self._checked(X)
        attended = np.empty((len(maps), len(self.queries_), *maps.shape[2:]))
        for rows, values in in_order(maps, "features"):
            attended[rows] = self._attended(values)[1].reshape(len(rows), *attended.shape[1:])
        return attended

    def study(
        self, X: ArrayLike, examples: Examples, per_class: Sequence[int] = (), tries: int = 1
    ) -> dict[str, JsonValue]:
        """Where it looks in the first test pictures: their ids, the grid, and each query's attention [n, M, h, w].

        That is base64 of uint8, 255 where a query's attention to a picture is largest. Nothing of folds: the head that is
        kept has learned from all of them.
        """
        rows = examples.rows("test")[:_STUDIED]
        if examples.folds is not None or not len(rows):
            return {}
        maps = check_maps(X, "features")
        attention = self.attention(maps[rows])
        levels = np.round(255 * attention / attention.max(axis=(2, 3), keepdims=True)).astype(np.uint8)
        shares = base64.b64encode(levels.tobytes()).decode()
        grid: list[JsonValue] = [int(side) for side in maps.shape[2:]]
        return {"attention": {"ids": examples.ids[rows].tolist(), "grid": grid, "shares": shares}}

    def _attended(self, values: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Tokens [m, d, t] and the queries' attention to them [m, M, t]."""
        tokens = values.reshape(*values.shape[:2], -1).astype(np.float64)
        scores = self.queries_.astype(np.float64) @ tokens
        powers = np.exp(scores - scores.max(axis=2, keepdims=True))
        return tokens, powers / powers.sum(axis=2, keepdims=True)

    def _checked(self, X: ArrayLike) -> Maps:
        self._require_fit("classes_")
        maps = check_maps(X, "features")
        if maps.shape[1] != self.n_features_in_:
            raise DataError(
                f"the head was learned from tokens of width {self.n_features_in_}, got width {maps.shape[1]}; "
                "are these another backbone's features?"
            )
        return maps

    # ------------------------------------------------------------------ learning

    def _flipped(self, maps: Maps) -> Maps | None:
        """The stored maps of the mirrored pictures, where they are asked for."""
        if not self.flip:
            return None
        flipped: Maps | None = getattr(maps, "flipped", None)
        if flipped is None:
            raise DataError(
                "flip takes stored maps of the mirrored pictures, and there are none: extract the same kind with "
                "`+flip` behind it, and name that view beside the other. (To mirror maps would change nothing: this "
                "head asks for no place.)"
            )
        return nearby(flipped, _KEPT_BYTES)

    def _parts(
        self, maps: Maps, flipped: Maps | None, names: Names, X_val: ArrayLike | None, y_val: ArrayLike | None
    ) -> "tuple[Tokens, Tokens | None]":
        """What to learn from, and what to choose by if there is something."""
        from deponij.pipeline.heads.attentive.training import Tokens

        codes = self._codes(names)
        if X_val is not None and y_val is not None:
            val, val_names = check_map_examples(X_val, y_val, "validation features")
            self._check_validation(val, val_names)
            self.chosen_on_ = "validation"
            return Tokens(maps, codes, flipped), Tokens(nearby(val, _KEPT_BYTES), self._codes(val_names))
        held_out = hold_out(names, self.seed)
        if len(self.lrs) == 1 or not held_out.any():
            self.chosen_on_ = "nothing"
            return Tokens(maps, codes, flipped), None
        self.chosen_on_ = f"a held-out tenth of training (n = {held_out.sum()})"
        kept = ~held_out
        learn = Tokens(maps[kept], codes[kept], None if flipped is None else flipped[kept])
        return learn, Tokens(maps[held_out], codes[held_out])

    def _codes(self, names: Names) -> NDArray[np.int64]:
        """Numbers of the classes, -1 for those that training lacks."""
        codes = np.where(np.isin(names, self.classes_), np.searchsorted(self.classes_, names), -1)
        return codes.astype(np.int64)

    def _check_validation(self, val: Maps, names: Names) -> None:
        if val.shape[1] != self.n_features_in_:
            raise DataError(
                f"training features have width {self.n_features_in_}, validation features {val.shape[1]}"
            )
        if not np.isin(names, self.classes_).any():
            raise DataError(
                f"none of the {len(names)} validation examples has a class that training has; "
                f"validation: {np.unique(names)[:5].tolist()}, training: {self.classes_[:5].tolist()}"
            )

    def _check_slices(self) -> None:
        width = self.n_features_in_
        for what, size in (("tokens", width), ("value_dim", self.value_dim or width)):
            if size % self.n_queries:
                fits = [m for m in range(1, min(size, 64) + 1) if width % m == 0 and size % m == 0]
                raise DataError(
                    f"n_queries = {self.n_queries} does not divide the width {size} ({what}), of which each query "
                    f"pools a slice; it may be {', '.join(map(str, fits))}"
                )

    def _keep(
        self, trained: "Sequence[Trained]", moments: "Moments", codes: NDArray[np.int64] | None
    ) -> None:
        """The best of what was trained, for tokens as they are."""
        finite = [(float(lr), one) for lr, one in zip(self.lrs, trained, strict=True) if one.best_epoch]
        if not finite:
            raise DataError(
                f"the attentive probe diverged at once with learning rate {', '.join(map(str, self.lrs))}; lower it"
            )
        self.trials_: tuple[Trial, ...] = ()
        self.lr_, best = finite[0]
        if codes is not None:
            truth = np.append(self.classes_, "")[codes]
            self.trials_ = tuple(
                Trial(lr, one.best_epoch, *worth(one.logits, self.classes_, truth)) for lr, one in finite
            )
            order = [(-one.top1, one.log_loss, one.lr) for one in self.trials_]
            self.lr_, best = finite[order.index(min(order))]
        self.best_epoch_, self.n_epochs_ = best.best_epoch, best.n_epochs
        self.n_weights_ = sum(one.numel() for one in best.weights.tensors())
        self._fold(best, moments)

    def _fold(self, best: "Trained", moments: "Moments") -> None:
        """Standardised tokens are (x - mean) / deviation; a softmax does not see what the mean adds to all scores."""
        mean, deviation = (one.double().numpy()[:, 0] for one in (moments.mean, moments.deviation))
        weights = best.weights
        queries, weight, bias = (
            one.double().numpy() for one in (weights.queries, weights.weight, weights.bias)
        )
        self.queries_ = (queries / (deviation * np.sqrt(len(mean)))).astype(np.float32)
        shift = mean / deviation  # [d]
        if weights.value is None:
            self.value_: NDArray[np.float32] | None = None
            self.coef_ = (weight / deviation).astype(np.float32)
        else:
            value = weights.value.double().numpy()
            self.value_ = (value / deviation).astype(np.float32)
            self.coef_, shift = weight.astype(np.float32), value @ shift
        self.intercept_ = (bias - weight @ shift).astype(np.float32)

    # ------------------------------------------------------------------ what it says of itself

    @property
    def protocol(self) -> str:
        """In words: what was learned from what, and chosen on what."""
        values = "patch tokens" if self.value_dim is None else f"patch tokens mapped to {self.value_dim}"
        words = [
            f"{self.n_queries} queries that attend over {values} and a linear layer, {self.n_weights_:,} weights, by AdamW",
            f"rate {self.lr_:g} by cosine, weight decay {self.weight_decay:g}, batch {self.batch}, seed {self.seed}",
        ]
        if augmented := str(self._augmentation()):
            words.append(f"augmented by {augmented}")
        if self.chosen_on_ == "nothing":
            words.append(f"{self.n_epochs_} epochs, no validation")
        else:
            among = f" and rate of {len(self.trials_)} by top-1" if len(self.trials_) > 1 else ""
            words.append(f"epoch {self.best_epoch_} of {self.n_epochs_} by loss{among} on {self.chosen_on_}")
        return "; ".join(words)

    def _recipe(self) -> Recipe:
        return Recipe(
            epochs=self.epochs, batch=self.batch, patience=self.patience, per_step=True, final_lr=0.0
        )

    def _augmentation(self) -> Augmentation:
        return Augmentation(self.flip, self.crop, self.noise)

    def _conditions(self) -> Sequence[Condition]:
        return (
            (self.n_queries >= 1, f"n_queries must be 1 or more, got {self.n_queries}"),
            (
                self.value_dim is None or self.value_dim >= 1,
                f"value_dim must be 1 or more, got {self.value_dim}",
            ),
            (are_positive(self.lrs), f"lrs must be positive numbers, got {list(self.lrs)}"),
            (
                np.isfinite(self.weight_decay) and self.weight_decay >= 0,
                f"weight_decay must be 0 or more, got {self.weight_decay}",
            ),
            (self.seed >= 0, f"seed must be 0 or more, got {self.seed}"),
            *self._recipe().conditions(),
            *self._augmentation().conditions(),
        )

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        tensors = super()._tensors()
        return tensors if self.value_ is None else {**tensors, "value": self.value_}

    def _restore(self, tensors: Mapping[str, NDArray[np.float32]], learned: Mapping[str, Any]) -> None:
        super()._restore(tensors, learned)
        self.value_ = None if self.value_dim is None else tensors["value"]
