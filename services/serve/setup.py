"""From flags to a service: which indexes, items, photographs and maps belong together. This is no stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deponij.project.frame.settings import RunOptions
from deponij.project.in_force import InForce, items_of, profile_in_force, profile_of, require_items, run_of
from deponij.project.indexes import Index
from deponij.services.search.vectors import QueryEncoder
from deponij.services.serve.counters import Counters
from deponij.services.serve.models import distinct_names
from deponij.services.serve.pictures import Pictures
from deponij.services.serve.service import Served, Service, ServiceOptions
from deponij.store.errors import StoreError, UsageError
from deponij.store.index_folder import CARD


@dataclass(frozen=True)
class ServeRequest:
    """What to serve, as it was asked for.

    Attributes:
        indexes: folders; none: those of the profile in force, or of these `backbones` of it.
        items, images: where pictures and photographs are; None: the run's and the profile's.
        specs: `[NAME=]SPEC`, where an index's backbone is found.
    """

    indexes: tuple[Path, ...] = ()
    backbones: tuple[str, ...] = ()
    items: Path | None = None
    images: Path | None = None
    specs: tuple[str, ...] = ()
    run: RunOptions = field(default_factory=RunOptions)
    service: ServiceOptions = field(default_factory=ServiceOptions)


def make_service(wanted: ServeRequest, counters: Counters) -> Service:
    """Open everything that is to be served; models are not loaded yet.

    Raises:
        UsageError: flags that do not fit each other, or nothing says what to serve.
        DeponijError: an index, items or a map cannot be read.
    """
    profile = _profile(wanted)
    paths = wanted.indexes if profile is None or wanted.indexes else _of_profile(profile, wanted.backbones)
    indexes = [Index.open(path) for path in paths]
    items = items_of(indexes[0].path, wanted.items)
    names = distinct_names(indexes)
    if len(set(names)) < len(names):
        raise UsageError(f"two indexes are of the same name: {', '.join(names)}; name each one once")
    specs = _specs(wanted.specs, names)
    served = [
        Served(
            name,
            QueryEncoder(index, wanted.run, spec=specs.get(name)),
            run.map(index.path.name) if (run := run_of(index.path)) else None,
        )
        for name, index in zip(names, indexes, strict=True)
    ]
    for index in indexes:
        ids, keys = (index.rows[name].to_pylist() for name in ("item_id", "key"))
        require_items(items, ids, keys, f"the items of {index.path}")
    options = wanted.service
    if profile is not None and not options.labels:
        options = replace(options, labels=profile.labels)
    return Service(served, Pictures(items, _images(wanted.images, profile)), options, counters)


def _profile(wanted: ServeRequest) -> InForce | None:
    """The profile in force, where the indexes are of it; None only where indexes are named."""
    if not wanted.indexes:
        return profile_in_force("name indexes with --index")
    if wanted.backbones:
        raise UsageError("--backbone chooses among the indexes of the profile; with --index name the folders")
    of_runs = [profile_of(run) for path in wanted.indexes if (run := run_of(path)) is not None]
    return of_runs[0] if of_runs and all(of_runs) else None


def _of_profile(profile: InForce, backbones: Sequence[str]) -> list[Path]:
    for name in backbones:
        profile.require(name)
    at = profile.layout
    found = [at.index(name) for name in backbones or profile.backbones]
    there = found if backbones else [path for path in found if (path / CARD).is_file()]
    if not there:
        raise StoreError(f"there is no index in {at.indexes}; `dvc repro index` makes those of the profile")
    return there


def _images(images: Path | None, profile: InForce | None) -> Path | None:
    """The folder of the photographs, where there is one."""
    if images is not None:
        if not images.is_dir():
            raise UsageError(f"--images {images}: there is no such folder")
        return images
    if profile is None:
        return None
    folder = (profile.data.get("options") or {}).get("images") or profile.data.get("root")
    return Path(folder) if folder and Path(folder).is_dir() else None


def _specs(specs: Sequence[str], names: Sequence[str]) -> Mapping[str, str]:
    """`[NAME=]SPEC` by name of the index."""
    found = {}
    for spec in specs:
        name, sign, value = spec.partition("=")
        if sign and name in names:
            found[name] = value
        elif len(names) == 1:
            found[names[0]] = spec
        else:
            raise UsageError(
                f"--backbone-spec {spec}: say for which index, as NAME=SPEC; there are {', '.join(names)}"
            )
    return found
