"""Which heads there are, by kind."""

from pathlib import Path

from deponij.pipeline.heads.head import HEADS, Head
from deponij.pipeline.registry import Registry

_HEADS: Registry[type[Head]] = Registry("head", attribute="kind", room="deponij.pipeline.heads")
register = _HEADS.register


def head_class(kind: str) -> type[Head]:
    """The head of a kind, whose words may be joined by underscores too.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    return _HEADS[kind if kind in _HEADS.entries() else kind.replace("_", "-")]


def kinds() -> list[str]:
    """All kinds, sorted."""
    return list(_HEADS.entries())


def load_head(folder: Path) -> Head:
    """Read a saved head of whatever kind its card names.

    Raises:
        StoreError: no head, a damaged one, or of a newer format.
        UsageError: a kind that this version does not know.
    """
    return head_class(HEADS.read_card(folder).kind).load(folder)
