"""How many bytes of arrays live at once while something computes, counted operation by operation, on any device."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the results of operations while it is entered; what was there before does not count.

    What an operation takes inside itself is not seen, nor what the allocator loses between arrays. On the device `meta`
    nothing is computed, and counted all the same.

    Attributes:
        n_bytes: that live now.
        most_bytes: that lived at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_bytes = self.most_bytes = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {
            id(one.untyped_storage()) for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)
        }
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor):
                self._count(one.untyped_storage(), given)
        return result

    def _count(self, storage: Any, given: set[int]) -> None:
        if id(storage) in self._seen or id(storage) in given:
            return
        self._seen.add(id(storage))
        self.n_bytes += storage.nbytes()
        self.most_bytes = max(self.most_bytes, self.n_bytes)
        weakref.finalize(storage, self._gone, id(storage), storage.nbytes())

    def _gone(self, which: int, n_bytes: int) -> None:
        self._seen.discard(which)
        self.n_bytes -= n_bytes
