"""Typed records and lists of them as JSON: what one stage found and another one shows."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from deponij.store.errors import StoreError

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


SixDigits = Annotated[float, BeforeValidator(rounded)]


class Measured(Record):
    """A record of numbers that are sums over features or probabilities, kept to six digits. Counts need no rounding."""

    @model_validator(mode="before")
    @classmethod
    def _rounded(cls, values: Any) -> Any:
        return rounded(values)


class RecordList(Generic[R]):
    """Lists of one sort of record.

    Args:
        record: a pydantic model or a dataclass.
    """

    def __init__(self, record: type[R]) -> None:
        self._adapter = TypeAdapter(list[record])  # type: ignore[valid-type]

    def dump(self, records: Sequence[R]) -> bytes:
        """A JSON list; equal records give equal bytes."""
        return self._adapter.dump_json(list(records), indent=1) + b"\n"

    def load(self, data: bytes, where: str) -> list[R]:
        """What `dump` gave.

        Raises:
            StoreError: damaged; `where` names the file in the message.
        """
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            raise StoreError(f"{where} is damaged or of another version: {error}") from error
