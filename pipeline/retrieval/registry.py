"""Which index types there are, by name."""

from deponij.pipeline.registry import Registry
from deponij.pipeline.retrieval.kind import IndexKind

_TYPES: Registry[type[IndexKind]] = Registry(
    "index type", attribute="name", room="deponij.pipeline.retrieval"
)
register = _TYPES.register


def kinds() -> list[str]:
    """All names, sorted."""
    return list(_TYPES.entries())


def index_kind(name: str) -> IndexKind:
    """The type of a name.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    return _TYPES[name]()
