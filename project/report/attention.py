"""Where heads look that attend to parts of pictures: what they have left of it, read and drawn. This is no stage."""

import base64
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel

from deponij.pipeline.heads.head import HEADS
from deponij.pipeline.metrics.predictions import Predictions
from deponij.pipeline.pictures import decode
from deponij.pipeline.reports.attention import AttentionFacts, Looked, lit
from deponij.pipeline.reports.samples import Sample, data_uri
from deponij.project.learning.result_files import RESULT_NAME, read_file, read_result
from deponij.project.report.runs import Standing, Told
from deponij.store.errors import PictureError, StoreError
from deponij.store.items import Items

# Left, top, right and lower edge in px; of a picture of (width, height).
Box = tuple[float, float, float, float]
Seen = Callable[[tuple[int, int]], Box]
# Of each answer right and wrong, and on the page.
_SHOWN = 4
_SIDE_PX = 112
_MAX_QUERIES = 8


class StoredAttention(BaseModel):
    """What a head's `study` tells of its attention.

    Attributes:
        ids: of n test items.
        grid: (h, w).
        shares: base64 of uint8 [n, M, h, w]: each query's attention, 255 where it is largest.
    """

    ids: list[str]
    grid: tuple[int, int]
    shares: str

    @property
    def maps(self) -> NDArray[np.uint8]:
        """[n, M, h, w]."""
        found = np.frombuffer(base64.b64decode(self.shares, validate=True), np.uint8)
        return found.reshape(len(self.ids), -1, *self.grid)


def attention_facts(found: Sequence[Standing], table: Items, told: Told) -> list[AttentionFacts]:
    """Of each classifier that has left its attention, some wrong and some right answers; the chosen one's come first.

    Raises:
        StoreError: a results folder is damaged.
    """
    facts = []
    for standing in found:
        classifiers = zip(standing.rows, standing.folders, standing.evaluations, strict=True)
        for row, folder, evaluation in sorted(classifiers, key=lambda one: one[0].rank):
            stored = _stored(folder)
            if stored is None:
                continue
            looked = _looked(stored, read_result(folder)[1], table, _seen_of(folder))
            wrong, right = (
                [one for one in looked if one.sample.correct == is_right] for is_right in (False, True)
            )
            if looked:
                source = told.of(row, [evaluation], folder)
                facts.append(
                    AttentionFacts(
                        row, wrong[:_SHOWN], right[:_SHOWN], stored.grid, stored.maps.shape[1], source
                    )
                )
    return facts


def _stored(folder: Path) -> StoredAttention | None:
    """What the head of a results folder has left; None where it has no attention."""
    learned = json.loads(read_file(folder, RESULT_NAME)).get("learned", {})
    told = learned.get("attention") if isinstance(learned, dict) else None
    if told is None:
        return None
    try:
        stored = StoredAttention.model_validate(told)
        _ = stored.maps
    except ValueError as error:
        raise StoreError(
            f"{folder / RESULT_NAME} is of another version: {error}; run its stage again"
        ) from error
    return stored


def _seen_of(folder: Path) -> Seen | None:
    """What the head's backbone was shown of a picture of some size; None where its features' identity does not say."""
    try:
        (source,) = HEADS.read_card(folder).sources
        record = json.loads(source.identity["transform"])
        resize, crop = record["resize"], record["crop_px"]
        aimed, cropped = (tuple(map(int, one)) for one in (record["resize_px"], crop or record["resize_px"]))
    except (ValueError, KeyError, TypeError):
        return None
    if resize == "squash" and crop is None:
        return lambda size: (0, 0, *size)
    if resize not in ("shortest", "cover") or any(c > a for c, a in zip(cropped, aimed, strict=True)):
        return None

    def middle(size: tuple[int, int]) -> Box:
        """The picture is enlarged until it covers what is aimed at; of that the middle is cropped."""
        scale = max(aimed[1] / size[0], aimed[0] / size[1])
        width, height = min(size[0], cropped[1] / scale), min(size[1], cropped[0] / scale)
        left, top = (size[0] - width) / 2, (size[1] - height) / 2
        return left, top, left + width, top + height

    return middle


def _looked(
    stored: StoredAttention, predictions: Predictions, table: Items, seen_of: Seen | None
) -> list[Looked]:
    """The stored items whose pictures can be decoded, in their order."""
    places = {item_id: row for row, item_id in enumerate(predictions.ids.tolist())}
    known = {
        i: shares
        for i, shares in zip(stored.ids, stored.maps, strict=True)
        if i in table.places and i in places
    }
    if seen_of is None:
        return []
    rows, found = {table.places[item_id]: item_id for item_id in known}, {}
    for row, content in table.found(list(rows), only_there=True):
        if isinstance(content, StoreError):
            # Told where its thumbnail would be.
            continue
        with suppress(PictureError):
            picture = decode(content).convert("RGB")
            box = seen_of(picture.size)
            side = _SIDE_PX / max(box[2] - box[0], box[3] - box[1])
            size = (max(1, round(side * (box[2] - box[0]))), max(1, round(side * (box[3] - box[1]))))
            found[rows[row]] = picture.resize(size, Image.Resampling.LANCZOS, box=box)
    looked = []
    for item_id, seen in found.items():
        i, shares = places[item_id], known[item_id].astype(np.float64)
        sums = shares / shares.sum(axis=(1, 2), keepdims=True)
        sample = Sample(
            item_id,
            str(predictions.truth[i]),
            str(predictions.top_labels[i, 0]),
            float(predictions.top_probs[i, 0]),
        )
        queries = [data_uri(lit(seen, one)) for one in sums[:_MAX_QUERIES]]
        looked.append(Looked(sample, data_uri(seen), data_uri(lit(seen, sums.mean(axis=0))), queries))
    order = {item_id: n for n, item_id in enumerate(stored.ids)}
    return sorted(looked, key=lambda one: order[one.sample.item_id])
