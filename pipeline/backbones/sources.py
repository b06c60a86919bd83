"""Where a backbone's files lie on this machine: package folders, the user's folders, hub caches, pins.

Nothing here uses a network (`fetch` does) or reads a model; what a package of the index carries, and what is
drawn, is put into its family's format the first time it is asked for (`packaged`, `new`). Files of a hub repository
are looked for in this order: `<cache>/weights/NAME` (put there by hand), then the snapshot of the wanted commit in the
Hugging Face cache. The commit is the catalog's; where it has none, this machine's pin, written by the
first fetch; where there is none either, what the Hugging Face cache calls `main`.
"""

import os
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from deponij.pipeline.backbones import new, packaged, registry
from deponij.pipeline.backbones.catalog import Entry, entries
from deponij.pipeline.backbones.contract import Backbone, Location
from deponij.pipeline.backbones.remember import canonical
from deponij.pipeline.backbones.weights import read_json
from deponij.store.atomic import write_bytes
from deponij.store.caches import cache_folder
from deponij.store.errors import BackboneError

# By name, for the library knows nothing of the sample: the minis are files like any other.
_PACKAGE = "deponij.sample"


def hub_cache() -> Path:
    """The Hugging Face cache, by the variables that huggingface_hub honours."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return (Path(home) if home else base).expanduser() / "hub"


def repo_folder(repo: str) -> Path:
    """The cache's folder of one hub repository."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def manual_folder(name: str) -> Path:
    """Where files put by hand are found under the backbone's own name."""
    return cache_folder() / "weights" / name


def is_offline() -> bool:
    """Whether the user forbids the network (`HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`)."""
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def pin_of(repo: str) -> str | None:
    """The commit that this machine's first fetch of `repo` resolved `main` to."""
    path = _pin_file(repo)
    if not path.is_file():
        return None
    revision = read_json(path).get("revision")
    return str(revision) if revision else None


def pin(repo: str, revision: str) -> None:
    """Write down the commit of `repo` that this machine uses from now on."""
    write_bytes(_pin_file(repo), (canonical({"repo": repo, "revision": revision}) + "\n").encode())


def commit_of(repo: str, revision: str | None) -> str | None:
    """The commit to use: the one asked for, the pin, or the cache's `main`; None when nothing is known."""
    if revision or pin_of(repo):
        return revision or pin_of(repo)
    main = repo_folder(repo) / "refs" / "main"
    return main.read_text().strip() if main.is_file() else None


def family_of(entry: Entry, folder: Path | None) -> type[Backbone]:
    """The family of an entry: the one it names, else the one that claims its folder; of an adapter, its base's."""
    if entry.base is not None:
        return family_of(entry.base, folder)
    if entry.family is not None:
        return registry.family(entry.family)
    if folder is None:
        raise absent(entry, ["config.json or open_clip_config.json, and the weights"])
    return registry.family_of(folder)


def locate(entry: Entry) -> Location:
    """The files of a backbone.

    Raises:
        BackboneError: files are missing; the message says which, and where to put them.
    """
    if entry.base is not None and entry.folder is not None:
        source = f"folder:{entry.folder.name}"
        return replace(
            locate(entry.base), name=entry.name, source=source, revision=None, adapter=entry.folder
        )
    if entry.weights_file is not None:
        if not entry.weights_file.is_file():
            raise BackboneError(f"{entry.name}: the weights file {entry.weights_file} does not exist")
        source = f"file:{entry.weights_file.name}"
        return Location(entry.name, None, entry.weights_file, entry.architecture, source, None)
    if entry.repo is not None:
        return _locate_repo(entry, entry.repo)
    if entry.packaged is not None:
        return packaged.locate(entry, entry.packaged)
    if entry.network is not None:
        return new.locate(entry, entry.network)
    folder = Path(str(files(_PACKAGE))) / entry.package_folder if entry.package_folder else entry.folder
    if folder is None or not folder.is_dir():
        raise BackboneError(f"{entry.name}: the folder {folder} does not exist")
    source = f"package:{entry.package_folder}" if entry.package_folder else f"folder:{folder.name}"
    if lacking := family_of(entry, folder).missing(folder):
        raise BackboneError(f"{entry.name}: {folder} lacks {'; '.join(lacking)}")
    return Location(entry.name, folder, None, None, source, None)


