"""`deponij push`: a tuned backbone brought to a repository of the Hugging Face hub, whole and by one commit.

What lies there afterwards is what `tuned.json` names and nothing else, and is a backbone by `hf:USER/NAME@COMMIT`. Large
files travel first and are not sent again, so that an upload that broke off goes on.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones.sources import is_offline
from deponij.pipeline.tuning.saved import RECORD, read_tuned
from deponij.project.extraction.weight_sizes import size
from deponij.project.frame.settings import check
from deponij.project.tuning.card import CARD, card
from deponij.project.tuning.record import TunedRecord, read_record
from deponij.store.errors import BackboneError, UsageError, explained
from deponij.store.sealed import sealed, sha256_of
from deponij.store.what_is import instead

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

Content = bytes | Path
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+_-]*")
_ADAPTER = "adapter/adapter_config.json"
# The hub puts it into each new repository.
_THE_HUBS_OWN = ".gitattributes"


@dataclass(frozen=True, slots=True)
class PushRequest:
    """Where to, and how.

    Attributes:
        repo: USER/NAME.
        revision: a branch.
        create: make the repository, or the branch, where there is none.
        private: when it is made.
        overwrite: what else lies there goes; its history keeps it.
        licence: in the place of the one that the folder's record has, if any.
        token_from: variable of the environment that holds the token; None for the one of `hf auth login` or `HF_TOKEN`.
    """

    repo: str
    revision: str = "main"
    create: bool = False
    private: bool = False
    overwrite: bool = False
    licence: str | None = None
    token_from: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What lies on the hub now.

    Attributes:
        files: sizes in bytes by name.
        was_there: all of it before; nothing was uploaded.
    """

    repo: str
    revision: str
    commit: str
    address: str
    spec: str
    licence: str
    files: dict[str, int]
    was_there: bool


def push(folder: Path, request: PushRequest, announce: Callable[[str], None] = lambda line: None) -> Pushed:
    """Upload a tuned backbone's folder. `HF_ENDPOINT` names another hub.

    Args:
        announce: given lines on what is about to be uploaded, before anything is.

    Raises:
        UsageError: it is no tuned backbone, no licence or no token is known, or something else lies in the repository.
        StoreError: the folder is damaged.
        BackboneError: the hub refuses it or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.constants import ENDPOINT

    if request.repo.count("/") != 1:
        raise UsageError(f"--repo {request.repo}: it must be USER/NAME")
    contents, licence = _contents(folder, request.licence)
    if request.private and not request.create:
        raise UsageError("--private is for --create; of a repository that is there the hub's page changes it")
    if is_offline():
        raise BackboneError("HF_HUB_OFFLINE is set, so nothing is uploaded; unset it, or push from elsewhere")
    token, endpoint = _token(request.token_from), (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    sizes = {name: _size(one) for name, one in contents.items()}
    announce("\n".join(_told(f"{endpoint}/{request.repo}", sizes, folder)))
    api = HfApi(endpoint=endpoint, token=token)
    with _from_hub(endpoint, request):
        if request.create:
            api.create_repo(request.repo, private=request.private or None, exist_ok=True)
            if request.revision != "main":
                api.create_branch(request.repo, branch=request.revision, exist_ok=True)
        info = api.model_info(request.repo, revision=request.revision, files_metadata=True)
        there = {one.rfilename: one for one in info.siblings or [] if one.rfilename != _THE_HUBS_OWN}
        was_there = there.keys() == contents.keys() and all(
            _is(one, contents[name]) for name, one in there.items()
        )
        if request.private and not info.private:
            raise UsageError(
                f"{request.repo} is there already, and public; make it private on its page, or leave --private"
            )
        if there and not was_there and not request.overwrite:
            raise UsageError(
                f"{request.repo} ({request.revision}) holds {len(there)} other files, as {min(there)}; take another name or "
                "--revision, or --overwrite to replace them (its history keeps them)"
            )
        commit = str(info.sha)
        if not was_there:
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                *(CommitOperationAdd(name, one) for name, one in contents.items()),
                *(CommitOperationDelete(name) for name in sorted(there.keys() - contents.keys())),
            ]
            message = f"{folder.resolve().name}, tuned by Deponij"
            made = api.create_commit(
                request.repo,
                operations,
                commit_message=message,
                revision=request.revision,
                parent_commit=info.sha,
            )
            commit = made.oid
    tail = "" if request.revision == "main" else f"/tree/{request.revision}"
    address, spec = f"{endpoint}/{request.repo}{tail}", f"hf:{request.repo}@{commit}"
    return Pushed(request.repo, request.revision, commit, address, spec, licence, sizes, was_there)


def told(pushed: Pushed) -> str:
    """Lines for a person."""
    first = "was there already, nothing was uploaded" if pushed.was_there else "uploaded"
    return f"{first}: {pushed.address}\n-> a backbone anywhere: --backbone {pushed.spec}"


def _contents(folder: Path, licence: str | None) -> tuple[Mapping[str, Content], str]:
    """Content of the files to upload by their names, the record and the card with the licence; and the licence."""
    if not (folder / RECORD).is_file():
        raise UsageError(
            f"{folder} is no tuned backbone: it has no {RECORD}; `deponij tune` makes one{instead(folder)}"
        )
    body = read_tuned(folder)
    if "protocol" in body["tuned"]:  # of a decoder, as `deponij.project.segmentation.whole` writes it
        raise UsageError(f"{folder} learned with a decoder; `deponij push` uploads what `deponij tune` made")
    record = read_record(folder / RECORD)
    licence = licence or record.licence
    if licence is None:
        raise UsageError(
            f"nothing says under which licence {record.base} may be passed on, on which {folder} stands; find out, and name "
            "it: --licence NAME, as apache-2.0"
        )
    if not _LICENCE.fullmatch(licence):
        raise UsageError(f"--licence {licence!r} is no name of a licence, as apache-2.0 or cc-by-nc-4.0")
    told = body | {"tuned": record.model_copy(update={"licence": licence}).model_dump(mode="json")}
    names = _names_of_folders(record)
    told = _named(told, names)
    changed = {CARD: card(check(TunedRecord, told["tuned"], CARD), told["weights_sha256"]).encode()}
    if _ADAPTER in told["files"]:
        config = json.loads((folder / _ADAPTER).read_text())
        changed[_ADAPTER] = json.dumps(_named(config, names), indent=2).encode()
    sums = {name: {"size_bytes": len(one), "sha256": sha256_of(one)} for name, one in changed.items()}
    told = told | {"files": told["files"] | sums}
    return {**{name: folder / name for name in told["files"]}, **changed, RECORD: sealed(told)}, licence


def _names_of_folders(record: TunedRecord) -> dict[str, str]:
    """Of base and teacher, where they are folders of this machine: their names, for where they lie is nobody's business."""
    teacher = record.recipe.get("teacher")
    places = [record.base, teacher["backbone"] if isinstance(teacher, dict) else None]
    return {
        one: Path(one).name
        for one in places
        if isinstance(one, str) and os.sep in one and (Path(one).is_absolute() or Path(one).is_dir())
    }


