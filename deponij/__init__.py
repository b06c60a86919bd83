"""A feature store for vision: crop once, extract once, learn cheaply.

import deponij

run = deponij.open_run("runs/sample")
X, y, ids = run.examples("mini-openclip", part="train", labels="category", split="group")

Importing this is instant: a name brings in what it needs when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deponij.project.indexes import Hit, Index
    from deponij.services.library import (
        Labelled,
        Run,
        dataset,
        extract,
        import_embeddings,
        load_backbone,
        make_items,
        open_index,
        open_run,
    )
    from deponij.services.segment.library import segment
    from deponij.store.depot import FeatureStore
    from deponij.store.errors import DeponijError
    from deponij.store.identity import Identity
    from deponij.store.items import Items
    from deponij.store.reading import MapReader, Window
    from deponij.store.view import View

__version__: str

__all__ = [
    "DeponijError",
    "FeatureStore",
    "Hit",
    "Identity",
    "Index",
    "Items",
    "Labelled",
    "MapReader",
    "Run",
    "View",
    "Window",
    "__version__",
    "dataset",
    "extract",
    "import_embeddings",
    "load_backbone",
    "make_items",
    "open_index",
    "open_run",
    "segment",
]

_HOMES = {
    "DeponijError": "deponij.store.errors",
    "FeatureStore": "deponij.store.depot",
    "Hit": "deponij.project.indexes",
    "Identity": "deponij.store.identity",
    "Index": "deponij.project.indexes",
    "Items": "deponij.store.items",
    "MapReader": "deponij.store.reading",
    "View": "deponij.store.view",
    "Window": "deponij.store.reading",
    "segment": "deponij.services.segment.library",
}
_LIBRARY = "deponij.services.library"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'deponij' has no attribute {name!r}")
    if name == "__version__":
        return _installed_version()
    return getattr(import_module(_HOMES.get(name, _LIBRARY)), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _installed_version() -> str:
    # The one place it is written is pyproject.toml. Not imported above: it takes longer than all the rest.
    metadata = import_module("importlib.metadata")
    try:
        return str(metadata.version("deponij"))
    except metadata.PackageNotFoundError:
        return "unknown (a checkout that is not installed)"
