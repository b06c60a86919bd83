"""What a training is, by name: a checkpoint of another one is not gone on with, and told apart by what differs."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import Task
from deponij.pipeline.training.weights import frozen_sha256

Settings = dict[str, JsonValue]
_SHOWN = 4
_SHORT = 30  # characters of a value that says something to people; what is longer is a digest or a list


def settings_of(task: Task, params: TrainingParams) -> Settings:
    """All that shapes a training."""
    try:
        told = json.loads(task.identity)
    except ValueError:
        told = None
    of_task = dict(_flat(told)) if isinstance(told, dict) else {"data, model or loss": task.identity}
    frozen = frozen_sha256(task.model)
    return of_task | params.shaping | ({"frozen weights": frozen} if frozen else {})


def identity_of(settings: Settings) -> str:
    """What stands for a training."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def differences(there: Settings, here: Settings) -> str:
    """What a checkpoint's settings have otherwise than those of the training at hand, in words."""
    names = [name for name in dict.fromkeys([*here, *there]) if there.get(name) != here.get(name)]
    if not names:
        return "another version or model"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(_said(name, there, here) for name in names[:_SHOWN]) + more


def _said(name: str, there: Settings, here: Settings) -> str:
    one, other = (json.dumps(of.get(name)) for of in (there, here))
    return name if max(len(one), len(other)) > _SHORT else f"{name} {one} there, {other} here"


def _flat(told: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in told.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