def is_present(entry: Entry) -> bool:
    """Whether the files are on this machine; nothing is made of them yet."""
    try:
        if entry.packaged is not None:
            packaged.weights_file(entry, entry.packaged)
        elif entry.network is None:
            locate(entry)
    except BackboneError:
        return False
    return True


def absent(entry: Entry, lacking: list[str]) -> BackboneError:
    """The error for a hub backbone whose files are not here: which ones, how large, and where to put them."""
    repo = entry.repo or ""
    commit = commit_of(repo, entry.revision) or "COMMIT"
    offline = " (HF_HUB_OFFLINE is set, so nothing was asked of the network)" if is_offline() else ""
    return BackboneError(
        f"{entry.name}: weights of {repo}{told_size(entry)} are not on this machine{offline}.\n"
        f"  Missing: {'; '.join(lacking)}.\n"
        f"  Either run `deponij weights fetch {asked_for(entry)}` where there is a network,\n"
        f"  or put the files into {manual_folder(entry.name)},\n"
        f"  or into the Hugging Face cache as {repo_folder(repo) / 'snapshots' / commit},\n"
        "  or give any folder that holds them as the backbone."
    )


def unreachable(entry: Entry, lacking: list[str], why: str) -> BackboneError:
    """The error for weights that were to be fetched where nothing can be: what was tried, and the way by another machine.

    Args:
        why: why not, as the end of a sentence.
    """
    repo = entry.repo or ""
    folder = repo_folder(repo)
    return BackboneError(
        f"{entry.name}: weights of {repo}{told_size(entry)} are not on this machine, and {why}.\n"
        "  To bring them from a machine that has a network:\n"
        f"  - there, run `deponij weights fetch {asked_for(entry)}`,\n"
        f"  - copy the folder {folder.name} of its Hugging Face cache, links and all (`tar` or `rsync -a`), into\n"
        f"    {folder.parent} here;\n"
        f"  - or put just these files into {manual_folder(entry.name)}:\n"
        f"    {'; '.join(lacking)}."
    )


def asked_for(entry: Entry) -> str:
    """What a user writes to get this very backbone from the hub."""
    if entry.name in entries():
        return entry.name
    commit = commit_of(entry.repo or "", entry.revision)
    return f"hf:{entry.repo}" + (f"@{commit}" if entry.revision else "")


def told_size(entry: Entry) -> str:
    """` (about 346 MB, Apache-2.0)`, or what is known of it."""
    size = "" if entry.weights_bytes is None else f"about {entry.weights_bytes / 1e6:,.0f} MB"
    told = ", ".join(one for one in (size, entry.licence) if one)
    return f" ({told})" if told else ""


def _locate_repo(entry: Entry, repo: str) -> Location:
    by_hand = manual_folder(entry.name)
    if by_hand.is_dir() and not family_of(entry, by_hand).missing(by_hand):
        return Location(entry.name, by_hand, None, entry.architecture, f"hf:{repo}", None)
    commit = commit_of(repo, entry.revision)
    snapshot = repo_folder(repo) / "snapshots" / commit if commit else None
    folder = snapshot if snapshot is not None and snapshot.is_dir() else None
    if lacking := family_of(entry, folder).missing(folder):
        raise absent(entry, lacking)
    return Location(entry.name, folder, None, entry.architecture, f"hf:{repo}", commit)


def _pin_file(repo: str) -> Path:
    return cache_folder() / "pins" / f"{repo.replace('/', '--')}.json"
