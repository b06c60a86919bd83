"""Importing open_clip and timm without torch's compiler and without transformers, which few of their models use.

torchvision asks the compiler's package for one function, and timm marks methods with `torch.compiler.disable`;
each imports all of torch._dynamo with torch._inductor and sympy (4 of 11.5 s of processor time). transformers
cannot be had without: its modelling files import torch._dynamo and torch.distributed.tensor themselves. open_clip
imports transformers (1.8 of 3.3 s) for text towers in its format and for captions that CoCa writes; without it it goes
on, and when one of these is first wanted, what lacked it is made whole.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from threading import RLock, get_ident
from types import ModuleType
from typing import Any

_TRANSFORMERS = "transformers"
# What of open_clip uses transformers: module, class, and the method that is first called.
_USERS = (("hf_model", "HFTextEncoder", "__init__"), ("coca_model", "CoCa", "generate"))
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


def lean_open_clip() -> Any:
    """The package open_clip; where this is the first import, without the compiler and without transformers."""
    with _lock:
        if "open_clip" in sys.modules or _TRANSFORMERS in sys.modules:
            with without_compiler():
                return importlib.import_module("open_clip")
        absent = _Absent()
        sys.meta_path.insert(0, absent)
        try:
            with without_compiler():
                library = importlib.import_module("open_clip")
        finally:
            sys.meta_path.remove(absent)
        for module, name, method in _USERS:
            _mend_when_used(importlib.import_module(f"open_clip.{module}"), name, method)
        return library


class _Absent(MetaPathFinder):
    """Says to this thread that there is no transformers; others may be importing it at this moment."""

    def __init__(self) -> None:
        self._thread = get_ident()

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == _TRANSFORMERS and get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def _mend_when_used(module: ModuleType, name: str, method: str) -> None:
    """Run a module again, with transformers, when a method of its class is first called.

    It runs in its own namespace, so that the class that others hold sees what was lacking.
    """
    of_class = getattr(module, name)
    own = getattr(of_class, method)

    def mending(*args: Any, **kwargs: Any) -> Any:
        with _lock:
            if getattr(of_class, method) is mending:
                importlib.reload(module)
                setattr(of_class, method, own)
        return own(*args, **kwargs)

    setattr(of_class, method, mending)


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
