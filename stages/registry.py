"""The one list of stages, as data: dvc.yaml's test and `deponij run` walk it, and it gives the order of what is quick.

No stage imports it; a new stage is a file here, an entry below and a block of dvc.yaml.
"""

from collections.abc import Collection
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

from deponij.project.frame.harness import Main
from deponij.project.frame.lacking import needs_of
from deponij.project.frame.settings import Section

Over = Literal["prepare", "backbones", "finetune"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: of its module here and of its block in dvc.yaml.
        over: the section of params.yaml for each of whose keys it is a process of its own; None for one in all.
        may_lack_data: very small data may be too few for it; `deponij run` then goes on without it.
    """

    name: str
    over: Over | None = None
    may_lack_data: bool = False

    @property
    def params(self) -> type[Section]:
        """The sections of params.yaml that it reads."""
        model: type[Section] = import_module(f"deponij.stages.{self.name}").Params
        return model

    @property
    def needs(self) -> frozenset[str]:
        """The sections without entries in which it has nothing to do, as its `Params` mark them: labels, classes."""
        return frozenset(needs_of(self.params))

    @property
    def needs_labels(self) -> bool:
        """Whether it learns from columns of one label an item, or judges by them."""
        mark = needs_of(self.params).get("labels")
        return mark is not None and not mark.instead

    @property
    def main(self) -> Main:
        """Its body: parameters, layout, options, and a key where it is `over` something."""
        body: Main = import_module(f"deponij.stages.{self.name}").main
        return body


STAGES = (
    Stage("weights"),
    Stage("prepare", over="prepare"),
    Stage("items"),
    Stage("split"),
    Stage("extract", over="backbones"),
    Stage("finetune", over="finetune", may_lack_data=True),
    Stage("extract_tuned", over="finetune"),
    Stage("extract_text"),
    Stage("heads"),
    Stage("multilabel"),
    Stage("retrieval"),
    Stage("index"),
    Stage("likeness", may_lack_data=True),
    Stage("answers"),
    Stage("curves", may_lack_data=True),
    Stage("mistakes", may_lack_data=True),
    Stage("map", may_lack_data=True),
    Stage("tables", may_lack_data=True),
    Stage("ensembles", may_lack_data=True),
    Stage("scenes"),
    Stage("extract_dense"),
    Stage("decoders", may_lack_data=True),
    Stage("advice"),
    Stage("report"),
)


def is_current(label: str, backbones: Collection[str] | None) -> bool:
    """Whether a time, of `STAGE` or `STAGE@KEY`, is that of a stage that there is, with one of these backbones."""
    name, _, key = label.partition("@")
    gone = backbones is not None and key not in backbones
    return any(stage.name == name and not (gone and stage.over == "backbones") for stage in STAGES)
