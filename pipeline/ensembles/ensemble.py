"""What every ensemble is, what it checks and how it is saved. Which ensembles there are: `registry`.

Shape letters: m members, n items, C classes. Members' logits are [m, n, C]: the same items in the same
order, the same classes in the same order (see `members`). A saved ensemble is a folder with
`ensemble.safetensors` (float32 tensors, where it has some) and `ensemble.json` (an
`EnsembleCard`); nothing is pickled.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deponij.pipeline.cards import ARRAY, CardFolder, Fact, Learned, LearnedCard, restored
from deponij.pipeline.metrics.calibration import fit_temperature, log_softmax
from deponij.pipeline.record_lists import Record, SixDigits
from deponij.store.errors import DataError

Wide = NDArray[np.float64]
Codes = NDArray[np.int64]


class MemberSource(Record):
    """One member: whose answers they are, and where its head lies.

    Attributes:
        method, backbone, fingerprint: as in its record.
        folder: its results, relative to the ensemble's folder.
        share: of the ensemble's answers that are this member's, 0 where it was not taken.
        sha256: stands for all that its folder held.
    """

    method: str
    backbone: str
    fingerprint: str
    folder: str
    share: SixDigits
    sha256: str


class EnsembleCard(LearnedCard):
    """`ensemble.json`: all that is needed to combine members' logits without this project.

    `apply` says how logits come from the members' [m, n, C], the tensors and the learned numbers;
    probabilities are the softmax of the logits, and column i is `classes[i]`. A class that a member
    does not have gets that member's lowest logit.
    """

    format: Literal[1] = 1
    members: tuple[MemberSource, ...]


ENSEMBLES = CardFolder("ensemble", "ensemble", EnsembleCard)


class Ensemble(Learned, ABC):
    """A rule that makes one answer of m members' logits; see `Learned` for what each one says of itself.

    Attributes:
        chooses: whether `fit` needs validation items.
        n_members_, n_classes_: m and C; set by `fit`.
        shares_: how much each member counts, [m], summing to 1.
    """

    chooses: ClassVar[bool]
    facts: ClassVar[Mapping[str, Fact]] = {"shares": ARRAY}

    n_members_: int
    n_classes_: int
    shares_: Wide

    def fit(self, logits: ArrayLike, codes: ArrayLike) -> Self:
        """Learn from validation items' logits [m, n, C] and classes [n]; a rule that chooses nothing takes n = 0.

        Raises:
            DataError: no members, values that are not finite, classes that are no columns, or no
                validation items where some are needed.
            UsageError: a parameter out of its range.
        """
        self.check_params()
        members, truth = check_members(logits), np.asarray(codes, dtype=np.int64)
        self.n_members_, n, self.n_classes_ = members.shape
        if truth.shape != (n,):
            raise DataError(f"{n} items in the members' logits for classes of shape {truth.shape}")
        if n and not (truth.min() >= 0 and truth.max() < self.n_classes_):
            raise DataError(
                f"classes must be columns 0..{self.n_classes_ - 1}, got {truth.min()}..{truth.max()}"
            )
        if n == 0 and self.chooses:
            raise DataError(
                f"the ensemble {self.kind!r} is fitted on validation, but there are no validation items of a class "
                "that its members know; split with a validation part, or take mean-logits or mean-probs"
            )
        self._fit(members, truth)
        return self

    def combine(self, logits: ArrayLike) -> Wide:
        """Logits [n, C] of members' logits [m, n, C].

        Raises:
            DataError: other members or classes than it was fitted on, or values that are not finite.
        """
        self._require_fit("n_members_")
        members = check_members(logits)
        if (members.shape[0], members.shape[2]) != (self.n_members_, self.n_classes_):
            raise DataError(
                f"the ensemble was fitted on {self.n_members_} members and {self.n_classes_} classes, "
                f"got {members.shape[0]} and {members.shape[2]}"
            )
        return self._combine(members)

    @abstractmethod
    def _fit(self, members: Wide, codes: Codes) -> None:
        """Learn from checked logits [m, n, C] and codes [n]."""

    @abstractmethod
    def _combine(self, members: Wide) -> Wide:
        """Logits [n, C] of checked ones [m, n, C]."""

    def out_of_fold(self, logits: ArrayLike, codes: ArrayLike) -> Wide:
        """Logits [n, C] of the n items that it was fitted on, each by a fit on others.

        So figures of validation can be compared with those of what was not fitted on it. What chooses nothing, or was
        fitted on one item alone, answers as it is.
        """
        members, truth = check_members(logits), np.asarray(codes, dtype=np.int64)
        return self._apart(members, truth) if self.chooses and len(truth) > 1 else self.combine(members)

    def _apart(self, members: Wide, codes: Codes) -> Wide:
        logits = np.empty(members.shape[1:])
        fold = folds(codes)
        for number in range(fold.max() + 1):
            rest, rows = fold != number, fold == number
            other = type(self)(**self.get_params())
            other.n_members_, other.n_classes_ = self.n_members_, self.n_classes_
            other._fit(members[:, rest], codes[rest])
            logits[rows] = other._combine(members[:, rows])
        return logits

    @property
    @abstractmethod
    def protocol(self) -> str:
        """In words: how answers are combined, and what was chosen on validation."""

    def save(self, folder: Path, members: Sequence[MemberSource], classes: Sequence[str]) -> None:
        """Write the tensors, if any, and `ensemble.json` as one; the same ensemble gives the same bytes.

        Raises:
            StoreError: the folder holds anything else, or cannot be written.
        """
        ENSEMBLES.write(folder, self.files(members, classes))

    def files(self, members: Sequence[MemberSource], classes: Sequence[str]) -> dict[str, bytes]:
        """Content of the files that `save` writes, by name."""
        return ENSEMBLES.files(
            self._tensors(),
            lambda sha256: EnsembleCard(
                kind=self.kind,
                apply=self.apply,
                classes=tuple(classes),
                members=tuple(members),
                protocol=self.protocol,
                params=self.plain_params(),
                learned=self._learned(),
                tensors_sha256=sha256,
            ),
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved ensemble of this kind.

        Raises:
            StoreError: the folder holds no ensemble, a damaged one, or one of another kind.
        """
        card, tensors = ENSEMBLES.read(folder, cls.kind)
        n_members, n_classes = len(card.members), len(card.classes)

        def begin(ensemble: Self) -> Wide:
            ensemble.n_members_, ensemble.n_classes_ = n_members, n_classes
            return ensemble.combine(np.zeros((n_members, 1, n_classes)))

        sizes = {"m": n_members, "C": n_classes, "mC": n_members * n_classes}
        return restored(cls, card, tensors, sizes, begin, folder / ENSEMBLES.card_name)


