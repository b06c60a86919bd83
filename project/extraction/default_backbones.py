"""Which backbones `deponij run` takes where none is named, and whether its pictures are drawn ones. This is no stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deponij.pipeline.backbones import describe, parse_spec
from deponij.store.errors import BackboneError

# A real one, and one that knows words.
DEFAULT_BACKBONES = ("efficientnet-lite0", "mini-openclip")
# Where the weights of those are not here.
BUILT_IN = ("mini-openclip", "mini-siglip", "mini-dinov2")


def choose() -> tuple[tuple[str, ...], str]:
    """Which backbones are taken where none is named, and what to say of it."""
    other = (
        "Published ones see more and know words: --backbone siglip-base-16 (`deponij backbones` lists them, "
        "`deponij weights fetch NAME` brings their weights)"
    )
    try:
        told = {name: describe(name) for name in DEFAULT_BACKBONES}
    except BackboneError as error:
        return BUILT_IN, (
            f"note: no --backbone given, and {error}. So {', '.join(BUILT_IN)} are used: toys that learnt from "
            f"drawn litter only, to try things out. {other}"
        )
    parsed = {name: parse_spec(name) for name in DEFAULT_BACKBONES}
    real = [f"{name} ({told[name].source}, {one.licence})" for name, one in parsed.items() if not one.toy]
    toys = [name for name, one in parsed.items() if one.toy]
    return DEFAULT_BACKBONES, (
        f"note: no --backbone given, so {', '.join(real)} is used, and for words {', '.join(toys)}: a toy that "
        f"learnt from drawn litter only, marked wherever it stands. {other}"
    )


def is_drawn(options: Mapping[str, Any]) -> bool:
    """Whether a data set, by the options of its adapter, is a sample that the project drew: there the minis are no toys."""
    from deponij.sample.painter import is_drawn as is_drawn_file

    annotations = options.get("annotations")
    paths = annotations if isinstance(annotations, (list, tuple)) else [annotations]
    return all(path is not None and is_drawn_file(Path(path)) for path in paths)
