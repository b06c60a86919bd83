"""Stage `multilabel`: heads that answer each class with yes or no, for columns with several labels an item.

    python -m deponij.stages.multilabel

Its columns stand under `label_sets`, those of one label an item under `labels`.
"""

import shutil
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue

from deponij.pipeline.metrics.multilabel_result import MultilabelResult
from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage, write_metrics
from deponij.project.frame.lacking import NeededSets
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Section, Slug
from deponij.project.learning.multilabel import learn_multilabel, make_multilabel_head
from deponij.project.learning.multilabel_files import metrics_of
from deponij.store.texts import in_percent

USUAL: dict[str, dict[str, JsonValue]] = {"knn": {}, "one-vs-rest": {}}


class MultilabelParams(Section):
    """Which heads.

    Attributes:
        kinds: heads of the registry, each with its constructor's arguments where they are not the defaults.
    """

    kinds: dict[str, dict[str, JsonValue]] = Field(default=USUAL, min_length=1)


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of backbones and splits only their names."""

    splits: dict[Slug, Any]
    label_sets: NeededSets = Field(default_factory=list)
    multilabel: MultilabelParams = MultilabelParams()


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every head, backbone, split and column of the profile."""
    kinds = {make_multilabel_head(kind, given).kind: given for kind, given in params.multilabel.kinds.items()}
    shutil.rmtree(at.multilabel, ignore_errors=True)
    at.multilabel.mkdir(parents=True)
    numbers: dict[str, Any] = {}
    for labels in params.label_sets:
        for kind, arguments in kinds.items():
            for backbone in params.backbones:
                for split in params.splits:
                    result = learn_multilabel(
                        kind,
                        arguments,
                        features=at.view(backbone),
                        items=at.items,
                        split=at.split(split),
                        labels=labels,
                        out=at.multilabel / kind / backbone / f"{split}-{labels}",
                    )
                    say(told(result))
                    of_backbone = numbers.setdefault(kind, {}).setdefault(backbone, {})
                    of_backbone.setdefault(split, {})[labels] = metrics_of(result)
    write_metrics(at, "multilabel", numbers)


def told(result: MultilabelResult) -> str:
    """A line for a person."""
    scores = result.parts[result.shown]
    of_chance, f1 = in_percent(scores.chance_map), in_percent(scores.f1_micro)
    return (
        f"{result.method} {result.backbone} {result.split}/{result.labels}: {result.shown} mAP "
        f"{in_percent(scores.map_macro)} of {scores.n} (chance {of_chance}), F1 {f1}"
    )


def _outs(at: Layout) -> list[Path]:
    return [at.multilabel, at.metrics("multilabel")]


if __name__ == "__main__":
    run_stage("multilabel", Params, main, outs=_outs)
