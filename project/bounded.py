"""A cache of bounded size that forgets what was not asked for longest.

Not `functools.lru_cache`: sizes differ, and what is too large must not push the others out.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(eq=False)
class BoundedCache(Generic[Value]):
    """Least recently used values leave first; safe among threads.

    Attributes:
        limit: of the sum of sizes.
        size: of one value; by default each counts 1.
        total: sum of sizes.
    """

    limit: int
    size: Callable[[Value], int] = lambda _: 1
    total: int = field(default=0, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)
    _values: OrderedDict[Hashable, Value] = field(default_factory=OrderedDict, init=False)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """The value; None where there is none."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value, unless it is larger than the limit."""
        with self._lock:
            if key in self._values:
                self.total -= self.size(self._values.pop(key))
            if self.size(value) > self.limit:
                return
            self._values[key] = value
            self.total += self.size(value)
            while self.total > self.limit:
                self.total -= self.size(self._values.popitem(last=False)[1])

    def made(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value, made where there is none. Two threads may make the same one."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value
