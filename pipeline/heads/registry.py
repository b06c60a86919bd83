"""Which heads there are, by kind."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pipeline.heads
from pipeline.heads.head import HEADS, Head
from pipeline.registry import Registry


def _import_all() -> None:
    # A light stage that needs one head imports only that one and looks nothing up.
    for module in iter_modules(pipeline.heads.__path__):
        import_module(f"pipeline.heads.{module.name}")


_HEADS: Registry[type[Head]] = Registry("head", attribute="kind", fill=_import_all)
register = _HEADS.register


def kinds() -> list[str]:
    """All kinds, sorted."""
    return list(_HEADS.entries())


def head_class(kind: str) -> type[Head]:
    """The class of a kind.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    return _HEADS[kind]


def load_head(folder: Path) -> Head:
    """Read a saved head of whatever kind its card names.

    Raises:
        StoreError: no head, a damaged one, or of a newer format.
        UsageError: a kind that this version does not know.
    """
    return head_class(HEADS.read_card(folder).kind).load(folder)
