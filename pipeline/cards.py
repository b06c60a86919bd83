"""How learned things are kept: a folder with tensors (safetensors) and a card (JSON) that says how to apply them.

The card is written last and holds the hash of the tensors, so half a folder is noticed. Nothing is pickled, and the
same thing gives the same bytes. What heads and ensembles tell of themselves for it: `Learned`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from deponij.pipeline.record_lists import Record
from deponij.store.atomic import write_bytes
from deponij.store.errors import DataError, StoreError, UsageError

Tensors = Mapping[str, NDArray[np.float32]]
# Whether a value is fine, and what to say where it is not.
Condition = tuple[bool, str]


class Card(Record):
    """What every card has.

    Attributes:
        kind: its name in the registry.
        tensors_sha256: of the file beside it; of no bytes where there are no tensors.
    """

    kind: str
    tensors_sha256: str


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

    def write(self, folder: Path, tensors: Tensors, make_card: Callable[[str], C]) -> None:
        """Write the tensors, if any, then the card.

        Args:
            folder: made where it is missing.
            make_card: from the tensors' hash.
        """
        from safetensors.numpy import save

        ordered = {name: np.ascontiguousarray(array) for name, array in sorted(tensors.items())}
        data = save(ordered) if ordered else b""
        card = make_card(hashlib.sha256(data).hexdigest())
        if data:
            write_bytes(folder / self.tensors_name, data)
        else:
            (folder / self.tensors_name).unlink(missing_ok=True)
        write_bytes(folder / self.card_name, f"{card.model_dump_json(indent=2)}\n".encode())

    def read_card(self, folder: Path) -> C:
        """The card alone.

        Raises:
            StoreError: there is none, or it is damaged, or of an older or a newer format.
        """
        path = folder / self.card_name
        if not path.is_file():
            raise StoreError(f"there is no {self.what} in {folder}: it has no {self.card_name}")
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(document, dict) and document.get("format") in range(1, self.newest):
                raise StoreError(f"{path} was written by an older version; run the stage again that made it")
            return self.card.model_validate(document)
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{path} cannot be read, is damaged or of a newer format: {error}") from error

    def read(self, folder: Path, kind: str) -> tuple[C, Tensors]:
        """The card and the tensors.

        Raises:
            StoreError: the folder holds nothing of this sort and kind, or something damaged.
        """
        from safetensors.numpy import load

        card = self.read_card(folder)
        if card.kind != kind:
            raise StoreError(f"the {self.what} in {folder} is of kind {card.kind!r}, not {kind!r}")
        path = folder / self.tensors_name
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != card.tensors_sha256:
            raise StoreError(f"{path} is missing or is not the file that {self.card_name} was written for")
        return card, load(data) if data else {}


@dataclass(frozen=True, slots=True)
class Fact:
    """How a learned attribute becomes JSON, and how it is made of that again."""

    write: Callable[[Any], Any] = lambda value: value
    read: Callable[[Any], Any] = lambda value: value


PLAIN = Fact()
LIST = Fact(list, tuple)
ARRAY = Fact(lambda array: array.tolist(), np.asarray)
# JSON knows no NaN.
NUMBER = Fact(
    lambda value: None if np.isnan(value) else value, lambda value: np.nan if value is None else value
)


def rows_of(record: type) -> Fact:
    """Facts that are a tuple of dataclasses: a list of their values each."""
    return Fact(
        lambda records: [list(astuple(one)) for one in records],
        lambda rows: tuple(record(*row) for row in rows),
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
        facts: attributes, without the underscore, for the card.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    apply: ClassVar[str]
    tensors: ClassVar[Mapping[str, str]] = {}
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
