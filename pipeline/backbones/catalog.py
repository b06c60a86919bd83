"""The backbones that have a name, and the one parser of everything a user can write for one.

The names are data (`catalog.json`). A revision there is a commit that public material confirms for
the repository; where it is null, the first fetch resolves `main` to a commit and pins it for this
machine (`sources.pin_of`). Where the files lie is in `sources`; reading them in the families.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from deponij.pipeline.backbones import adapters
from deponij.pipeline.registry import unknown
from deponij.store.errors import BackboneError, UsageError
from deponij.store.sealed import read_sealed

FORMS = (
    "a name of the catalog, a folder, open_clip:ARCH/TAG or ARCH/FILE, timm:NAME, hf:ORG/REPO[@COMMIT], "
    "new:NETWORK[@SIZE][#SEED]"
)


class Packaged(BaseModel):
    """Weights that a package of the index carries, and how they become a folder in their family's format.

    Attributes:
        distribution, version: the package, and the release that the checksum is of.
        file: of weights, as the package installs it.
        sha256: of its bytes.
        renames: patterns with what takes their place, each tried on every tensor's name, in this order.
        records: JSON files that stand beside the weights, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    distribution: str
    version: str
    file: str
    sha256: str
    renames: tuple[tuple[re.Pattern[str], str], ...]
    records: dict[str, dict[str, Any]]


class NewNetwork(BaseModel):
    """A network whose weights are drawn, and have learned nothing.

    Attributes:
        name: of the architecture: one of `new.ALIASES`, or timm's.
        size_px: side of its pictures; None: as published.
        seed: of the draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size_px: int | None = None
    seed: int = 0

    @property
    def spec(self) -> str:
        """As it is asked for."""
        return (
            f"new:{self.name}"
            + (f"@{self.size_px}" if self.size_px else "")
            + (f"#{self.seed}" if self.seed else "")
        )


class Entry(BaseModel):
    """One backbone that can be asked for. Exactly one of the six places says where its weights come from.

    Attributes:
        name: what the user calls it.
        family: registry name, or None where the files decide.
        repo, revision: hub repository and commit (None: pinned by the first fetch).
        package_folder: folder inside the package `deponij.sample` (the minis).
        packaged: a package of the index (`packaged` makes a folder of it).
        network: whose weights are drawn (`new` makes a folder of it).
        folder: a folder of the user's.
        base: what the adapter in `folder` was learned on; None where the folder holds a model.
        weights_file: a file of the user's, with `architecture`.
        architecture, tag: open_clip's names of a model configuration and of published weights.
        dim, input_px, has_text: published facts, for listing without the files.
        n_params: numbers of the whole model, a text tower included.
        gflops: 10^9 floating-point operations for a picture at its input size; a multiply-add is two.
        activations_mb: 10^6 bytes that a picture's forward pass holds at once in float32, besides the weights.
            These three are measured by `benchmarks/backbone_costs.py`, on the architecture alone.
        toy: learnt from drawn pictures alone, so that its figures on any others say nothing of backbones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str | None = None
    repo: str | None = None
    revision: str | None = None
    package_folder: str | None = None
    packaged: Packaged | None = None
    network: NewNetwork | None = None
    folder: Path | None = None
    base: "Entry | None" = None
    weights_file: Path | None = None
    architecture: str | None = None
    tag: str | None = None
    dim: int | None = None
    input_px: tuple[int, int] | None = None
    has_text: bool | None = None
    n_params: int | None = None
    gflops: float | None = None
    activations_mb: float | None = None
    licence: str | None = None
    toy: bool = False

    @property
    def weights_bytes(self) -> int | None:
        """About what a download brings: published weights are float32, and records and vocabularies small beside them."""
        return None if self.n_params is None else 4 * self.n_params

    def memory_bytes(self, batch_size: int, precision: str) -> int | None:
        """About what the model and one batch take on its device, in bytes; None where the catalog has no figures.

        Args:
            precision: of computing; fp32, bf16 or fp16.
        """
        if self.n_params is None or self.activations_mb is None:
            return None
        n_numbers = self.n_params + batch_size * self.activations_mb * 1e6 / 4
        return int(n_numbers * (4 if precision == "fp32" else 2))


@lru_cache(maxsize=1)
def entries() -> dict[str, Entry]:
    """The catalog by name, in its order."""
    data = (Path(__file__).parent / "catalog.json").read_bytes()
    return {entry.name: entry for entry in TypeAdapter(list[Entry]).validate_json(data)}


