"""Profiles: parameter files of which one is in force as `params.yaml`."""

from typing import Any

from deponij.project.frame.settings import (
    PARAMS_FILE,
    PROFILES,
    how_a_profile_is_had,
    known_sections,
    read_yaml,
)
from deponij.store.atomic import write_bytes
from deponij.store.errors import UsageError

FOLDER = PROFILES


def known() -> list[dict[str, Any]]:
    """One record a profile: name, whether it is in force, its data set and backbones."""
    current = read_yaml(PARAMS_FILE).get("profile") if PARAMS_FILE.exists() else None
    rows = []
    for path in sorted(FOLDER.glob("*.yaml")):
        values = read_yaml(path)
        rows.append(
            {
                "name": path.stem,
                "in_force": values.get("profile") == current,
                "data": values.get("data", {}).get("root"),
                "backbones": list(values.get("backbones", {})),
            }
        )
    return rows


def use(name: str, *, force: bool = False) -> str:
    """Copy a profile to params.yaml; outputs of other profiles stay where they are.

    Raises:
        UsageError: there is no such profile, it has unknown sections, or params.yaml holds edits that
            no profile has (unless `force`).
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        there = f"there are: {names}" if names else how_a_profile_is_had()
        raise UsageError(f"no profile {name!r}; {there}")
    unknown = set(read_yaml(path)) - set(known_sections())
    if unknown:
        raise UsageError(f"{path} has unknown sections: {', '.join(sorted(unknown))}")
    if not force and PARAMS_FILE.exists() and not _saved(PARAMS_FILE.read_bytes()):
        raise UsageError(
            "params.yaml holds edits that no profile has: save them (`cp params.yaml profiles/NAME.yaml`) "
            "or give --force to drop them"
        )
    write_bytes(PARAMS_FILE, path.read_bytes())
    return f"profile {name} is in force; `dvc repro` runs it"


def _saved(content: bytes) -> bool:
    return any(path.read_bytes() == content for path in FOLDER.glob("*.yaml"))
