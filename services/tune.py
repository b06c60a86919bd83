"""Tuning a backbone that a person names; what the stage `finetune` does for a recipe of a profile."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, JsonValue

from deponij.pipeline.backbones import describe, parse_spec
from deponij.pipeline.training.trackers import Tracking
from deponij.project.frame.settings import RunOptions
from deponij.project.tuning.asked import asked_recipe
from deponij.project.tuning.begun import Running
from deponij.project.tuning.learn import tune
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.record import TunedRecord
from deponij.store.texts import duration, in_percent

_PLAIN = re.compile(r"[^A-Za-z0-9._~-]+")


@dataclass(frozen=True)
class TuneRequest:
    """What is asked for.

    Attributes:
        teacher: whom it learns from beside the labels; named as a backbone is.
        arguments: NAME=VALUE of the recipe; a dot leads into a part of it, as `lora.rank=16`.
        training: settings that have flags of their own.
    """

    backbone: str
    recipe: str = "lora"
    teacher: str | None = None
    arguments: tuple[str, ...] = ()
    training: Mapping[str, JsonValue] = field(default_factory=dict)

    def parsed(self) -> Recipe:
        """The recipe.

        Raises:
            UsageError: a name or a value is wrong; all problems are told together.
        """
        values: dict[str, Any] = {"backbone": slug(self.backbone), "recipe": self.recipe}
        if self.teacher is not None:
            values["teacher"] = {"backbone": self.teacher}
        return asked_recipe(values, self.arguments, self.training)


def run(
    request: TuneRequest,
    *,
    items: Path,
    split: Path,
    labels: str,
    out: Path,
    results: Path | None,
    options: RunOptions,
    tracking: Tracking | None = None,
) -> TunedRecord:
    """Tune, and write the folder.

    Raises:
        DeponijError: what cannot be used; the message says what to do.
    """
    recipe = request.parsed()
    if recipe.teacher is not None:
        describe(recipe.teacher.backbone)
    describe(request.backbone)  # absent weights are said before anything is read
    return tune(
        out.name,
        recipe,
        spec=request.backbone,
        items=items,
        split=split,
        labels=labels,
        out=out,
        results=results,
        running=Running(options, out.with_name(f"{out.name}.unfinished"), tracking=tracking),
        toy=parse_spec(request.backbone).toy,
    )


def slug(backbone: str) -> str:
    """A name for parameters of what may be a folder or a `family:…` form."""
    return _PLAIN.sub("-", Path(backbone).name).lstrip("._-~") or "backbone"


def told(record: TunedRecord, out: Path) -> str:
    """Lines for a person."""
    if record.learns == "classes":
        shares = ", ".join(f"{part} {in_percent(top1)}" for part, top1 in record.top1.items())
        figures = f"top-1 of its own classifier: {shares}"
    else:
        figures = "\n".join(record.reached(part) for part in record.judged)
    took = "" if record.seconds is None else f" in {duration(record.seconds)}"
    return (
        f"{record.base} tuned ({record.said}){took}: {record.n_learned:,} of {record.n_weights:,} weights learned from "
        f"{record.n_train:,} pictures, epoch {record.kept + 1} of {len(record.history)} kept\n"
        f"{figures}\n"
        f"-> {out}, a backbone like any other: deponij extract --items ITEMS --backbone {out}"
    )


def listed_arguments() -> str:
    """What `--set` takes, a line each with its default."""
    return "\n".join(_lines(Recipe, ""))


def _lines(model: type[BaseModel], prefix: str) -> list[str]:
    from deponij.pipeline.training.params import TrainingParams
    from deponij.project.tuning.params import USUAL, TeacherParams

    lines = []
    for name, one in model.model_fields.items():
        default = one.default
        if name == "backbone" or (prefix == "" and name in ("recipe", "labels", "split")):
            continue
        if name == "training":
            usual = TrainingParams.model_validate(USUAL)
            whole = Recipe(backbone="any", recipe="full").trained_by("usual")
            for key in TrainingParams.model_fields:
                default, other = getattr(usual, key), getattr(whole, key)
                lines.append(
                    f"training.{key}={default}"
                    + (f" (full, last-blocks: {other})" if other != default else "")
                )
        elif name == "teacher":
            lines += _lines(TeacherParams, f"{prefix}{name}.")
        elif isinstance(default, BaseModel):
            lines += _lines(type(default), f"{prefix}{name}.")
        else:
            lines.append(f"{prefix}{name}={default}")
    return lines
