"""What a tower has learned as a folder that is a backbone as it stands.

    FOLDER/                 merged weights and records in the family's own format: `load(FOLDER)`, and its library
    FOLDER/tuned.json       what it was learned on and how, with a checksum of every file and of itself
    FOLDER/adapter/         of low-rank adapters: peft's own two files, a backbone as they stand too

It is written aside and takes the place of an earlier one in one step.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from deponij.pipeline.backbones import describe, load, low_rank
from deponij.pipeline.backbones.access import locate, resolved
from deponij.pipeline.backbones.catalog import parse_spec
from deponij.pipeline.backbones.contract import Backbone, Description, Location
from deponij.pipeline.backbones.remember import sha256_of_file
from deponij.pipeline.tuning.formats import write_backbone
from deponij.pipeline.tuning.tower import Tower
from deponij.store.atomic import flush, refuse_foreign, replacing_folder
from deponij.store.errors import BackboneError, StoreError, explained
from deponij.store.sealed import read_sealed, sealed, unsealed

RECORD = "tuned.json"
ADAPTER = "adapter"
FORMAT = 1
_WHAT = "a tuned backbone"
_REMEDY = "tune it again"


def save_tuned(
    folder: Path,
    tower: Tower,
    spec: str,
    record: Mapping[str, JsonValue],
    files: Callable[[Description], Mapping[str, bytes]] = lambda described: {},
) -> Description:
    """Write what a tower learned; the description of the folder as a backbone.

    Adapters are merged into weights that are read anew, so that nothing of the training is in them but the adapters and
    what else of the model learned (temperature and bias of a contrast). Without adapters the model is written as it is, its
    text tower included.

    Args:
        folder: a new or empty one, or one of an earlier writing, which is replaced.
        spec: that the tower's backbone was loaded by.
        record: what is to be known of the training, as JSON values.
        files: given its description, further ones that belong to it, by name.

    Raises:
        UsageError: the family has no format here.
        BackboneError: `spec` names other weights than the tower was made of.
        StoreError: the folder holds anything else or cannot be written (a full disk); an earlier one is left as it was.
    """
    known, base = tower.backbone.description, locate(spec)
    family = type(tower.backbone)
    of_base = family.weights_sha256(base)
    if of_base != known.weights_sha256:
        raise BackboneError(
            f"{spec}: its weights are not those that {known.name} was made of (SHA-256 {of_base[:16]}…, wanted "
            f"{known.weights_sha256[:16]}…); bring these back"
        )
    refuse_foreign_tuned(folder)
    is_adapted = tower.peft is not None
    made = _merged(tower, spec) if is_adapted else tower.backbone
    with replacing_folder(folder) as part:
        write_backbone(part, made, base)
        if is_adapted and base.adapter is None:
            _write_adapter(part / ADAPTER, tower, spec, base)
        described = _checked(Location(folder.name, part, None, None, f"folder:{folder.name}", None), made)
        for name, content in files(described).items():
            (part / name).write_bytes(content)
        written = sorted(path for path in part.rglob("*") if path.is_file())
        listed: dict[str, Any] = {
            str(path.relative_to(part)): {"size_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
            for path in written
        }
        for path in written:
            flush(path)
        of_base_record = {
            "spec": spec,
            "name": known.name,
            "source": known.source,
            "revision": known.revision,
        }
        body = {
            "format": FORMAT,
            "base": of_base_record | {"weights_sha256": of_base},
            "weights_sha256": described.weights_sha256,
            "tuned": dict(record),
            "files": listed,
        }
        (part / RECORD).write_bytes(sealed(body))
    return described


def refuse_foreign_tuned(folder: Path) -> None:
    """Refuse a folder to write that holds anything but an earlier writing.

    Raises:
        StoreError: it is a file, or holds other files.
    """
    ours = {RECORD, ADAPTER, *_earlier(folder)}
    refuse_foreign(folder, lambda path: path.name in ours, _WHAT)


def read_tuned(folder: Path) -> dict[str, Any]:
    """What `save_tuned` wrote down: `base`, `weights_sha256`, `tuned` (the given record), `files`.

    Raises:
        StoreError: there is none, or it or one of the files is damaged or was edited.
    """
    body = read_sealed(folder / RECORD, _REMEDY)
    if body.get("format") != FORMAT or not isinstance(body.get("files"), dict):
        raise StoreError(
            f"{folder / RECORD} has format {body.get('format')}, this Deponij reads {FORMAT}; {_REMEDY}"
        )
    for name, recorded in body["files"].items():
        path = folder / name
        with explained(f"cannot read {path}"):
            facts = {"size_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        if facts != recorded:
            raise StoreError(f"{path} is damaged or was edited; restore the folder, or {_REMEDY}")
    return body


def _merged(tower: Tower, spec: str) -> Backbone:
    """The base, read anew, with the tower's adapters in it, and what learned beside them."""
    known = tower.backbone.description
    is_published = describe(spec).transform == known.transform
    fresh = load(spec, input_px=None if is_published else known.input_px)
    tensors = {name: one.detach().cpu() for name, one in low_rank.tensors_of(tower.backbone.model).items()}
    low_rank.merge_tensors(fresh, tensors, low_rank.record_of(tower.peft, spec), [Path(RECORD)])
    for name, one in tower.backbone.model.named_parameters():
        if one.requires_grad and ".lora_" not in name:
            fresh.model.get_parameter(name).data.copy_(one.detach())
    return fresh


def _write_adapter(folder: Path, tower: Tower, spec: str, base: Location) -> None:
    """The adapter alone, which names its base as peft does: a hub repository, a folder, or a name of the catalog."""
    entry = resolved(parse_spec(spec))
    name = entry.repo or (str(entry.folder) if entry.folder else spec)
    folder.mkdir()
    low_rank.write(folder, tower.peft, name, base.revision, tower.backbone.description.weights_sha256)
    flush(folder)


def _checked(location: Location, made: Backbone) -> Description:
    """The description of what was written, which opens and is what it was made of."""
    family = type(made)
    description = family.describe(location)
    family.open(location, description)
    expected = made.description
    alike = [
        (one.input_px, one.dim, one.transform.mean, one.transform.std) for one in (description, expected)
    ]
    if alike[0] != alike[1]:
        raise BackboneError(
            f"{location.name} was not written as it is: {alike[0]} in the place of {alike[1]}"
        )
    return description


def _earlier(folder: Path) -> Collection[str]:
    """Names of what lies in the folder of an earlier writing."""
    try:
        files = unsealed((folder / RECORD).read_bytes())["files"]
        return {Path(name).parts[0] for name in files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
