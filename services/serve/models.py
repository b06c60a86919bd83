"""One index as the server asks it: its model is loaded aside, queries are encoded in batches. This is no stage."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deponij.project.bounded import BoundedCache
from deponij.project.in_force import recorded_backbone
from deponij.project.indexes import Index
from deponij.services.search.vectors import QueryEncoder, Vector
from deponij.services.serve.batching import Batcher, Ticket
from deponij.services.serve.counters import Counters
from deponij.services.serve.schema import Status
from deponij.store.errors import BackboneError, DeponijError, StoreError

# Runs a function on another thread.
Aside = Callable[..., Any]
_KEPT_TEXTS = 4096
_MAX_BATCH = 32


class LoadingError(DeponijError):
    """The model is not loaded yet; asking again later helps."""


class NoModelError(BackboneError):
    """The model cannot be had on this machine."""


class NoTextError(BackboneError):
    """The model has no text tower."""


class ServedModel:
    """Makes query vectors for one index.

    Args:
        name: of the index.
        executor: of one thread, on which all models compute.
    """

    def __init__(self, name: str, encoder: QueryEncoder, executor: Executor, counters: Counters) -> None:
        self.name = name
        self.index = encoder.index
        self.status: Status = "loading"
        self.message = "the model is being loaded; items and stored words can be asked for"
        self.has_text = _recorded_text(self.index)
        self._encoder = encoder
        self._kept: BoundedCache[Vector] = BoundedCache(_KEPT_TEXTS)
        self._texts: Batcher[str, Vector] = Batcher(
            lambda texts: list(encoder.embed_texts(texts)),
            executor,
            max_batch=_MAX_BATCH,
            seen=counters.batch_of(name, "text"),
        )
        self._pictures: Batcher[NDArray[np.float32], Vector] = Batcher(
            lambda pixels: list(encoder.embed_pixels(pixels)),
            executor,
            max_batch=_MAX_BATCH,
            seen=counters.batch_of(name, "picture"),
        )

    @property
    def input_px(self) -> tuple[int, int] | None:
        """(height, width) of what the backbone is given of a picture; None where the features' identity does not say."""
        try:
            transform = json.loads(self.index.identity.transform)
            height, width = transform["crop_px"] or transform["resize_px"]
            return int(height), int(width)
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def n_waiting(self) -> int:
        """Texts and pictures in the queue."""
        return self._texts.n_waiting + self._pictures.n_waiting

    def load(self) -> None:
        """Load the model; what is wrong with it is kept for those who ask."""
        try:
            self._encoder.load()
        except (DeponijError, ImportError, OSError, RuntimeError) as error:
            self.status, self.message = "failed", str(error)
        else:
            self.has_text = self._encoder.has_text
            self.status, self.message = "ready", ""

    def stored_text(self, text: str) -> Vector | None:
        """The vector of words that are stored or were encoded lately; None where they were not."""
        vector = self._kept.get(text)
        if vector is None and (vector := self._encoder.text_of_views(text)) is not None:
            self._kept.put(text, vector)
        return vector

    async def of_text(self, text: str) -> Vector:
        """Words as a vector, encoded now.

        Raises:
            LoadingError, NoModelError, NoTextError: there is no model to encode them with.
            BusyError: too many wait.
        """
        if self.has_text is False:
            raise NoTextError(f"{self.name} has no text tower, so it cannot be asked with words")
        self._require_model()
        vector = await _answered(self._texts.submit(text, text))
        self._kept.put(text, vector)
        return vector

    async def of_picture(self, content: bytes, name: str, aside: Aside) -> Vector:
        """An encoded picture as a vector; it is decoded on a thread of `aside`.

        Raises:
            PictureError: it cannot be read.
            LoadingError, NoModelError, BusyError: as for words.
        """
        self._require_model()
        pixels = await aside(self._encoder.pixels, content, name)
        return await _answered(self._pictures.submit(hashlib.sha256(content).digest(), pixels))

    def _require_model(self) -> None:
        if self.status == "loading":
            raise LoadingError(
                f"the model of {self.name} is still being loaded; ask again in a few seconds. Items and stored "
                "words can be asked for now"
            )
        if self.status == "failed":
            raise NoModelError(
                f"the model of {self.name} is not to be had here, so only items and stored words can be asked for: "
                f"{self.message}"
            )


async def _answered(ticket: Ticket[Vector]) -> Vector:
    # The future is shared with others: who goes away must not take it with him.
    return ticket.chosen(await asyncio.shield(asyncio.wrap_future(ticket.answers)))


def _recorded_text(index: Index) -> bool | None:
    """Whether the index's backbone has a text tower, as its run wrote down; None where that is not known."""
    try:
        record = recorded_backbone(index.path)
    except StoreError:
        return None
    return None if record is None or "text_dim" not in record else record["text_dim"] is not None


def distinct_names(indexes: Sequence[Index]) -> list[str]:
    """What to call each index: by its backbone, or where these repeat by its folder."""
    names = [index.backbone for index in indexes]
    return names if len(set(names)) == len(names) else [index.path.name for index in indexes]
