"""Which index types there are, by name."""

from pipeline.registry import Registry
from pipeline.retrieval.kind import IndexKind


def _import_all() -> None:
    # Here and not above, for each of them imports this module.
    from pipeline.retrieval import flat, hnsw, ivf, ivfpq  # noqa: F401


_TYPES: Registry[type[IndexKind]] = Registry("index type", attribute="name", fill=_import_all)
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
