"""From flags to a service: which indexes, items, photographs and maps belong together. This is no stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deponij.project.frame.settings import RunOptions
from deponij.project.in_force import InForce, items_of, require_items, run_of, toys_beside
from deponij.project.indexes import Index
from deponij.project.meant import Meant, made_by, run_meant
from deponij.services.search.vectors import QueryEncoder
from deponij.services.serve.counters import Counters
from deponij.services.serve.models import distinct_names
from deponij.services.serve.pictures import Pictures
from deponij.services.serve.service import Served, Service, ServiceOptions
from deponij.store.errors import UsageError


@dataclass(frozen=True)
class ServeRequest:
    """What to serve, as it was asked for.

    Attributes:
        indexes: folders; none: those of the run that is meant, or of these `backbones` of it.
        of_run: the run's folder; None: the last one's (`deponij.project.meant`).
        items, images: where pictures and photographs are; None: the run's.
        specs: `[NAME=]SPEC`, where an index's backbone is found.
    """

    indexes: tuple[Path, ...] = ()
    backbones: tuple[str, ...] = ()
    items: Path | None = None
    images: Path | None = None
    of_run: Path | None = None
    specs: tuple[str, ...] = ()
    run: RunOptions = field(default_factory=RunOptions)
    service: ServiceOptions = field(default_factory=ServiceOptions)


def make_service(request: ServeRequest, counters: Counters) -> Service:
    """Open everything that is to be served; models are not loaded yet.

    Raises:
        UsageError: flags that do not fit each other, or nothing says what to serve.
        DeponijError: an index, items or a map cannot be read.
    """
    paths, profile = meant_indexes(request)
    indexes = [Index.open(path) for path in paths]
    items = items_of(indexes[0].path, request.items)
    names = distinct_names(indexes)
    if len(set(names)) < len(names):
        raise UsageError(f"two indexes are of the same name: {', '.join(names)}; name each one once")
    specs = _specs(request.specs, names)
    served = [
        Served(
            name,
            QueryEncoder(index, request.run, spec=specs.get(name)),
            run.map(index.path.name) if (run := run_of(index.path)) else None,
            is_toy=index.path.name in toys_beside(index.path),
        )
        for name, index in zip(names, indexes, strict=True)
    ]
    for index in indexes:
        ids, keys = (index.rows[name].to_pylist() for name in ("item_id", "key"))
        require_items(items, ids, keys, f"the items of {index.path}")
    options = request.service
    if profile is not None and not options.labels:
        options = replace(options, labels=profile.labels)
    return Service(served, Pictures(items, _images(request.images, profile)), options, counters)


def meant_run(request: ServeRequest) -> Meant | None:
    """The run whose indexes are meant; None where these are named.

    Raises:
        UsageError: flags that do not fit each other, or nothing says which run is meant.
    """
    if not request.indexes:
        return run_meant(request.of_run)
    if request.backbones or request.of_run is not None:
        raise UsageError("--backbone and --run choose among indexes of a run; with --index name the folders")
    return None


def meant_indexes(request: ServeRequest) -> tuple[Sequence[Path], InForce | None]:
    """The folders of the indexes, and the parameters of their run, where they are of one whose parameters are known.

    Raises:
        UsageError: as `meant_run`.
        StoreError: there is no index.
    """
    meant = meant_run(request)
    if meant is not None:
        return meant.indexes(request.backbones), meant.made_by
    runs = [made_by(run) for path in request.indexes if (run := run_of(path)) is not None]
    return request.indexes, runs[0] if runs and all(runs) else None


def _images(images: Path | None, profile: InForce | None) -> Path | None:
    """The folder of the photographs, where there is one."""
    if images is not None:
        if not images.is_dir():
            raise UsageError(f"--images {images}: there is no such folder")
        return images
    if profile is None:
        return None
    folder = (profile.data.get("options") or {}).get("images") or profile.data.get("root")
    # `deponij run` names no root of its own.
    return Path(folder) if folder and folder != "." and Path(folder).is_dir() else None


def _specs(specs: Sequence[str], names: Sequence[str]) -> Mapping[str, str]:
    """`[NAME=]SPEC` by name of the index."""
    spec_of = {}
    for spec in specs:
        name, sign, value = spec.partition("=")
        if sign and name in names:
            spec_of[name] = value
        elif len(names) == 1:
            spec_of[names[0]] = spec
        else:
            raise UsageError(
                f"--backbone-spec {spec}: say for which index, as NAME=SPEC; there are {', '.join(names)}"
            )
    return spec_of
