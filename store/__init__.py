"""What is on disk: keys, identities, shards, depots, views, items. Knows no torch and no pipeline.

from deponij.store import FeatureStore, Identity, Items, View
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deponij.store.depot import FeatureStore
    from deponij.store.identity import Identity
    from deponij.store.items import Items
    from deponij.store.view import View

__all__ = ["FeatureStore", "Identity", "Items", "View"]

_HOMES = {
    "FeatureStore": "deponij.store.depot",
    "Identity": "deponij.store.identity",
    "Items": "deponij.store.items",
    "View": "deponij.store.view",
}


def __getattr__(name: str) -> Any:
    # Looked up on demand: errors and keys are imported by modules that must not pay for HDF5.
    if name not in _HOMES:
        raise AttributeError(f"module 'deponij.store' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
