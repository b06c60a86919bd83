"""Typed records and lists of them as sealed JSON: what one stage found and another one shows."""

import json
from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from deponij.store.errors import StoreError
from deponij.store.sealed import opened, sealed

_REMEDY = "run the stage again that made it"

R = TypeVar("R")


class Record(BaseModel):
    """Frozen, and no other fields than it names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordList(Generic[R]):
    """Lists of one sort of record, as `records` of a sealed JSON document.

    Args:
        record: a pydantic model or a dataclass.
    """

    def __init__(self, record: type[R]) -> None:
        self._adapter = TypeAdapter(list[record])  # type: ignore[valid-type]

    def dump(self, records: Sequence[R]) -> bytes:
        """A JSON document; equal records give equal bytes."""
        return sealed({"records": json.loads(self._adapter.dump_json(list(records)))})

    def load(self, data: bytes, where: str) -> list[R]:
        """What `dump` gave.

        Raises:
            StoreError: damaged, edited, or of another version; `where` names the file in the message.
        """
        body = opened(data, where, _REMEDY)
        try:
            # As JSON, of which pydantic takes lists for tuples.
            return self._adapter.validate_json(json.dumps(body.get("records")))
        except ValidationError as error:
            raise StoreError(f"{where} is of another version: {told(error)}; {_REMEDY}") from error


def told(error: ValidationError) -> str:
    """What is wrong with a document in one line: the first field, and how many more there are."""
    first, *others = error.errors()
    place = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {len(others)} more)" if others else ""
    return f"{place}: {first['msg']}{more}"