def parse_spec(spec: str) -> Entry:
    """What the user wrote for a backbone, as an `Entry`; nothing is looked up on disk or in a network.

    Forms, in the order tried: `SCHEME:REST` (`open_clip:ARCH/TAG`, `open_clip:ARCH//path/to/file`,
    `timm:NAME`, `hf:ORG/REPO` with an optional `@COMMIT`, `new:NETWORK` with an optional `@SIZE` in px and
    `#SEED`); a name of the catalog; a folder.

    Raises:
        UsageError: none of these; the message lists the names and the nearest.
    """
    scheme, colon, rest = spec.partition(":")
    if colon and scheme == "given":
        raise BackboneError(
            f"{rest} holds embeddings that were given, and is no model: it cannot look at pictures or words"
        )
    if colon and scheme in _SCHEMES:
        if not rest:
            raise UsageError(f"backbone {spec!r}: nothing after {scheme}:; allowed: {FORMS}")
        return _SCHEMES[scheme](spec, rest)
    if spec in entries():
        return entries()[spec]
    folder = Path(spec).expanduser()
    if folder.is_dir():
        return _folder(folder.resolve())
    if folder.is_file():
        raise UsageError(f"backbone {spec!r} is a file; for open_clip weights write open_clip:ARCH/{spec}")
    if len(folder.parts) > 1:
        raise BackboneError(f"backbone folder {spec!r} does not exist; allowed: {FORMS}")
    raise unknown("backbone", spec, entries())


def _folder(folder: Path) -> Entry:
    if not adapters.claims(folder):
        return Entry(name=folder.name, folder=folder, **_inherited(folder))
    base = _base(folder)
    costs = ("licence", "toy", "n_params", "gflops", "activations_mb")
    return Entry(name=folder.name, folder=folder, base=base, **{name: getattr(base, name) for name in costs})


def _inherited(folder: Path) -> dict[str, Any]:
    """What a folder that was tuned has of its base, as its record says."""
    record = folder / "tuned.json"
    told = read_sealed(record, "tune it again").get("tuned") if record.is_file() else None
    return {name: told[name] for name in ("licence", "toy") if told and told.get(name) is not None}


def _base(folder: Path) -> Entry:
    """What the adapter of a folder was learned on: a name of the catalog, a folder (as seen from the adapter's, or from
    here), or a hub repository, which is the catalog's entry where that has it.
    """
    record = adapters.read_record(folder)
    if record.base in entries():
        return entries()[record.base]
    for place in (folder / record.base, Path(record.base).expanduser()):
        if place.is_dir():
            if adapters.claims(place):
                raise BackboneError(
                    f"{folder}: its base {place} is an adapter too; merge that one with peft and name the merged folder"
                )
            return parse_spec(str(place.resolve()))
    for one in entries().values():
        if one.repo == record.base and (record.revision is None or one.revision in (None, record.revision)):
            return one.model_copy(update={"revision": record.revision or one.revision})
    if ":" in record.base or record.base.count("/") != 1 or record.base.startswith((".", "~", "/")):
        return parse_spec(record.base)
    return _hub(record.base, record.base + (f"@{record.revision}" if record.revision else ""))


def _open_clip(spec: str, rest: str) -> Entry:
    architecture, slash, weights = rest.partition("/")
    if not slash or not weights:
        raise UsageError(f"backbone {spec!r}: open_clip needs ARCH/TAG or ARCH/FILE, as in ViT-B-32/openai")
    path = Path(weights).expanduser()
    if path.suffix or len(path.parts) > 1:
        name = f"{architecture}-{path.stem}"
        return Entry(name=name, family="open_clip", architecture=architecture, weights_file=path.absolute())
    return Entry(name=f"{architecture}-{weights}", family="open_clip", architecture=architecture, tag=weights)


def _timm(spec: str, rest: str) -> Entry:
    name = rest.removeprefix("timm/")
    if "/" in name:
        raise UsageError(f"backbone {spec!r}: timm needs a model name, as in timm:resnet50.a1_in1k")
    return Entry(name=name, family="timm", repo=f"timm/{name}")


def _hub(spec: str, rest: str) -> Entry:
    repo, _, revision = rest.partition("@")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UsageError(f"backbone {spec!r}: hf needs ORG/REPO, optionally with @COMMIT")
    return Entry(name=repo.rpartition("/")[2], repo=repo, revision=revision or None)


def _new(spec: str, rest: str) -> Entry:
    match = re.fullmatch(r"([\w.-]+)(?:@([1-9]\d{0,8}))?(?:#(\d{1,9}))?", rest, re.ASCII)
    if match is None:
        raise UsageError(
            f"backbone {spec!r}: new needs NETWORK, optionally with @SIZE in px and #SEED, as in new:resnet-18-small@32"
        )
    network = NewNetwork(name=match[1], size_px=int(match[2]) if match[2] else None, seed=int(match[3] or 0))
    return Entry(name=re.sub(r"[:@#]", "-", network.spec), family="timm", network=network)


_SCHEMES: dict[str, Callable[[str, str], Entry]] = {
    "open_clip": _open_clip,
    "timm": _timm,
    "hf": _hub,
    "new": _new,
}
