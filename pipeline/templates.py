"""Prompt templates: class names to texts.

A template is a text with one `{}`; a template *set* is a named list of them. The ImageNet and simple
sets are open_clip's own lists, read from the installed library.
"""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

from deponij.store.errors import UsageError

_OPEN_CLIP_SETS = {"imagenet": "OPENAI_IMAGENET_TEMPLATES", "simple": "SIMPLE_IMAGENET_TEMPLATES"}
_OWN_SETS = {"name": ("{}",), "photo": ("a photo of a {}",)}
TEMPLATE_SETS = (*_OWN_SETS, *_OPEN_CLIP_SETS)


def templates(entries: Sequence[str]) -> list[str]:
    """Set names, files (one template a line) and literal templates to templates, each once, in order.

    Raises:
        UsageError: neither a set, a file nor a text with exactly one `{}`.
    """
    texts: list[str] = []
    for entry in entries:
        if entry in _OWN_SETS:
            texts += _OWN_SETS[entry]
        elif entry in _OPEN_CLIP_SETS:
            texts += _from_open_clip(_OPEN_CLIP_SETS[entry])
        elif "{}" in entry:
            texts.append(entry)
        elif Path(entry).is_file():
            texts += [line for line in Path(entry).read_text().splitlines() if line.strip()]
        else:
            raise UsageError(
                f"no template {entry!r}: give a text with one {{}}, a file of them, or a set: {', '.join(TEMPLATE_SETS)}"
            )
    wrong = [template for template in texts if template.count("{}") != 1]
    if wrong:
        raise UsageError(f"a template has exactly one {{}}, got {wrong[0]!r}")
    return list(dict.fromkeys(texts))


def fill(template: str, name: str) -> str:
    """The text for one class. Underscores become spaces: transformers would delete them."""
    return template.replace("{}", name.replace("_", " "))


def _from_open_clip(constant: str) -> list[str]:
    # The list's own file imports nothing, while the package takes ten seconds.
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise UsageError("this template set comes with open_clip, which is not installed")
    path = Path(package.origin).with_name("zero_shot_metadata.py")
    spec = importlib.util.spec_from_file_location("_open_clip_zero_shot_metadata", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"open_clip's templates cannot be read from {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    makers: Sequence[Callable[[str], str]] = getattr(module, constant)
    return [make("{}") for make in makers]
