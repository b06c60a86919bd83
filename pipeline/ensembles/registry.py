"""Which ensembles there are, by kind."""

from pathlib import Path

from deponij.pipeline.ensembles.ensemble import ENSEMBLES, Ensemble, EnsembleCard
from deponij.pipeline.registry import Registry

_ENSEMBLES: Registry[type[Ensemble]] = Registry(
    "ensemble", attribute="kind", room="deponij.pipeline.ensembles"
)
register = _ENSEMBLES.register
# An unknown kind is a UsageError that lists those there are and the nearest.
ensemble_class = _ENSEMBLES.__getitem__


def kinds() -> list[str]:
    """All kinds, sorted."""
    return list(_ENSEMBLES.entries())


def load_ensemble(folder: Path) -> tuple[Ensemble, EnsembleCard]:
    """Read a saved ensemble of whatever kind, and the card that names its members.

    Raises:
        StoreError: no ensemble, a damaged one, or of a newer format.
        UsageError: a kind that this version does not know.
    """
    card = ENSEMBLES.read_card(folder)
    return ensemble_class(card.kind).load(folder), card
