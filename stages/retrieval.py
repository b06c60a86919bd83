"""Stage `retrieval`: how well pictures find pictures of their class, words pictures, and pictures words.

python -m deponij.stages.retrieval
"""

from pathlib import Path
from typing import Any

from deponij.pipeline.metrics.retrieval import RETRIEVAL
from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage, write_metrics
from deponij.project.frame.lacking import NeededLabels
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Slug
from deponij.project.retrieval import images, texts
from deponij.project.retrieval.archive import RetrievalParams, compared, told
from deponij.store.atomic import write_bytes


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of backbones and splits only their names."""

    text_backbones: list[Slug]
    splits: dict[Slug, Any]
    labels: NeededLabels
    retrieval: RetrievalParams = RetrievalParams()


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every backbone, split and label set of the profile, with words where there are any."""
    numbers = {}
    for backbone in params.backbones:
        results = []
        for split in params.splits:
            inputs = {"features": at.view(backbone), "items": at.items, "split": at.split(split)}
            words = {"texts": at.texts(backbone), **inputs}
            for labels in params.labels:
                results.append(images.run(params.retrieval, labels=labels, **inputs))
                if backbone in params.text_backbones:
                    results += texts.run(params.retrieval, labels=labels, **words)
            if backbone in params.text_backbones:
                results += texts.run_captions(params.retrieval, labels=params.labels, **words)
        for one in results:
            say(told(one))
        numbers[backbone] = compared(results)
        write_bytes(at.retrieval(backbone), RETRIEVAL.dump(results))
    write_metrics(at, "retrieval", numbers)


def _outs(at: Layout) -> list[Path]:
    return [at.retrieval("any").parent, at.metrics("retrieval")]


if __name__ == "__main__":
    run_stage("retrieval", Params, main, outs=_outs)
