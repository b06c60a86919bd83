"""Which heads there are, by kind."""

from pathlib import Path

from deponij.pipeline.heads.head import HEADS, Head
from deponij.pipeline.registry import Registry

_HEADS: Registry[type[Head]] = Registry("head", attribute="kind", room="deponij.pipeline.heads")
register = _HEADS.register


# An unknown kind is a UsageError that lists those there are and the nearest.
head_class = _HEADS.__getitem__


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
