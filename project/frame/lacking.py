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
    """Marks a section of a profile without entries in which its stage has nothing to do.

    Attributes:
        said: what then is so.
        instead: another section whose entries do as well.
    """

    said: str
    instead: str = ""


NeededLabels = Annotated[list[str], Needed("no column of labels is named (`labels: []`)")]
AnyLabels = Annotated[
    list[str],
    Needed("no column of labels is named (`labels: []`, `label_sets: []`)", instead="label_sets"),
]
NeededSets = Annotated[list[str], Needed("no column of several labels an item is named (`label_sets: []`)")]
NeededClasses = Annotated[list[str], Needed("no classes are named (`classes: []`)")]


def needs_of(params: type[BaseModel]) -> dict[str, Needed]:
    """Names of the sections that a stage cannot do without, and what is so where they are empty."""
    return {
        name: mark
        for name, field in params.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Needed)
    }


def lack_of(params: BaseModel) -> str:
    """What a stage with these parameters lacks, in words; empty where it has what it needs."""
    return "; ".join(
        mark.said
        for name, mark in needs_of(type(params)).items()
        if not getattr(params, name) and not (mark.instead and getattr(params, mark.instead))
    )


def leave_empty(outs: Iterable[Path]) -> None:
    """Outputs of a stage that had nothing to do: folders without a file, JSON files without a number."""
    for path in outs:
        if path.suffix == ".json":
            write_bytes(path, b"{}\n")
        else:
            shutil.rmtree(path, ignore_errors=True)
            make_folder(path)