def folds(codes: Codes, n_folds: int = 5, seed: int = 0) -> Codes:
    """A fold 0..n_folds - 1 for each item [n], fewer of few items; each class is spread as evenly as it can be."""
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    order = shuffled[np.argsort(codes[shuffled], kind="stable")]
    fold = np.empty(len(codes), dtype=np.int64)
    fold[order] = np.arange(len(codes)) % min(n_folds, len(codes))
    return fold


def check_members(logits: ArrayLike) -> Wide:
    """Members' logits [m, n, C], m >= 1 and C >= 1, finite.

    Raises:
        DataError: another shape, or values that are NaN or infinite.
    """
    members = np.asarray(logits, dtype=np.float64)
    if members.ndim != 3 or 0 in (members.shape[0], members.shape[2]):
        raise DataError(
            f"members' logits must be an array [m, n, C] of at least one, got shape {members.shape}"
        )
    finite = np.isfinite(members).all(axis=(1, 2))
    if not finite.all():
        raise DataError(
            f"the logits of {int((~finite).sum())} of {len(members)} members hold NaN or infinite values "
            f"(members {np.flatnonzero(~finite)[:5].tolist()}); run their stage again"
        )
    return members


class Calibrated(Ensemble):
    """An ensemble that reads its members at temperatures of their own.

    Attributes:
        temperatures_: [m].
    """

    facts: ClassVar[Mapping[str, Fact]] = {**Ensemble.facts, "temperatures": ARRAY}

    temperatures_: Wide

    def _calibrate(self, members: Wide, codes: Codes) -> Wide:
        """Fit temperatures by log-loss on items of these classes [n]; their log-probabilities [m, n, C]."""
        self.temperatures_ = np.array([fit_temperature(member, codes) for member in members])
        return self._log_probs(members)

    def _log_probs(self, members: Wide) -> Wide:
        return log_softmax(members / self.temperatures_[:, None, None])
