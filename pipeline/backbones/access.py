"""Describe, load and list backbones: what the stages call.

`describe` and `list_backbones` are light: they read records and remember what they worked out.
`load` is heavy. Only `deponij.pipeline.backbones.fetch` uses a network.
"""

from dataclasses import replace
from importlib.metadata import version
from typing import Any

from deponij.pipeline.backbones import low_rank, packaged, sources
from deponij.pipeline.backbones.catalog import Entry, entries, parse_spec
from deponij.pipeline.backbones.contract import PRECISIONS, Backbone, Description, Location
from deponij.pipeline.backbones.presets import preset_of
from deponij.pipeline.backbones.remember import remembered, stamp
from deponij.store.errors import BackboneError, UsageError

# Raise it when a family starts to describe the same files differently.
_DESCRIPTION_FORMAT = 2
# What the model libraries, and the reading of records, raise for files that are not what they should be.
_UNFIT = (
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    MemoryError,
    OSError,
    RuntimeError,
)


def describe(spec: str, *, input_px: tuple[int, int] | None = None) -> Description:
    """What the backbone is, without loading it.

    Remembered by the path, size and time of every file and the library's version; then it takes
    milliseconds and imports no model library.

    Args:
        spec: see `catalog.parse_spec`.
        input_px: (height, width) other than the published one, for dense features; the transform then
            squashes the whole picture to it. None: as published.

    Raises:
        UsageError: unknown name.
        BackboneError: files are missing or not what they should be.
    """
    entry = resolved(parse_spec(spec))
    location = sources.locate(entry)
    return _described(sources.family_of(entry, location.folder), location, input_px)


def load(
    spec: str,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    input_px: tuple[int, int] | None = None,
    allow_download: bool = False,
) -> Backbone:
    """The model itself, filled exactly, in evaluation mode, on `device`.

    Args:
        spec, input_px: as for `describe`.
        device: a torch device, such as `cpu` or `cuda:0`.
        precision: of computing: fp32 (TF32 off), bf16 or fp16. Results are float32.
        allow_download: fetch absent weights first; otherwise nothing is asked of a network.

    Raises:
        UsageError: unknown name or precision.
        BackboneError: files are missing, or the weights do not fill the model exactly.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}; allowed: {', '.join(PRECISIONS)}")
    entry = resolved(parse_spec(spec))
    origin = entry.base or entry
    if allow_download and origin.repo and not sources.is_present(origin):
        from deponij.pipeline.backbones.fetch import fetch_entry

        fetch_entry(origin)
    location = sources.locate(entry)
    family = sources.family_of(entry, location.folder)
    description = _described(family, location, input_px)
    try:
        backbone = family.open(location, description)
        if location.adapter is not None:
            of_base = family.weights_sha256(replace(location, adapter=None))
            low_rank.merge(backbone, location.adapter, of_base)
    except _UNFIT as error:
        raise BackboneError(
            f"{location.name}: its files cannot be opened as {family.family}: {_told(error)}"
        ) from error
    return backbone.to(device, precision)


def locate(spec: str) -> Location:
    """Where the files of a backbone lie on this machine.

    Raises:
        UsageError: unknown name.
        BackboneError: files are missing.
    """
    return sources.locate(resolved(parse_spec(spec)))


def list_backbones() -> list[dict[str, Any]]:
    """One record for each backbone of the catalog, as JSON values.

    Keys: name, preset (or null), family, dim, input_px ([height, width]), has_text, source, revision, present,
    licence, toy, n_params, gflops and activations_mb (of a picture), weights_bytes (about). Facts of the minis come
    from their files and are null where those are absent.
    """
    return [_listed(entry) for entry in entries().values()]


def _listed(entry: Entry) -> dict[str, Any]:
    dim, input_px, has_text = entry.dim, entry.input_px, entry.has_text
    present = sources.is_present(entry)
    if present and entry.package_folder:
        try:
            known = describe(entry.name)
        except BackboneError:
            present = False
        else:
            dim, input_px, has_text = known.dim, known.input_px, known.has_text
    return {
        "name": entry.name,
        "preset": preset_of(entry.name),
        "family": entry.family,
        "dim": dim,
        "input_px": list(input_px) if input_px else None,
        "has_text": has_text,
        "source": _source(entry),
        "revision": sources.commit_of(entry.repo, entry.revision) if entry.repo else None,
        "present": present,
        "licence": entry.licence,
        "toy": entry.toy,
        "n_params": entry.n_params,
        "gflops": entry.gflops,
        "activations_mb": entry.activations_mb,
        "weights_bytes": entry.weights_bytes,
    }


def _source(entry: Entry) -> str:
    if entry.packaged is not None:
        return packaged.source_of(entry.packaged)
    return f"hf:{entry.repo}" if entry.repo else f"package:{entry.package_folder}"


def _described(family: type[Backbone], location: Location, input_px: tuple[int, int] | None) -> Description:
    key = {
        "format": _DESCRIPTION_FORMAT,
        "family": family.family,
        "library": f"{family.library} {version(family.library)}",
        "location": [location.name, location.architecture, location.source, location.revision],
        "input_px": list(input_px) if input_px else None,
        "files": [stamp(path) for path in location.files],
    }
    try:
        record = remembered("descriptions", key, lambda: family.describe(location, input_px).to_record())
        return Description.from_record(record)
    except _UNFIT as error:
        raise BackboneError(
            f"{location.name}: its records do not describe a {family.family}: {_told(error)}"
        ) from error


def _told(error: Exception) -> str:
    """The error's kind and its first line: libraries write whole pages."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def resolved(entry: Entry) -> Entry:
    """An entry whose published weights are named by an open_clip tag, as one that names their repository."""
    if entry.base is not None:
        return entry.model_copy(update={"base": resolved(entry.base)})
    if entry.tag is None:
        return entry
    from deponij.pipeline.backbones.families.open_clip import resolve_tag

    return resolve_tag(entry)
