"""Typed records and lists of them as JSON: what one stage found and another one shows."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from deponij.store.errors import StoreError

R = TypeVar("R")


class Record(BaseModel):
    """Frozen, and no other fields than it names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
