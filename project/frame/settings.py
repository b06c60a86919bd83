"""Where parameters come from: `params.yaml` for the experiment, the environment for the run.

Each stage declares a `Params` model whose fields are top-level sections of `params.yaml`; `load`
reads just those. How a run is carried out (device, batch size, workers, depot) never changes what
is computed beyond rounding, so it is no parameter: `RunOptions`.
"""

import ast
import difflib
import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from deponij.store.errors import UsageError

PARAMS_FILE = Path("params.yaml")
PROFILES = Path("profiles")
# Sections of earlier versions, whose settings are those of heads.
_NOW_HEADS = ("probe", "zero_shot", "knn", "blends")
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]*$")]


class Section(BaseModel):
    """Base of all parameter models, and of reports: frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneParams(Section):
    """One backbone of a profile.

    Attributes:
        spec: registry name, folder, or `family:…` form; by default the key it stands under.
        given: a file of embeddings that were made elsewhere, in the place of a model.
        ids: of them: a file, or the name of a column.
        sha256: their content's, without which DVC would not see that it has changed.
    """

    spec: str | None = None
    given: Path | None = None
    ids: str | None = None
    sha256: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.given is not None and self.spec is not None:
            raise ValueError("`given` is a file in the place of a model; leave `spec` out")
        if self.given is None and (self.ids is not None or self.sha256 is not None):
            raise ValueError("`ids` and `sha256` go with `given: FILE`")
        return self


class PatchTokens(Section):
    """What of a backbone's patch tokens goes into the depot, for heads that read them.

    Attributes:
        kind: `dense@1`, the last block or stage.
        flip: whether mirrored pictures are looked at too.
    """

    kind: Literal["dense@1"] = "dense@1"
    flip: bool = False

    @property
    def kinds(self) -> dict[bool, str]:
        """Kinds of feature, by whether the pictures are mirrored."""
        return {False: self.kind} | ({True: f"{self.kind}+flip"} if self.flip else {})


class OfBackbones(Section):
    """Base of the `Params` of stages that look at every backbone of a profile.

    Attributes:
        backbones: of the profile, and after them those that `finetune` makes (DVC sees to it that no name is in both). Of
            both only the names count here.
    """

    backbones: dict[Slug, Any]
    finetune: dict[Slug, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _tuned_ones_too(self) -> Self:
        self.__dict__["backbones"] = self.backbones | {
            name: None for name in self.finetune if name not in self.backbones
        }
        return self


Model = TypeVar("Model", bound=BaseModel)


def load(model: type[Model], path: Path = PARAMS_FILE) -> Model:
    """The sections that `model` names, typed and checked.

    Raises:
        UsageError: no file, no YAML, or wrong parameters; all problems are reported together.
    """
    everything = read_yaml(path)
    known = known_sections()
    unknown = [
        f"  {name}: unknown section{_nearest(name, known)}" for name in everything if name not in known
    ]
    chosen = {name: everything[name] for name in model.model_fields if name in everything}
    return check(model, chosen, str(path), unknown)


@cache
def known_sections() -> tuple[str, ...]:
    """Every top-level section of params.yaml: the fields of the stages' `Params`, read from the source.

    Importing the stages would bring in all that they compute with.
    """
    names: dict[str, None] = {}
    for source in sorted(Path(str(files("deponij.stages"))).glob("*.py")):
        for node in ast.parse(source.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name == "Params":
                fields = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
                names |= {field.id: None for field in fields if isinstance(field, ast.Name)}
    return tuple(names)


def check(model: type[Model], values: dict[str, Any], where: str, problems: list[str] | None = None) -> Model:
    """Validate values against a model; `problems` already found are reported with the new ones.

    Raises:
        UsageError: listing every problem with its path, what was got and what is allowed.
    """
    problems = list(problems or [])
    try:
        parsed = model.model_validate(values)
    except ValidationError as error:
        for issue in error.errors():
            place = ".".join(str(part) for part in issue["loc"])
            got = "" if issue["type"] in ("missing", "extra_forbidden") else f" (got {issue['input']!r})"
            problems.append(f"  {place}: {issue['msg']}{got}")
        parsed = None
    if problems or parsed is None:
        raise UsageError(f"{where} has {len(problems)} problem(s):\n" + "\n".join(problems))
    return parsed


def how_a_profile_is_had() -> str:
    """What to do where no profile is in force, for messages."""
    if PROFILES.is_dir():
        return "`deponij profile use NAME` makes one from profiles/NAME.yaml"
    return (
        f"profiles are in the checkout of Deponij, and there is no folder {PROFILES} here either: go there, or take "
        "your pictures without one, `deponij run --folder PICTURES`"
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        UsageError: absent, not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"there is no {path} here; {how_a_profile_is_had()}") from None
    # Dates that there are none of are a ValueError, keys that are lists a TypeError.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold sections, got {type(values).__name__}")
    if strangers := [name for name in values if not isinstance(name, str)]:
        raise UsageError(f"{path} must hold sections with names, got {strangers[0]!r} as one")
    return values


class RunOptions(Section):
    """How to run; from flags, or from the environment for DVC stages.

    Attributes:
        depot: folder or fsspec URL (`DEPONIJ_DEPOT`).
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps` (`DEPONIJ_DEVICE`).
        batch_size: pictures per forward pass; 0 chooses by device (`DEPONIJ_BATCH_SIZE`).
        workers: decoding threads; 0 is one per core (`DEPONIJ_WORKERS`).
        threads: the model's threads on the CPU; 0 is one per core (`DEPONIJ_THREADS`).
        processes: that train a backbone together, one a GPU (`DEPONIJ_PROCESSES`).
        cluster: a Dask scheduler's address, or `local`, that items and features are made on (`DEPONIJ_CLUSTER`).
        under_dvc: DVC runs the stage, so that all that it depends on has been made.
    """

    depot: str = "depot"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    batch_size: int = Field(default=0, ge=0, le=65536)
    workers: int = Field(default=0, ge=0, le=1024)
    threads: int = Field(default=0, ge=0, le=1024)
    processes: int = Field(default=1, ge=1, le=1024)
    cluster: str = ""
    under_dvc: bool = False

    @classmethod
    def from_environment(cls) -> Self:
        """Options from `DEPONIJ_*` variables.

        Raises:
            UsageError: a variable has a value that is not allowed.
        """
        given = {name: os.environ.get(f"DEPONIJ_{name.upper()}") for name in cls.model_fields}
        return check(
            cls, {name: value for name, value in given.items() if value}, "the environment (DEPONIJ_*)"
        )

    @property
    def n_workers(self) -> int:
        """Decoding threads."""
        return self.workers or n_cores()

    @property
    def n_threads(self) -> int:
        """The model's threads."""
        return self.threads or n_cores()


def n_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _nearest(name: str, known: tuple[str, ...]) -> str:
    if name in _NOW_HEADS:
        return "; heads are named in one section now, such as `heads: {kinds: {logistic: {}, knn: {}}}`"
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
