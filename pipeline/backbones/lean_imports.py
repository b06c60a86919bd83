"""Importing open_clip and timm without torch's compiler, which few use: a third of their import time.

torchvision asks the compiler's package for one function, and timm marks methods with `torch.compiler.disable`;
each imports all of torch._dynamo with torch._inductor and sympy (4 of 11.5 s of processor time). transformers
cannot be had without: its modelling files import torch._dynamo and torch.distributed.tensor themselves.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo.utils"
_lock = RLock()


@contextmanager
def without_compiler() -> Iterator[None]:
    """Within the block, what is imported gets the compiler's functions when it first calls them.

    Afterwards torch is as it was. Functions that were marked in the block are not marked, which only a
    `torch.compile` of them would notice.
    """
    import torch

    with _lock:
        if _COMPILER in sys.modules:
            yield
            return
        real = torch.compiler.disable
        sys.modules[_COMPILER] = _Later(_COMPILER)
        torch.compiler.disable = _unmarked
        try:
            yield
        finally:
            torch.compiler.disable = real
            _forget()


class _Later(ModuleType):
    """Stands for the compiler's module: gives torchvision its function, and others what they ask for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system's own questions
            raise AttributeError(name)
        return _is_compile_supported if name == "is_compile_supported" else getattr(_real(), name)


def _is_compile_supported(device: str) -> Any:
    return _real().is_compile_supported(device)


def _real() -> Any:
    _forget()
    return importlib.import_module(_COMPILER)


def _forget() -> None:
    if isinstance(sys.modules.get(_COMPILER), _Later):
        del sys.modules[_COMPILER]


def _unmarked(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """The signature of `torch.compiler.disable`; gives functions back as they are."""
    return fn if fn is not None else _unmarked
