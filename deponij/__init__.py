"""A feature store for vision: crop once, extract once, learn cheaply."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__: str


def __getattr__(name: str) -> Any:
    # Looked up on demand, so that `import deponij` is instant.
    if name == "__version__":
        # The one place it is written is pyproject.toml.
        metadata = import_module("importlib.metadata")
        try:
            return metadata.version("deponij")
        except metadata.PackageNotFoundError:
            return "unknown (a checkout that is not installed)"
    raise AttributeError(f"module 'deponij' has no attribute {name!r}")
