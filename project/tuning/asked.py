"""A recipe as a person gives it on the command line."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from deponij.project.frame.settings import check
from deponij.project.learning.arguments import parse_arguments
from deponij.project.tuning.params import Recipe
from deponij.store.errors import UsageError


def asked_recipe(
    values: Mapping[str, Any], arguments: Sequence[str], training: Mapping[str, JsonValue] | None = None
) -> Recipe:
    """The recipe.

    Args:
        values: that have flags of their own.
        training: those of its training that do.
        arguments: NAME=VALUE of the recipe; a dot leads into a part of it, as `lora.rank=16`. They count more.

    Raises:
        UsageError: a name or a value is wrong; all problems are told together.
    """
    fields: dict[str, Any] = {**values, "training": dict(training or {})}
    for name, value in parse_arguments(arguments).items():
        place = fields
        *path, last = name.split(".")
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UsageError(f"--set {name}: {part} is no part of the recipe")
        place[last] = value
    return check(Recipe, fields, "this recipe")
