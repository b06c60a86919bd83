"""Stage `zero_shot`: class vectors of one backbone's text vectors, scored on every part of a split.

python -m deponij.stages.zero_shot BACKBONE     (one of `text_backbones` in params.yaml)
"""

import sys
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.frame.harness import layout, run_stage
from deponij.project.frame.settings import Section, Slug, load
from deponij.project.learning.class_texts import (
    check_texts,
    class_texts,
    groups_of,
    open_texts,
    require_same_model,
)
from deponij.project.learning.grid import run_grid
from deponij.project.learning.results import evaluate, feature_sources, read_examples, write_results
from deponij.store.items import Items
from deponij.store.view import View


class ZeroShotParams(Section):
    """How texts become a classifier.

    Attributes:
        templates: use only texts of these templates; None for all that the view has.
        scale: of the cosine; changes probabilities, never a ranking.
    """

    templates: tuple[str, ...] | None = None
    scale: float = Field(default=100.0, gt=0)


class Params(Section):
    """The sections of params.yaml that this stage reads; of the splits only their names."""

    splits: dict[Slug, Any]
    labels: list[str]
    zero_shot: ZeroShotParams = ZeroShotParams()


class ZeroShotResult(Evaluation):
    """An `Evaluation` with what the class vectors were made of.

    Attributes:
        text_fingerprint: of the text vectors' identity.
        templates: those of the texts that were used.
        n_texts: texts that were used; texts of classes that the pool has not are left out,
        unused_groups: those classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text_fingerprint: str
    templates: tuple[str, ...]
    n_texts: int
    unused_groups: tuple[str, ...]
    params: ZeroShotParams


def run(
    params: ZeroShotParams,
    *,
    features: Path,
    texts: Path,
    items: Path,
    split: Path,
    labels: str,
    out: Path | None = None,
) -> ZeroShotResult:
    """Score images against the mean text vector of each class of the pool; nothing is learned.

    Args:
        features: a view of kind `embedding`.
        texts: a view of kind `text` by the same model, whose column `group` names each text's class.
        items: the folder of items that the features were made from.
        split: a table of item_id and part.
        labels: the label column of the items.
        out: folder for the results; None writes nothing.

    Raises:
        IdentityError: the two views are of different models.
        DataError: a class has no text; the message gives the command that makes them.
        DeponijError: inputs that do not fit together; the message says why.
    """
    view = View(features)
    text_view = open_texts(texts, view.backbone, items, [labels])
    check_texts(text_view)
    require_same_model(view, text_view)
    examples, vectors = read_examples(view, Items(items), split, labels)
    found = class_texts(
        text_view,
        examples.pool_classes,
        backbone=view.backbone,
        items=items,
        labels=[labels],
        templates=params.templates,
    )
    head = ZeroShotClassifier(params.scale).fit(found.vectors, found.classes)
    sources = feature_sources([view], labels)
    judged = evaluate(head, sources, examples, vectors, labels=labels, split=split)
    result = ZeroShotResult(
        **judged.evaluation.model_dump(),
        text_fingerprint=text_view.fingerprint,
        templates=found.templates,
        n_texts=len(found.classes),
        unused_groups=tuple(sorted(set(groups_of(text_view)) - set(judged.evaluation.classes))),
        params=params,
    )
    if out is not None:
        head.save(out, sources)
        write_results(out, result, judged.predictions, judged.logits)
    return result


def main(key: str) -> None:
    """Under DVC: one backbone of the profile in force, every split and label set."""
    params = load(Params)
    at = layout()

    def run_one(split: Path, labels: str, out: Path) -> ZeroShotResult:
        views = {"features": at.view(key), "texts": at.texts(key)}
        return run(params.zero_shot, **views, items=at.items, split=split, labels=labels, out=out)

    run_grid(at, "zero_shot", key, params.splits, params.labels, run_one)


if __name__ == "__main__":
    run_stage(f"zero_shot@{sys.argv[1]}", lambda: main(sys.argv[1]))
