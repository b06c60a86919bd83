"""Bring a backbone's files from the hub into the Hugging Face cache: the only place that uses a network.

Only what is loaded is fetched: records, tokenizer and one file (or one split set) of weights,
safetensors where the repository has them, PyTorch files otherwise. `HF_ENDPOINT` names another hub;
with `HF_HUB_OFFLINE` nothing is asked. A backbone without a revision is pinned to the commit that
`main` has now, for this machine, from then on.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from deponij.pipeline.backbones import registry, sources, weights
from deponij.pipeline.backbones.access import resolved
from deponij.pipeline.backbones.catalog import Entry, parse_spec
from deponij.pipeline.backbones.contract import Backbone
from deponij.store.errors import BackboneError

# Top-level records and vocabularies, and what a tuned one learned from; weights are chosen by the family's own order.
_RECORDS = ("*.json", "*.model", "merges.txt", "vocab.txt", "LICENSE*", "learned_from.parquet")
# Errors of writing files; all other ones of the system's, here, are of the network.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO)


def fetch(spec: str) -> Path:
    """Fetch the files of a hub backbone, unless they are here; the folder that holds them.

    Args:
        spec: a name of the catalog, or `hf:ORG/REPO[@COMMIT]`, `timm:NAME`, `open_clip:ARCH/TAG`.

    Raises:
        UsageError: unknown name.
        BackboneError: not a hub backbone, forbidden by `HF_HUB_OFFLINE`, or the hub does not give the files.
    """
    return fetch_entry(resolved(parse_spec(spec)))


def fetch_entry(entry: Entry) -> Path:
    """`fetch` for an entry that is parsed already."""
    if entry.repo is None:
        location = sources.locate(entry)  # says what is missing, if anything is
        return location.folder or location.files[0]
    if sources.is_present(entry):
        folder = sources.locate(entry).folder
        if folder is not None:
            return folder
    if sources.is_offline():
        why = "HF_HUB_OFFLINE is set, so nothing was asked of the network; without it, fetching is tried"
        raise sources.unreachable(entry, _all_files(entry), why)
    return _download(entry, entry.repo)


def files_to_fetch(family: type[Backbone] | None, listing: Iterable[str]) -> list[str]:
    """Of a repository's files, those to fetch.

    Args:
        family: whose weights; None: the first family whose weights are listed.
    """
    names = [name for name in listing if "/" not in name]
    indexes = {name for name in names if name.endswith(".index.json")}
    records = [name for name in names if any(fnmatch(name, one) for one in _RECORDS) and name not in indexes]
    candidates = [family] if family else list(registry.families().values())
    chosen = next((files for one in candidates if (files := weights.choose(names, one.weights_names))), [])
    return sorted({*records, *chosen})


def _download(entry: Entry, repo: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # Releases of the hub client differ in their HTTP library; its errors are what this one derives from.
    failures: tuple[type[Exception], ...] = (
        *HfHubHTTPError.__bases__,
        HFValidationError,
        LocalEntryNotFoundError,
        OSError,
    )

    endpoint = os.environ.get("HF_ENDPOINT") or None
    revision = entry.revision or sources.pin_of(repo) or "main"
    try:
        info = HfApi(endpoint=endpoint).model_info(repo, revision=revision, files_metadata=True)
        commit = str(info.sha)
        sizes = {one.rfilename: one.size or 0 for one in info.siblings or []}
        listing = list(sizes)
        names = files_to_fetch(registry.family(entry.family) if entry.family else None, listing)
        _check(entry, repo, commit, names)
        cache = sources.hub_cache()
        _require_room(entry, sum(sizes[name] for name in names), cache)
        paths = [
            hf_hub_download(repo, name, revision=commit, cache_dir=cache, endpoint=endpoint) for name in names
        ]
    except failures as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        where = endpoint or ENDPOINT
        answered = isinstance(error, HfHubHTTPError | HFValidationError)
        if not answered or isinstance(error, LocalEntryNotFoundError):
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise BackboneError(
                    f"{entry.name}: {sources.hub_cache()} cannot be written: {error}; name a folder for weights with "
                    "HF_HUB_CACHE"
                ) from error
            why = f"the network cannot be reached (tried {where}: {first})"
            raise sources.unreachable(entry, _all_files(entry), why) from error
        raise BackboneError(
            f"{entry.name}: {repo} (revision {revision}) could not be fetched from {where}: {first}"
        ) from error
    if entry.revision is None:
        sources.pin(repo, commit)
    return Path(paths[0]).parent


def _all_files(entry: Entry) -> list[str]:
    """What a folder of this backbone must hold, alternatives joined by "or"."""
    return registry.family(entry.family).missing(None) if entry.family else ["all files"]


def _require_room(entry: Entry, n_bytes: int, cache: Path) -> None:
    """Refuse what the disk has no room for; the hub's own sizes, where it tells them."""
    there = next(folder for folder in (cache.absolute(), *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if n_bytes > free:
        raise BackboneError(
            f"{entry.name}: {n_bytes / 1e6:,.0f} MB are to be fetched, and {free / 1e6:,.0f} MB are free at {cache}; "
            "make room there, or name a folder on another disk with HF_HUB_CACHE"
        )


def _check(entry: Entry, repo: str, commit: str, names: Sequence[str]) -> None:
    """Refuse a repository that lacks what the family needs, before gigabytes travel."""
    groups: tuple[tuple[str, ...], ...] = (("config.json", "open_clip_config.json"),)
    if entry.family is not None:
        family = registry.family(entry.family)
        groups = (*family.other_files, family.weights_names)
    lacking = [" or ".join(group) for group in groups if not set(group) & set(names)]
    if lacking:
        raise BackboneError(f"{entry.name}: {repo} at {commit} lacks {'; '.join(lacking)}")
