"""Things of which there are several by name: heads, ensembles, index types, backbone families, data adapters.

The decorator sits on the definition; `fill` imports the modules whose decorators must have run. Each registry has one
contract suite over all its entries.
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from store.errors import UsageError

T = TypeVar("T", bound=Callable[..., Any])
E = TypeVar("E", bound=Callable[..., Any])

_N_NAMES_SHOWN = 50  # open_clip alone has hundreds of architectures


class Registry(Generic[T]):
    """Classes or functions by name.

    Args:
        what: one entry, in words. attribute: of an entry that is set to its name; empty for none.
        fill: runs the decorators; called before anything is looked up.
    """

    def __init__(self, what: str, *, attribute: str = "", fill: Callable[[], None] = lambda: None) -> None:
        self.what = what
        self._attribute = attribute
        self._fill = fill
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
        self._fill()
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


def unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not there: the known ones and the nearest."""
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(names[:_N_NAMES_SHOWN]) + (", ..." if len(names) > _N_NAMES_SHOWN else "")
    return UsageError(f"unknown {what} {name!r}.{hint} Known: {shown}")
