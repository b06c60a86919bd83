"""Stage `heads`: heads learned from the views of all backbones, each scored on every part of every split.

    python -m deponij.stages.heads

Any head of the registry can be named. Those that start from texts run for the backbones with text, those that read maps
for the backbones whose patch tokens are stored, the others for every backbone. Many seeds and joined backbones are the
business of `tables`.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, JsonValue

from deponij.pipeline.heads.registry import head_class
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.frame.console import note, say
from deponij.project.frame.csv_files import csv_bytes
from deponij.project.frame.harness import run_stage, write_metrics
from deponij.project.frame.lacking import NeededLabels, leave_empty
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, PatchTokens, RunOptions, Section, Slug
from deponij.project.learning.arguments import make_head
from deponij.project.learning.learn import HeadParams, learn
from deponij.project.learning.result_files import CONFUSION_NAME, read_file
from deponij.project.learning.results import metrics_of
from deponij.store.atomic import write_bytes
from deponij.store.texts import in_percent

Count = Annotated[int, Field(ge=1)]
# What a first look at features asks, the quickest first.
USUAL: dict[str, dict[str, JsonValue]] = {
    kind: {} for kind in ("zero-shot", "centroid", "logistic", "knn", "tip-adapter", "wise-ft")
}


class HeadsParams(Section):
    """Which heads, and how they learn.

    Attributes:
        kinds: of the registry, each with its constructor's arguments where they are not the defaults.
        templates: use only class texts of these templates; None for all that a view of texts has.
        per_class: few-shot k-NN: examples of each class to learn from; empty for none.
        tries: how often others are drawn.
    """

    kinds: dict[str, dict[str, JsonValue]] = Field(default=USUAL, min_length=1)
    templates: tuple[str, ...] | None = None
    per_class: tuple[Count, ...] = (1, 2, 5, 10)
    tries: int = Field(default=5, ge=1, le=100)


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of backbones and splits only their names."""

    text_backbones: list[Slug]
    patch_tokens: dict[Slug, PatchTokens] = Field(default_factory=dict)
    splits: dict[Slug, Any]
    labels: NeededLabels
    heads: HeadsParams = HeadsParams()

    def backbones_of(self, kind: str) -> list[str]:
        """Those that a kind of head is learned from."""
        if head_class(kind).reads == "maps":
            return list(self.patch_tokens)
        return self.text_backbones if head_class(kind).starts_from_texts else list(self.backbones)

    def features(self, kind: str, backbone: str, at: Layout) -> list[Path]:
        """The views that it is learned from."""
        if head_class(kind).reads == "maps":
            return [at.maps(backbone, flip=flip) for flip in self.patch_tokens[backbone].kinds]
        return [at.view(backbone)]


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every head, backbone, split and label set of the profile."""
    heads = params.heads
    # What is wrong with one is said before anything is cleared away.
    kinds = {make_head(kind, arguments).kind: arguments for kind, arguments in heads.kinds.items()}
    leave_empty(_outs(at))
    numbers: dict[str, Any] = {}
    for kind, arguments in kinds.items():
        head = HeadParams(head=kind, arguments=arguments, templates=heads.templates)
        wants_texts = head_class(kind).starts_from_texts
        if not (backbones := params.backbones_of(kind)):
            what = "`text_backbones`" if wants_texts else "`patch_tokens`"
            note(f"no {kind}: {what} names no backbone")
        for backbone in backbones:
            results = {}
            for split in params.splits:
                for labels in params.labels:
                    results[split, labels] = learn(
                        head,
                        features=params.features(kind, backbone, at),
                        items=at.items,
                        split=at.split(split),
                        labels=labels,
                        texts=at.texts(backbone) if wants_texts else None,
                        per_class=heads.per_class,
                        tries=heads.tries,
                        out=at.result(kind, backbone) / f"{split}-{labels}",
                        depot=options.depot,
                    )
                    _tell(results[split, labels])
            numbers.setdefault(kind, {})[backbone] = {
                split: {labels: metrics_of(results[split, labels]) for labels in params.labels}
                for split in params.splits
            }
            _write_plots(at, kind, backbone, results)
    write_metrics(at, "heads", numbers)


def _outs(at: Layout) -> list[Path]:
    return [at.results_of("heads"), at.plots("confusion"), at.plots("reliability"), at.metrics("heads")]


def _tell(result: Evaluation) -> None:
    test = result.parts.get("test")
    if test is not None:
        say(
            f"{result.method} {result.backbone} {result.split}/{result.labels}: test top-1 {in_percent(test.top1)} of "
            f"{test.n} (chance {in_percent(result.chance)})"
        )


def _write_plots(at: Layout, kind: str, backbone: str, results: dict[tuple[str, str], Any]) -> None:
    """Confusion and reliability of the first split and label set, as `dvc plots` draws them."""
    (split, labels), first = next(iter(results.items()))
    confusion = read_file(at.result(kind, backbone) / f"{split}-{labels}", CONFUSION_NAME)
    write_bytes(at.plots("confusion") / f"{kind}-{backbone}.csv", confusion)
    write_bytes(at.plots("reliability") / f"{kind}-{backbone}.csv", _reliability(first))


def _reliability(result: Evaluation) -> bytes:
    """Confidence, accuracy and number of items of each bin that has some."""
    bins = result.calibration.bins if result.calibration is not None else ()
    rows = [
        {"confidence": round(one.confidence, 6), "accuracy": round(one.accuracy, 6), "n": one.n}
        for one in bins
        if one.confidence is not None and one.accuracy is not None
    ]
    return csv_bytes(rows, ("confidence", "accuracy", "n"))


if __name__ == "__main__":
    run_stage("heads", Params, main, outs=_outs)
