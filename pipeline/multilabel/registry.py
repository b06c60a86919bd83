"""Which multi-label heads there are, by kind."""

from pathlib import Path

from deponij.pipeline.multilabel.head import MULTILABEL_HEADS, MultilabelHead
from deponij.pipeline.registry import Registry

_HEADS: Registry[type[MultilabelHead]] = Registry(
    "multi-label head", attribute="kind", room="deponij.pipeline.multilabel"
)
register = _HEADS.register


def multilabel_class(kind: str) -> type[MultilabelHead]:
    """The head of a kind.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    return _HEADS[kind]


def kinds() -> list[str]:
    """All kinds, sorted."""
    return list(_HEADS.entries())


def load_multilabel(folder: Path) -> MultilabelHead:
    """Read a saved multi-label head of whatever kind its card names.

    Raises:
        StoreError: no such head, a damaged one, or of a newer format.
        UsageError: a kind that this version does not know.
    """
    return multilabel_class(MULTILABEL_HEADS.read_card(folder).kind).load(folder)
