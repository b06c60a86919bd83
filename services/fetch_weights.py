"""`deponij weights fetch`: published weights brought to this machine, with what that takes said first."""

from collections.abc import Callable, Sequence
from pathlib import Path

from deponij.pipeline.backbones.access import resolved
from deponij.pipeline.backbones.catalog import Entry, parse_spec
from deponij.pipeline.backbones.fetch import fetch_entry
from deponij.pipeline.backbones.presets import preset
from deponij.pipeline.backbones.sources import is_present, locate
from deponij.project.extraction.weight_sizes import require_room, to_fetch
from deponij.store.errors import BackboneError, UsageError

Announce = Callable[[str], None]


def fetch_all(
    names: Sequence[str], preset_name: str | None = None, announce: Announce = lambda line: None
) -> dict[str, Path]:
    """Fetch what is not here yet; the folder of each backbone by its name.

    Args:
        names: of the catalog, or forms of `parse_spec` that name a hub repository.
        preset_name: adds a preset's.
        announce: given lines on what is about to be fetched, before anything is.

    Raises:
        UsageError: nothing is named, or an unknown name.
        BackboneError: there is no room or no network, or the hub does not give the files.
    """
    specs = dict.fromkeys([*names, *(preset(preset_name).backbones if preset_name else ())])
    if not specs:
        raise UsageError(
            "name backbones (`deponij backbones` lists them), or --preset NAME for those that go together"
        )
    entries: dict[str, Entry] = {spec: resolved(parse_spec(spec)) for spec in specs}
    absent = [entry for entry in entries.values() if entry.repo is not None and not is_present(entry)]
    if absent:
        announce("\n".join(["to be fetched:", *to_fetch(absent)]))
        require_room(absent)
    fetched = {}
    for spec, entry in entries.items():
        try:
            fetched[spec] = fetch_entry(entry)
        except BackboneError as error:
            later = [other.name for other in absent[absent.index(entry) + 1 :]] if entry in absent else []
            more = f"\n  After it there are still to be fetched: {', '.join(later)}." if later else ""
            raise BackboneError(f"{error}{more}") from error
    return fetched


def origin(spec: str) -> str:
    """Where weights that no hub gave come from, and their licence; empty for a hub's."""
    entry = parse_spec(spec)
    return f" ({locate(entry).source}, licence {entry.licence})" if entry.packaged else ""
