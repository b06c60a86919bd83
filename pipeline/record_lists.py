"""Typed records and lists of them as sealed JSON: what one stage found and another one shows."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from deponij.store.errors import StoreError
from deponij.store.sealed import opened, sealed

REMEDY = "run the stage again that made it"

R = TypeVar("R")


class Record(BaseModel):
    """Frozen, and no other fields than it names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def rounded(value: Any) -> Any:
    """Numbers to six digits, also those in lists and dicts: the last ones change with the machine and its threads."""
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {name: rounded(one) for name, one in value.items()}
        case list() | tuple():
            return type(value)(rounded(one) for one in value)
        case _:
            return value


SixDigits = Annotated[float, AfterValidator(rounded)]


class Measured(Record):
    """A record of numbers that are sums over features or probabilities, kept to six digits. Counts need no rounding."""

    @model_validator(mode="after")
    def _rounded(self) -> Self:
        # The record is frozen once it is made.
        self.__dict__.update({name: rounded(value) for name, value in self})
        return self


class RecordList(Generic[R]):
    """Lists of one sort of record, as `records` of a sealed JSON document.

    Args:
        record: a pydantic model or a dataclass.
    """

    def __init__(self, record: type[R]) -> None:
        self._adapter = TypeAdapter(list[record])  # type: ignore[valid-type]

    def dump(self, records: Sequence[R], **beside: Any) -> bytes:
        """A JSON document; equal records give equal bytes.

        Args:
            beside: further fields of the document.
        """
        return sealed({**beside, "records": json.loads(self._adapter.dump_json(list(records)))})

    def load(self, data: bytes, where: str) -> list[R]:
        """What `dump` gave.

        Raises:
            StoreError: damaged, edited, or of another version; `where` names the file in the message.
        """
        body = opened(data, where, REMEDY)
        try:
            records = self._adapter.validate_json(json.dumps(body.get("records")), strict=True)
            require_complete(records)
            return records
        except ValueError as error:
            raise StoreError(f"{where} is of another version: {told(error)}; {REMEDY}") from error


M = TypeVar("M", bound=BaseModel)


def parsed(model: type[M], data: bytes | str) -> M:
    """A model from the JSON that it was dumped to; nothing is converted, and no default stands in.

    Raises:
        ValueError: a field is missing or of another type, as when another version wrote it; for `told`.
    """
    record = model.model_validate_json(data, strict=True)
    require_complete(record)
    return record


def require_complete(value: Any, place: str = "") -> None:
    """Refuse models, also in lists and mappings, of which a field was not given: a default would stand in silently.

    Raises:
        ValueError: naming the first such field.
    """
    if isinstance(value, BaseModel):
        absent = sorted(set(type(value).model_fields) - value.model_fields_set)
        if absent:
            raise ValueError(f"{place}{absent[0]}: Field required")
        for name in type(value).model_fields:
            require_complete(getattr(value, name), f"{place}{name}.")
    elif isinstance(value, Mapping):
        for name, one in value.items():
            require_complete(one, f"{place}{name}.")
    elif isinstance(value, (list, tuple)):
        for number, one in enumerate(value):
            require_complete(one, f"{place}{number}.")


def told(error: Exception) -> str:
    """What is wrong with a document in one line: the first field, and how many more there are."""
    if not isinstance(error, ValidationError):
        return str(error)
    first, *others = error.errors()
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {len(others)} more)" if others else ""
    return f"{place}: {first['msg']}{more}"