def _named(value: Any, names: Mapping[str, str]) -> Any:
    """JSON in which these texts are others, wherever they stand."""
    if isinstance(value, dict):
        return {key: _named(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    if isinstance(value, str):
        for place, name in names.items():
            value = value.replace(place, name)
    return value


def _told(where: str, sizes: Mapping[str, int], folder: Path) -> Iterator[str]:
    yield f"to be uploaded to {where}:"
    wide = max(map(len, sizes))
    for name, n_bytes in sizes.items():
        yield f"  {name:{wide}}  {size(n_bytes)}"
    yield f"  together {size(sum(sizes.values()))}"
    others = [
        one
        for one in sorted(folder.rglob("*"))
        if one.is_file() and str(one.relative_to(folder)) not in sizes
    ]
    if others:
        yield f"not uploaded, for {RECORD} does not name them: {', '.join(str(one.relative_to(folder)) for one in others)}"


def _token(variable: str | None) -> str:
    from huggingface_hub import get_token

    token = os.environ.get(variable) if variable else get_token()
    if token:
        return token
    if variable:
        raise UsageError(
            f"the variable {variable} is not set; --token-from names one that holds a token of the hub"
        )
    raise UsageError(
        "there is no token of the hub: `hf auth login` keeps one, HF_TOKEN holds one, or --token-from names a variable"
    )


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _is(there: "RepoSibling", content: Content) -> bool:
    """Whether a file of the hub has this content: git knows it by SHA-1, large ones by SHA-256."""
    with explained(f"cannot read {content!r:.200}"):
        data = content if isinstance(content, bytes) else content.read_bytes()
    if there.lfs is not None:
        return there.lfs.sha256 == sha256_of(data)
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def _from_hub(endpoint: str, request: PushRequest) -> Iterator[None]:
    """What the hub refuses, and what breaks off, told in words."""
    from huggingface_hub import errors

    # Releases of the client differ in their HTTP library; its errors are what this one derives from.
    broken_off: tuple[type[Exception], ...] = (*errors.HfHubHTTPError.__bases__, OSError)
    repo = request.repo
    try:
        with warnings.catch_warnings():
            # Pictures' keys are a table, and no data set of their own.
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
            yield
    except errors.HFValidationError as error:
        raise UsageError(f"--repo {repo}: {_first(error)}") from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{repo} has no branch {request.revision}; --create makes it") from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"there is no {repo} at {endpoint}, or this token may not see it; --create makes it"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        cause = {
            401: "the token is not taken; `hf auth login` makes another",
            403: "this token may not write there; it needs the permission to",
            409: "somebody else is writing it; run the same command again",
            412: "somebody else has written it meanwhile; look there, then run the same command again",
        }.get(status, "what was uploaded is kept there, and the same command goes on")
        raise BackboneError(f"{endpoint} refuses {repo} ({status}): {_first(error)}; {cause}") from error
    except broken_off as error:
        raise BackboneError(
            f"the upload to {endpoint} broke off: {_first(error)}; {repo} is as it was, and the same command goes on"
        ) from error
    except ValueError as error:
        raise BackboneError(f"{endpoint} does not take it: {' '.join(str(error).split())}") from error


def _first(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
