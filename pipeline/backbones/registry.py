"""The families there are. A family registers itself with the decorator on its class.

Which weights exist is in `catalog`; how to get at them in `access`. Importing this module imports no
model library: families import theirs when they open a model.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from pipeline.backbones.contract import Backbone
from store.errors import BackboneError, UsageError

_N_NAMES_SHOWN = 50  # open_clip alone has hundreds of architectures
_families: dict[str, type[Backbone]] = {}
Family = TypeVar("Family", bound=type[Backbone])


def register(name: str) -> Callable[[Family], Family]:
    """Class decorator that enters a family under `name`.

    Raises:
        ValueError: the name is taken.
    """

    def enter(cls: Family) -> Family:
        if name in _families:
            raise ValueError(f"backbone family {name!r} is registered twice: {_families[name]} and {cls}")
        cls.family = name
        _families[name] = cls
        return cls

    return enter


def unregister(name: str) -> None:
    """Take a family out again (tests register families of their own)."""
    _families.pop(name, None)


def families() -> Mapping[str, type[Backbone]]:
    """Families by name, in the order of registration."""
    return dict(_families)


def family(name: str) -> type[Backbone]:
    """The family of that name.

    Raises:
        UsageError: there is none; the message lists the known ones and the nearest.
    """
    if name not in _families:
        raise unknown("backbone family", name, _families)
    return _families[name]


def family_of(folder: Path) -> type[Backbone]:
    """The family whose files lie in `folder`.

    Raises:
        BackboneError: no family or more than one claims it.
    """
    claiming = [cls for cls in _families.values() if cls.claims(folder)]
    if len(claiming) == 1:
        return claiming[0]
    if claiming:
        names = ", ".join(cls.family for cls in claiming)
        raise BackboneError(f"{folder}: more than one family claims it: {names}")
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise BackboneError(
        f"{folder}: no backbone family knows these files (found: {found}). Known: an open_clip folder "
        "(open_clip_config.json), a transformers folder (config.json) of model_type siglip, dinov2 or "
        "dinov2_with_registers, a timm folder (config.json with architecture and pretrained_cfg)"
    )


def unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not there: the known ones and the nearest."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(names[:_N_NAMES_SHOWN]) + (", ..." if len(names) > _N_NAMES_SHOWN else "")
    return UsageError(f"unknown {what} {name!r}.{hint} Known: {shown}")
