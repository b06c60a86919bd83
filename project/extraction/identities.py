"""From a backbone's description to the identity its rows carry, and the provenance beside them."""

import datetime
import platform
from importlib import metadata
from typing import Any

from deponij.pipeline.backbones.contract import Description
from deponij.pipeline.backbones.kinds import TEXT, Kind
from deponij.pipeline.pictures import Route
from deponij.store.errors import BackboneError
from deponij.store.identity import Identity

_LIBRARIES = (
    "deponij",
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "timm",
    "numpy",
    "pillow",
    "h5py",
)


def of_pictures(description: Description, kind: Kind, route: Route, precision: str, stored: str) -> Identity:
    """Identity of picture features."""
    return Identity(
        backbone=description.architecture,
        weights=description.weights_sha256,
        kind=str(kind),
        transform=description.transform.identity,
        decode=route.identity,
        precision=precision,
        stored=stored,
    )


def of_texts(description: Description, precision: str) -> Identity:
    """Identity of text vectors.

    Raises:
        BackboneError: the backbone has no text tower.
    """
    if not description.has_text or description.tokenizer_sha256 is None:
        raise BackboneError(
            f"{description.name} ({description.family}) has no text tower; `deponij backbones` lists those that have"
        )
    return Identity(
        backbone=description.architecture,
        weights=description.weights_sha256,
        kind=TEXT,
        transform=f"tokenizer:{description.tokenizer_sha256}",
        decode="",
        precision=precision,
        stored="float32",
    )


def of_no_texts(description: Description, precision: str) -> Identity:
    """Identity of a view of texts that has none, of a backbone that knows no words."""
    return Identity(
        backbone=description.architecture,
        weights=description.weights_sha256,
        kind=TEXT,
        transform="",
        decode="",
        precision=precision,
        stored="float32",
    )


def provenance(backbone: str, device: str, n_threads: int, batch_size: int, source: str) -> dict[str, Any]:
    """Facts about a run that are kept with its shards and refuse nobody."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "backbone": backbone,
        "source": source,
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "n_threads": n_threads,
        "batch_size": batch_size,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
