"""Which heads there are, by kind. The decorator sits on the definition; one contract suite runs over all."""

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TypeVar

import pipeline.heads
from pipeline.heads.head import Head, read_card
from store.errors import UsageError

H = TypeVar("H", bound=type[Head])

_KINDS: dict[str, type[Head]] = {}


def register(kind: str) -> Callable[[H], H]:
    """Enter a head's class under its kind.

    Raises:
        ValueError: another class has that kind already.
    """

    def enter(head: H) -> H:
        known = _KINDS.setdefault(kind, head)
        if known is not head:
            raise ValueError(f"head kind {kind!r} is taken by {known.__module__}.{known.__qualname__}")
        head.kind = kind
        return head

    return enter


def kinds() -> list[str]:
    """All kinds, sorted."""
    _import_all()
    return sorted(_KINDS)


def head_class(kind: str) -> type[Head]:
    """The class of a kind.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    _import_all()
    if kind not in _KINDS:
        near = get_close_matches(kind, _KINDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"there is no head {kind!r}; known: {', '.join(kinds())}.{hint}")
    return _KINDS[kind]


def load_head(folder: Path) -> Head:
    """Read a saved head of whatever kind its card names.

    Raises:
        StoreError: no head, a damaged one, or of a newer format.
        UsageError: a kind that this version does not know.
    """
    return head_class(read_card(folder).kind).load(folder)


def _import_all() -> None:
    # Importing a module runs its decorators; a light stage that needs one head imports only that one.
    for module in iter_modules(pipeline.heads.__path__):
        import_module(f"pipeline.heads.{module.name}")
