"""Backbones that go together under one name, for who cannot choose among twenty: data (`presets.json`), smallest first.

What each costs follows from its entries in the catalog; why these, and what they cost, is in docs/backbones.md.
"""

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from deponij.pipeline.backbones.catalog import Entry, entries
from deponij.pipeline.registry import unknown

# What is taken where nobody chooses, and what is then offered in its place.
AT_HAND, OFFERED = "at-hand", "good"


class Preset(BaseModel):
    """A choice of backbones.

    Attributes:
        name: what the user calls it.
        backbones: names of the catalog, in the order in which a run takes them.
        says: whom it is for, in a few words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    backbones: tuple[str, ...]
    says: str

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Its backbones' entries in the catalog."""
        return tuple(entries()[name] for name in self.backbones)

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences of its weights, each once, in their order."""
        return tuple(dict.fromkeys(entry.licence or "unknown licence" for entry in self.entries))


@lru_cache(maxsize=1)
def presets() -> dict[str, Preset]:
    """All of them by name, the cheapest first."""
    data = (Path(__file__).parent / "presets.json").read_bytes()
    return {preset.name: preset for preset in TypeAdapter(list[Preset]).validate_json(data)}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: there is none; the message lists them and the nearest.
    """
    if name not in presets():
        raise unknown("preset", name, presets())
    return presets()[name]


def preset_of(backbone: str) -> str | None:
    """The preset that takes a backbone of the catalog; None where none does."""
    return next((one.name for one in presets().values() if backbone in one.backbones), None)
