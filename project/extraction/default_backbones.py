"""Which backbones `deponij run` takes: those that are named, a preset's, or what is at hand. This is no stage.

And whether its pictures are drawn ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deponij.pipeline.backbones import describe, parse_spec
from deponij.pipeline.backbones.presets import AT_HAND, OFFERED, preset, presets
from deponij.pipeline.backbones.sources import is_present
from deponij.project.extraction.weight_sizes import to_fetch
from deponij.store.errors import BackboneError, UsageError

__all__ = ["BUILT_IN", "DEFAULT_BACKBONES", "OFFERED", "choose", "chosen", "is_drawn"]

# A real one, and one that knows words.
DEFAULT_BACKBONES = presets()[AT_HAND].backbones
# Where the weights of those are not here.
BUILT_IN = ("mini-openclip", "mini-siglip", "mini-dinov2")


def chosen(named: Sequence[str], preset_name: str | None) -> tuple[tuple[str, ...], str]:
    """The backbones that a person asked for, or the default; and a note on the latter, empty where they chose.

    Raises:
        UsageError: both were named, or there is no such preset.
        BackboneError: the preset's weights are not here; the message says how to bring them, how large they are and
            under which licence.
    """
    if named and preset_name:
        raise UsageError(
            f"--preset and --backbone both say which backbones to take; got --preset {preset_name} (that is "
            f"{', '.join(preset(preset_name).backbones)}) and {' '.join(f'--backbone {name}' for name in named)}. "
            "Leave one of them out; --backbone may be repeated"
        )
    if preset_name == AT_HAND or not (named or preset_name):
        return choose()
    if preset_name:
        return _of_preset(preset_name), ""
    return tuple(named), ""


def choose() -> tuple[tuple[str, ...], str]:
    """What is at hand, and what to say of it."""
    try:
        told = {name: describe(name) for name in DEFAULT_BACKBONES}
    except BackboneError as error:
        return BUILT_IN, (
            f"note: no --backbone given, and {error}. So {', '.join(BUILT_IN)} are used: toys that learnt from "
            "drawn litter only, to try things out (`deponij backbones` lists others)"
        )
    parsed = {name: parse_spec(name) for name in DEFAULT_BACKBONES}
    real = [f"{name} ({told[name].source}, {one.licence})" for name, one in parsed.items() if not one.toy]
    toys = [name for name, one in parsed.items() if one.toy]
    return DEFAULT_BACKBONES, (
        f"note: what is at hand is used: {', '.join(real)}, and for words {', '.join(toys)}: a toy that learnt from "
        "drawn litter only, marked wherever it stands"
    )


def _of_preset(name: str) -> tuple[str, ...]:
    chosen = preset(name)
    absent = [entry for entry in chosen.entries if not is_present(entry)]
    if absent:
        raise BackboneError(
            f"--preset {name} takes {' + '.join(chosen.backbones)}, and not all weights are on this machine.\n"
            + "\n".join(to_fetch(absent))
            + f"\n  `deponij weights fetch --preset {name}` brings them, once; it needs a network, and without one it says "
            "how to bring\n  them from another machine. `deponij backbones` lists what else there is"
        )
    return chosen.backbones


def is_drawn(options: Mapping[str, Any]) -> bool:
    """Whether a data set, by the options of its adapter, is a sample that the project drew: there the minis are no toys."""
    from deponij.sample.painter import is_drawn as is_drawn_file

    annotations = options.get("annotations")
    paths = annotations if isinstance(annotations, (list, tuple)) else [annotations]
    return all(path is not None and is_drawn_file(Path(path)) for path in paths)
