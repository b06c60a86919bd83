"""Things of which there are several by name: heads, ensembles, index types, backbone families, data adapters.

The decorator sits on the definition, and every module of the registry's room is imported before a name is looked up: a
new entry is a new file. Each registry has one contract suite over all its entries.
"""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, Generic, TypeVar

from deponij.store.errors import UsageError

T = TypeVar("T", bound=Callable[..., Any])
E = TypeVar("E", bound=Callable[..., Any])

_REGISTERED = re.compile(r"""^@(?:registry\.)?register\w*\("([^"]+)"\)""", re.MULTILINE)
_N_NAMES_SHOWN = 50  # open_clip alone has hundreds of architectures


class Registry(Generic[T]):
    """Classes or functions by name.

    Args:
        what: one entry, in words.
        attribute: of an entry that is set to its name; empty for none.
        room: the package whose modules' decorators must have run before anything is looked up; empty for none.
    """

    def __init__(self, what: str, *, attribute: str = "", room: str = "") -> None:
        self.what = what
        self._attribute = attribute
        self._room = room
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[E], E]:
        """Enter what is decorated under a name.

        Raises:
            ValueError: something else has that name already.
        """

        def enter(entry: E) -> E:
            known: Any = self._entries.setdefault(name, entry)  # type: ignore[arg-type]
            if known is not entry:
                raise ValueError(f"{self.what} {name!r} is taken by {known.__module__}.{known.__qualname__}")
            if self._attribute:
                setattr(entry, self._attribute, name)
            return entry

        return enter

    def unregister(self, name: str) -> None:
        """Take an entry out again (tests register some of their own)."""
        self._entries.pop(name, None)

    def entries(self) -> dict[str, T]:
        """All of them, by sorted name."""
        if self._room:
            _import_all(self._room)
        return dict(sorted(self._entries.items()))

    def __getitem__(self, name: str) -> T:
        """The entry of a name.

        Raises:
            UsageError: there is none; the message lists those there are and the nearest.
        """
        known = self.entries()
        if name not in known:
            raise unknown(self.what, name, known)
        return known[name]


@cache
def _import_all(room: str) -> None:
    for module in walk_packages(import_module(room).__path__, f"{room}."):
        import_module(module.name)


@cache
def names_in(room: str) -> tuple[str, ...]:
    """The sorted names that a room's decorators enter, read from the source: nothing heavy is imported."""
    spec = find_spec(room)
    folders = spec.submodule_search_locations if spec is not None else None
    texts = (path.read_text() for folder in folders or () for path in sorted(Path(folder).rglob("*.py")))
    return tuple(sorted(name for text in texts for name in _REGISTERED.findall(text)))


def unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not there: the known ones and the nearest."""
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(names[:_N_NAMES_SHOWN]) + (", ..." if len(names) > _N_NAMES_SHOWN else "")
    return UsageError(f"unknown {what} {name!r}.{hint} Known: {shown}")
