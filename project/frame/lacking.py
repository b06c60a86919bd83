"""A stage whose section of the profile is empty has nothing to do: how it says which, and what it leaves. This is no stage.

A field of a stage's `Params` that is marked so is what the stage works on: without labels nothing can be learned, without
classes nothing answered. `deponij run` passes such a stage over; under DVC its process says so, and leaves its outputs
empty, for DVC wants them there.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from deponij.store.atomic import make_folder, write_bytes


@dataclass(frozen=True, slots=True)
class Needed:
    """Marks a section of a profile without entries in which its stage has nothing to do; `said`: what then is so."""

    said: str


NeededLabels = Annotated[list[str], Needed("no column of labels is named (`labels: []`)")]
NeededClasses = Annotated[list[str], Needed("no classes are named (`classes: []`)")]


def needs_of(params: type[BaseModel]) -> dict[str, str]:
    """Names of the sections that a stage cannot do without, and what is so where they are empty."""
    return {
        name: mark.said
        for name, field in params.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Needed)
    }


def lack_of(params: BaseModel) -> str:
    """What a stage with these parameters lacks, in words; empty where it has what it needs."""
    needs = needs_of(type(params))
    return "; ".join(said for name, said in needs.items() if not getattr(params, name))


def leave_empty(outs: Iterable[Path]) -> None:
    """Outputs of a stage that had nothing to do: folders without a file, JSON files without a number."""
    for path in outs:
        if path.suffix == ".json":
            write_bytes(path, b"{}\n")
        else:
            shutil.rmtree(path, ignore_errors=True)
            make_folder(path)
