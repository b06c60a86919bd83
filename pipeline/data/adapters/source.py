"""One entry to all data sets: `open_source(name, params)` gives a stream of items with known columns."""

from collections.abc import Mapping
from typing import cast

from pydantic import BaseModel, ValidationError

from deponij.pipeline.data.adapters.registry import Source, source_class, source_names
from deponij.store.errors import UsageError

__all__ = ["Source", "open_source", "source_names"]


def open_source(name: str, params: BaseModel | Mapping[str, object]) -> Source:
    """Open a data set.

    Args:
        name: of a registered adapter: `coco`, `taco`, `folder` or `parquet`.
        params: the adapter's own model, or a mapping of its fields.

    Raises:
        UsageError: an unknown name, or parameters that do not fit; all of them are named.
        DataError: there is no such data set, or its lists are damaged.
    """
    adapter = source_class(name)
    if not isinstance(params, adapter.Params):
        fields = params.model_dump() if isinstance(params, BaseModel) else params
        try:
            params = adapter.Params.model_validate(fields)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg']} (got {one['input']!r})"
                for one in error.errors()
            )
            raise UsageError(f"parameters of the {name} data set: {wrong}") from error
    return cast(Source, adapter(params))
