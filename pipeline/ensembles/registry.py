"""Which ensembles there are, by kind. The decorator sits on the definition; one contract suite runs over all."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from pipeline.ensembles.ensemble import Ensemble, EnsembleCard, read_card
from store.errors import UsageError

E = TypeVar("E", bound=type[Ensemble])

_KINDS: dict[str, type[Ensemble]] = {}


def register(kind: str) -> Callable[[E], E]:
    """Enter an ensemble's class under its kind.

    Raises:
        ValueError: another class has that kind already.
    """

    def enter(ensemble: E) -> E:
        known = _KINDS.setdefault(kind, ensemble)
        if known is not ensemble:
            raise ValueError(f"ensemble kind {kind!r} is taken by {known.__module__}.{known.__qualname__}")
        ensemble.kind = kind
        return ensemble

    return enter


def kinds() -> list[str]:
    """All kinds, sorted."""
    _import_all()
    return sorted(_KINDS)


def ensemble_class(kind: str) -> type[Ensemble]:
    """The class of a kind.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    _import_all()
    if kind not in _KINDS:
        near = get_close_matches(kind, _KINDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"there is no ensemble {kind!r}; known: {', '.join(kinds())}.{hint}")
    return _KINDS[kind]


def load_ensemble(folder: Path) -> tuple[Ensemble, EnsembleCard]:
    """Read a saved ensemble of whatever kind, and the card that names its members.

    Raises:
        StoreError: no ensemble, a damaged one, or of a newer format.
        UsageError: a kind that this version does not know.
    """
    card = read_card(folder)
    return ensemble_class(card.kind).load(folder), card


def _import_all() -> None:
    # Importing a module runs its decorators. They are named, so that dvc.yaml's dependencies can be checked.
    from pipeline.ensembles import greedy, means, pools, stacking  # noqa: F401
