"""Which index types there are. The decorator sits on the definition; one contract suite runs over all."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeVar

from pipeline.retrieval.kind import IndexKind
from store.errors import UsageError

K = TypeVar("K", bound=type[IndexKind])

_KINDS: dict[str, IndexKind] = {}


def register(name: str) -> Callable[[K], K]:
    """Enter an index type under its name.

    Raises:
        ValueError: another type has that name already.
    """

    def enter(kind: K) -> K:
        known = _KINDS.get(name)
        if known is not None and type(known) is not kind:
            raise ValueError(
                f"index type {name!r} is taken by {type(known).__module__}.{type(known).__qualname__}"
            )
        kind.name = name
        _KINDS[name] = kind()
        return kind

    return enter


def kinds() -> list[str]:
    """All names, sorted."""
    # Importing a type enters it; here and not above, for each of them imports this module.
    from pipeline.retrieval import flat, hnsw, ivf, ivfpq  # noqa: F401

    return sorted(_KINDS)


def index_kind(name: str) -> IndexKind:
    """The type of a name.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    known = kinds()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"there is no index type {name!r}; known: {', '.join(known)}.{hint}")
    return _KINDS[name]
