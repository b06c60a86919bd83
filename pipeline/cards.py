"""How learned things are kept: a folder with tensors (safetensors) and a card (JSON) that says how to apply them.

Both are one bundle, written and replaced as one (`deponij.store.bundle`). Nothing is pickled, and the same thing gives
the same bytes. What heads and ensembles tell of themselves for it: `Learned`.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, create_model

from deponij.pipeline.record_lists import REMEDY, Record, parsed, told
from deponij.store.bundle import read_bundle, write_bundle
from deponij.store.errors import DataError, DeponijError, IdentityError, StoreError, UsageError

Tensors = Mapping[str, NDArray[np.float32]]
# Of a picture's tokens, the one that vectors are made of.
Token = Literal["class", "mean"]
# Whether a value is fine, and what to say where it is not.
Condition = tuple[bool, str]
# What arithmetic on learned facts of a wrong type or shape raises.
_MISFITS = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, ZeroDivisionError)


class Card(Record):
    """What every card has.

    Attributes:
        kind: its name in the registry.
        tensors_sha256: of the file beside it; of no bytes where there are no tensors.
    """

    kind: str
    tensors_sha256: str


class FeatureSource(Record):
    """Which features something was learned from; it may be applied to no others.

    Attributes:
        backbone: the registry name, for people.
        fingerprint: of the features' identity; this decides.
        labels: the label column.
        identity: the identity's fields, so that a refusal can name the difference.
        token: of several tokens a picture, the one that was learned from; None for all there is.
    """

    backbone: str
    fingerprint: str
    labels: str
    identity: dict[str, str] = Field(default_factory=dict)
    token: Token | None = None

    def require(
        self, fingerprint: str, identity: Mapping[str, str], what: str, learned: str = "the head"
    ) -> None:
        """Refuse features of another identity.

        Args:
            what: has them, and what was learned from others, for messages.

        Raises:
            IdentityError: naming each field that differs.
        """
        if fingerprint == self.fingerprint:
            return
        names = sorted(set(self.identity) | set(identity))
        differences = [
            f"{name}: {self.identity.get(name)} against {identity.get(name)}"
            for name in names
            if self.identity.get(name) != identity.get(name)
        ]
        raise IdentityError(
            f"{learned} was learned from {self.fingerprint} of {self.backbone}, {what} has {fingerprint}: "
            + ("; ".join(differences) or "the fingerprints differ")
        )


class LearnedCard(Card):
    """What is told of every learned thing.

    Attributes:
        apply: how answers come from the tensors and the facts, in words or code.
        classes: names of the answers' columns.
        protocol: what was learned from what, and chosen on what.
        params: of the constructor.
        learned: facts about the fit.
    """

    apply: str
    classes: tuple[str, ...]
    protocol: str
    params: dict[str, JsonValue]
    learned: dict[str, JsonValue]


C = TypeVar("C", bound=Card)


@dataclass(frozen=True, slots=True)
class CardFolder(Generic[C]):
    """Folders that hold one sort of learned thing.

    Attributes:
        what: it is, for messages.
        name: of its files, without their endings.
        card: its card's class.
        newest: format; older ones cannot be read.
    """

    what: str
    name: str
    card: type[C]
    newest: int = 1

    @property
    def card_name(self) -> str:
        """File name of the card."""
        return f"{self.name}.json"

    @property
    def tensors_name(self) -> str:
        """File name of the tensors."""
        return f"{self.name}.safetensors"

    def files(self, tensors: Tensors, make_card: Callable[[str], C]) -> dict[str, bytes]:
        """Content of the files by name: the tensors, if any, and the card.

        Args:
            make_card: from the tensors' hash.
        """
        from safetensors.numpy import save

        ordered = {name: np.ascontiguousarray(array) for name, array in sorted(tensors.items())}
        data = save(ordered) if ordered else b""
        card = make_card(hashlib.sha256(data).hexdigest())
        text = f"{card.model_dump_json(indent=2)}\n".encode()
        return {self.tensors_name: data, self.card_name: text} if data else {self.card_name: text}

    def write(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Write what `files` gave, for itself; what lies there of the same sort is replaced as a whole.

        Raises:
            StoreError: the folder holds anything else, or cannot be written.
        """
        write_bundle(folder, files, what=f"the {self.what}")

    def read_card(self, folder: Path) -> C:
        """The card alone.

        Raises:
            StoreError: there is none, or it is damaged, or of an older or a newer format.
        """
        return self._card(self._read(folder)[self.card_name], folder / self.card_name)

    def read(self, folder: Path, kind: str) -> tuple[C, Tensors]:
        """The card and the tensors.

        Raises:
            StoreError: the folder holds nothing of this sort and kind, or something damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = folder / self.tensors_name
        content = self._read(folder, self.tensors_name)
        card = self._card(content[self.card_name], folder / self.card_name)
        if card.kind != kind:
            raise StoreError(f"the {self.what} in {folder} is of kind {card.kind!r}, not {kind!r}")
        data = content.get(self.tensors_name, b"")
        if hashlib.sha256(data).hexdigest() != card.tensors_sha256:
            raise StoreError(
                f"{path} is missing or is not the file that {self.card_name} was written for; {REMEDY}"
            )
        try:
            return card, load(data) if data else {}
        except (SafetensorError, *_MISFITS) as error:
            raise StoreError(f"{path} holds no tensors that can be read: {error}; {REMEDY}") from error

    def _read(self, folder: Path, *also: str) -> dict[str, bytes]:
        return read_bundle(folder, [self.card_name], also, what=f"{self.what}s", remedy=REMEDY)

    def _card(self, data: bytes, path: Path) -> C:
        try:
            document = json.loads(data)
            if isinstance(document, dict) and document.get("format") in range(1, self.newest):
                raise StoreError(f"{path} was written by an older version; {REMEDY}")
            return parsed(self.card, data)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path} is damaged or of a newer format: {told(error)}; {REMEDY}") from error


@dataclass(frozen=True, slots=True)
class Fact:
    """How a learned attribute becomes JSON, and how it is made of that again.

    Attributes:
        write, read: one way and the other.
        of: type of the JSON value, as pydantic checks it.
    """

    write: Callable[[Any], Any] = lambda value: value
    read: Callable[[Any], Any] = lambda value: value
    of: Any = JsonValue


WORD, COUNT, REAL, FLAG = Fact(of=str), Fact(of=int), Fact(of=float), Fact(of=bool)
COUNTS = Fact(list, tuple, of=list[int])
ARRAY = Fact(lambda array: array.tolist(), np.asarray, of=list[float])
# JSON knows no NaN.
NUMBER = Fact(
    lambda value: None if np.isnan(value) else value,
    lambda value: np.nan if value is None else value,
    of=float | None,
)


def rows_of(record: type) -> Fact:
    """Facts that are a tuple of dataclasses: a list of their values each."""
    return Fact(
        lambda records: [list(astuple(one)) for one in records],
        lambda rows: tuple(record(*row) for row in rows),
        of=list[tuple[tuple(get_type_hints(record).values())]],  # type: ignore[misc]
    )


class Learned:
    """A dataclass of parameters whose learned attributes end in `_`, each of which is named once.

    Parameters have scikit-learn's manners, so that its `clone` takes it. (Its `BaseEstimator` is no base: to import it
    takes seconds, and every stage that names a head would wait for them.)

    Attributes:
        kind: its name in the registry.
        title: its name for people.
        apply: for `LearnedCard`.
        tensors: name in the file -> attribute; single numbers are kept as [1].
        shapes: name in the file -> letters of its sides, such as `C d`; what sides have one letter in common are
            equally long.
        facts: attributes, without the underscore, for the card.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    apply: ClassVar[str]
    tensors: ClassVar[Mapping[str, str]] = {}
    shapes: ClassVar[Mapping[str, str]] = {}
    facts: ClassVar[Mapping[str, Fact]] = {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments, as scikit-learn's `clone` reads them."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.init}  # type: ignore[arg-type]

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments, in scikit-learn's manner."""
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def plain_params(self) -> dict[str, Any]:
        """Constructor arguments as JSON values: a grid may be a tuple or an array; JSON knows lists."""
        params: dict[str, Any] = json.loads(
            json.dumps(self.get_params(), default=lambda array: array.tolist())
        )
        return params

    def check_params(self) -> None:
        """Refuse parameters out of their range, before any data are looked at; `fit` begins with it.

        Raises:
            UsageError: naming all that are, and what is allowed.
        """
        require(self.title, *self._conditions())

    def _conditions(self) -> Sequence[Condition]:
        """What must hold of the parameters."""
        return ()

    def _require_fit(self, attribute: str) -> None:
        if not hasattr(self, attribute):
            raise DataError(f"this {type(self).__name__} has learned nothing yet; call fit or load first")

    def _learned(self) -> dict[str, JsonValue]:
        """Facts about the fit for the card."""
        return {name: fact.write(getattr(self, f"{name}_")) for name, fact in self.facts.items()}

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        """The learned arrays by name."""
        return {
            name: np.atleast_1d(np.asarray(getattr(self, attribute), np.float32))
            for name, attribute in self.tensors.items()
        }

    def _restore(self, tensors: Tensors, learned: Mapping[str, Any]) -> None:
        """Set the learned attributes from what `_tensors` and `_learned` gave."""
        for name, attribute in self.tensors.items():
            setattr(self, attribute, tensors[name])
        for name, fact in self.facts.items():
            setattr(self, f"{name}_", fact.read(learned[name]))


L = TypeVar("L", bound=Learned)


def parameters_of(made: type) -> type[BaseModel]:
    """A model of a constructor's arguments, with their types and defaults."""
    hints = get_type_hints(made.__init__)  # type: ignore[misc]
    named: dict[str, Any] = {
        name: (hints.get(name, Any), parameter.default)
        for name, parameter in inspect.signature(made).parameters.items()
    }
    return create_model(made.__name__, __config__=ConfigDict(extra="forbid", strict=False), **named)


def restored(
    made: type[L],
    card: LearnedCard,
    tensors: Tensors,
    sizes: Mapping[str, int],
    begin: Callable[[L], Any],
    where: Path,
) -> L:
    """A learned thing, made again of its card and tensors.

    Args:
        sizes: length of the letters that are known, as `C` and `d`.
        begin: sets what else its card says, then applies it to one row, which must give C numbers.
        where: the card, for messages.

    Raises:
        StoreError: a parameter, a fact or a tensor is missing, unknown, or of a wrong type or shape, as when another
            version wrote it; the message names it.
    """
    try:
        check_names("parameter", card.params, list(made().plain_params()))
        parameters_of(made).model_validate_json(json.dumps(card.params), strict=True)
        for name in sorted(set(made.facts) & set(card.learned)):
            TypeAdapter(made.facts[name].of).validate_json(json.dumps(card.learned[name]), strict=True)
        _check_tensors(made, tensors, sizes)
        one = made(**card.params)
        one._restore(tensors, card.learned)
        check_names("fact", card.learned, list(one._learned()))
        check_names("tensor", tensors, list(one._tensors()))
        answer = np.asarray(begin(one))
        if answer.shape != (1, sizes["C"]) or not np.isfinite(answer).all():
            raise ValueError(f"it answers one row with {answer.shape} numbers, not all of them finite")
        return one
    except KeyError as error:
        reason = f"it lacks {error}"
    except (DeponijError, *_MISFITS) as error:
        reason = told(error)
    raise StoreError(f"{where} does not fit this version's {made.kind!r}: {reason}; {REMEDY}")


def check_names(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse names that are unknown or missing.

    Raises:
        ValueError: naming them.
    """
    odd = {"unknown": set(given) - set(known), "missing": set(known) - set(given)}
    said = [f"{how}: {', '.join(sorted(names))}" for how, names in odd.items() if names]
    if said:
        raise ValueError(f"{what}s do not fit ({'; '.join(said)})")


def _check_tensors(made: type[Learned], tensors: Tensors, sizes: Mapping[str, int]) -> None:
    known = {**sizes, "1": 1}
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"tensor {name!r} is {tensor.dtype}, or not finite; tensors are finite float32")
        if (letters := made.shapes.get(name)) is not None:
            shape = tuple(
                known.setdefault(letter, side)
                for letter, side in zip(letters.split(), tensor.shape, strict=False)
            )
            if shape != tensor.shape or len(letters.split()) != tensor.ndim:
                raise ValueError(f"tensor {name!r} has shape {tensor.shape} instead of [{letters}] = {shape}")


def require(what: str, *conditions: Condition) -> None:
    """Refuse all values that are out of their range in one message.

    Raises:
        UsageError: some are not.
    """
    wrong = [said for is_fine, said in conditions if not is_fine]
    if wrong:
        raise UsageError(f"{what}: {'; '.join(wrong)}")


def are_positive(values: Sequence[float] | ArrayLike) -> bool:
    """Whether there are some, all of them finite and above 0."""
    array = np.asarray(values, dtype=np.float64)
    return bool(array.size and (np.isfinite(array) & (array > 0)).all())
