"""Which ensembles there are, by kind."""

from pathlib import Path

from pipeline.ensembles.ensemble import ENSEMBLES, Ensemble, EnsembleCard
from pipeline.registry import Registry


def _import_all() -> None:
    # They are named, so that dvc.yaml's dependencies can be checked.
    from pipeline.ensembles import greedy, means, pools, stacking  # noqa: F401


_ENSEMBLES: Registry[type[Ensemble]] = Registry("ensemble", attribute="kind", fill=_import_all)
register = _ENSEMBLES.register


def kinds() -> list[str]:
    """All kinds, sorted."""
    return list(_ENSEMBLES.entries())


def ensemble_class(kind: str) -> type[Ensemble]:
    """The class of a kind.

    Raises:
        UsageError: there is none; the message lists those there are and the nearest.
    """
    return _ENSEMBLES[kind]


def load_ensemble(folder: Path) -> tuple[Ensemble, EnsembleCard]:
    """Read a saved ensemble of whatever kind, and the card that names its members.

    Raises:
        StoreError: no ensemble, a damaged one, or of a newer format.
        UsageError: a kind that this version does not know.
    """
    card = ENSEMBLES.read_card(folder)
    return ensemble_class(card.kind).load(folder), card
