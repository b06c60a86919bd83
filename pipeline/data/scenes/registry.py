"""Where sources of scenes register, what each of them promises (pictures with label maps, streamed), and the one entry to
all of them: `open_scenes`. Each source's module holds its own parameters and its own class.

How scenes lie on disk: `deponij.store.scenes`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol, cast

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ValidationError

from deponij.pipeline.data.adapters.registry import Progress
from deponij.pipeline.data.item import Item
from deponij.pipeline.data.parallel import Workers
from deponij.pipeline.registry import Registry
from deponij.store.errors import UsageError
from deponij.store.label_maps import VOID, Labels, SceneClass, pixel_counts

# Beside the columns of every item: what it belongs together with, the file of its label map, the classes on it.
SCENE_COLUMNS = pa.schema(
    [("group", pa.string()), ("label_file", pa.string()), ("label", pa.list_(pa.string()))]
)


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


# What in a picture's path names what it belongs together with, such as `(.+)_` before a frame's number.
GroupPattern = Annotated[str, AfterValidator(_expression)]


def group_by(pattern: str | None, path: str) -> str | None:
    """The group that a picture's path names: the first parenthesis of the expression, or all that it matches."""
    match = None if pattern is None else re.search(pattern, path)
    if match is None:
        return None
    return next((one for one in match.groups() if one is not None), match[0])


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole picture and what its pixels show.

    Attributes:
        item: with the columns of `SCENE_COLUMNS`; with a failure where it is left out.
        labels: [height_px, width_px] of the upright picture, class numbers and `VOID`; None where it is left out.
    """

    item: Item
    labels: Labels | None


class SceneSource(Protocol):
    """An opened data set of scenes.

    Opening reads lists and headers, and raises `DataError` where there is nothing to read.
    """

    @property
    def classes(self) -> tuple[SceneClass, ...]:
        """In the order of their numbers, 1 to 255 of them."""
        ...

    @property
    def n_scenes(self) -> int:
        """Number of scenes that `scenes` yields, failures included."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know and no scene says. What somebody should act on is a `ToAct`."""
        ...

    def scenes(self, *, workers: Workers = 1, progress: Progress | None = None) -> Iterator[Scene]:
        """Every scene once, in an order that depends on the data set alone.

        Args:
            workers: threads that read and decode ahead of the consumer; 0 for none.
            progress: called as scenes are handed out.
        """
        ...


# Classes with an attribute `Params`, a pydantic model, whose only argument is one of these.
_SOURCES: Registry[type[Any]] = Registry("kind of scenes", room="deponij.pipeline.data.scenes")
register_scenes = _SOURCES.register


def scene_sources() -> tuple[str, ...]:
    """Names of the registered sources, sorted."""
    return tuple(_SOURCES.entries())


def open_scenes(name: str, params: BaseModel | Mapping[str, object]) -> SceneSource:
    """Open a data set of scenes.

    Args:
        name: of a registered source: `label-maps`, `coco-masks`.
        params: the source's own model, or a mapping of its fields.

    Raises:
        UsageError: an unknown name, or parameters that do not fit; all of them are named.
        DataError: there is no such data set, its lists are damaged, or its classes cannot be told.
    """
    source = _SOURCES[name]
    if not isinstance(params, source.Params):
        fields = params.model_dump() if isinstance(params, BaseModel) else params
        try:
            params = source.Params.model_validate(fields)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']} (got {one['input']!r})"
                for one in error.errors()
            )
            raise UsageError(f"parameters of the {name} scenes: {wrong}") from error
    return cast(SceneSource, source(params))


def scene_of(item: Item, labels: Labels | None, classes: tuple[SceneClass, ...]) -> Scene:
    """A scene whose item tells which classes are on it; one that shows none of them is left out."""
    if labels is None:
        return Scene(item, None)
    numbers = np.flatnonzero(pixel_counts(labels)[:VOID])
    if not len(numbers):
        return left_out(item, "its label map says nothing: all of it is void")
    names = sorted(classes[number].name for number in numbers.tolist())
    return Scene(replace(item, metadata={**item.metadata, "label": names}), labels)


def left_out(item: Item, reason: str) -> Scene:
    """A scene that cannot be used, and why."""
    bare = Item(item.item_id, item.image_id, failure=reason, given=item.given, metadata=item.metadata)
    return Scene(bare, None)
