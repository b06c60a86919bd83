"""How learned things are kept: a folder with tensors (safetensors) and a card (JSON) that says how to apply them.

The card is written last and holds the hash of the tensors, so half a folder is noticed. Nothing is pickled, and the
same thing gives the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from deponij.store.errors import StoreError

Tensors = Mapping[str, NDArray[np.float32]]


class Card(BaseModel):
    """What every card has.

    Attributes:
        tensors_sha256: of the file beside it; of no bytes where there are no tensors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    tensors_sha256: str


C = TypeVar("C", bound=Card)


@dataclass(frozen=True, slots=True)
class CardFolder(Generic[C]):
    """Folders that hold one sort of learned thing.

    Attributes:
        what: it is, for messages. name: of its files, without their endings. card: its card's class.
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
            folder: made where it is missing. make_card: from the tensors' hash.
        """
        from safetensors.numpy import save

        ordered = {name: np.ascontiguousarray(array) for name, array in sorted(tensors.items())}
        data = save(ordered) if ordered else b""
        card = make_card(hashlib.sha256(data).hexdigest())
        folder.mkdir(parents=True, exist_ok=True)
        if data:
            (folder / self.tensors_name).write_bytes(data)
        else:
            (folder / self.tensors_name).unlink(missing_ok=True)
        (folder / self.card_name).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")

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
