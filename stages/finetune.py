"""Stage `finetune`: items, a split and a backbone in, a tuned backbone out, and the answers of its own classifier, or what
pictures and captions find of each other.

    python -m deponij.stages.finetune NAME     (a key of `finetune` in params.yaml)

Its features come into the depot by the stage `extract_tuned`, as those of any other backbone. An interrupted training
goes on from its checkpoint, which lies beside the run and is no output.
"""

from typing import Annotated, Any

from pydantic import Field

from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage
from deponij.project.frame.lacking import Needed
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section, Slug
from deponij.project.in_force import weights_record
from deponij.project.tuning.begun import Running
from deponij.project.tuning.learn import tune
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.record import METHOD, TunedRecord
from deponij.project.tuning.took import Took, write_took
from deponij.store.errors import UsageError


class Params(Section):
    """The sections of params.yaml that this stage reads; of splits only their names."""

    finetune: dict[Slug, Recipe] = Field(default_factory=dict)
    splits: dict[Slug, Any] = Field(default_factory=dict)
    labels: Annotated[list[str], Needed("no column of labels is named (`labels: []`)", instead="finetune")]


def main(params: Params, at: Layout, options: RunOptions, key: str) -> None:
    """One recipe of the profile."""
    if key not in params.finetune:
        raise UsageError(f"the profile has no recipe {key!r}; it has {', '.join(params.finetune) or 'none'}")
    recipe = params.finetune[key]
    labels, split = _labels(key, recipe, params), recipe.split or next(iter(params.splits))
    # Captions stand in any column of texts.
    known_labels = params.labels if recipe.learns == "classes" else [labels]
    for what, asked, known in (("labels", labels, known_labels), ("split", split, params.splits)):
        if asked not in known:
            raise UsageError(
                f"finetune.{key}: {what}: {asked!r} is not the profile's; it has {', '.join(known)}"
            )
    base = weights_record(at, recipe.backbone)
    if base is None:
        raise UsageError(f"finetune.{key}: the profile has no backbone {recipe.backbone!r} to tune")
    teacher = None if recipe.teacher is None else weights_record(at, recipe.teacher.backbone)
    if recipe.teacher is not None and teacher is None:
        raise UsageError(f"finetune.{key}: the profile has no backbone {recipe.teacher.backbone!r} to teach")
    record = tune(
        key,
        recipe,
        spec=str(base["spec"]),
        items=at.items,
        split=at.split(split),
        labels=labels,
        out=at.tuned(key),
        results=at.result(METHOD, key, "finetune") / f"{split}-{labels}",
        running=Running(options, at.unfinished / f"finetune-{key}", keeps_time=False),
        teacher=None if teacher is None else str(teacher["spec"]),
        toy=bool(base["toy"]),
    )
    if record.seconds is not None:
        write_took(at.took(key), Took(seconds=record.seconds, peak_bytes=record.peak_bytes))
    say(told(record))


def told(record: TunedRecord) -> str:
    """One line."""
    return (
        f"{record.name}: {record.base_name} by {record.said}, {record.n_learned:,} of {record.n_weights:,} weights; "
        f"{record.reached(record.judged[-1])}"
    )


def _labels(key: str, recipe: Recipe, params: Params) -> str:
    """The column that is learned."""
    if recipe.labels is not None:
        return recipe.labels
    if recipe.learns == "captions":
        raise UsageError(f"finetune.{key}: name the column of the captions, as labels: caption")
    if not params.labels:
        raise UsageError(f"finetune.{key}: the profile names no labels to learn; learns: captions needs none")
    return params.labels[0]


if __name__ == "__main__":
    run_stage("finetune", Params, main)
