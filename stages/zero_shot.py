"""Stage `zero_shot`: class vectors of one backbone's text vectors, scored on every part of a split.

python -m stages.zero_shot BACKBONE     (one of `text_backbones` in params.yaml)
"""

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field

from pipeline.heads.zero_shot import ZeroShotClassifier
from pipeline.metrics.evaluation import Evaluation
from stages.grid import run_grid
from stages.harness import layout, run_stage
from stages.results import evaluate, feature_source, read_examples, write_results
from stages.settings import Section, Slug, load
from store.errors import DataError, IdentityError, StoreError
from store.items import Items
from store.view import View


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
    view, text_view = View(features), View(texts)
    _check_same_model(view, text_view)
    examples, vectors = read_examples(view, Items(items), split, labels)
    rows = _text_rows(text_view, params.templates)
    groups = text_view.columns["group"]
    missing = sorted(set(examples.pool_classes) - set(groups[rows].tolist()))
    if missing:
        raise DataError(_missing_texts(missing, view.backbone, items, labels, texts))
    rows = rows[np.isin(groups[rows], examples.pool_classes)]
    head = ZeroShotClassifier(params.scale).fit(text_view.embedding[rows], groups[rows])
    evaluation, found = evaluate(head, view, examples, vectors, labels=labels, split=split)
    result = ZeroShotResult(
        **evaluation.model_dump(),
        text_fingerprint=text_view.fingerprint,
        templates=tuple(sorted(set(_templates(text_view)[rows].tolist()))),
        n_texts=len(rows),
        unused_groups=tuple(sorted(set(groups.tolist()) - set(evaluation.classes))),
        params=params,
    )
    if out is not None:
        head.save(out, feature_source(view, labels))
        write_results(out, result, found)
    return result


def _check_same_model(view: View, text_view: View) -> None:
    if text_view.kind != "text":
        raise IdentityError(
            f"{text_view.path} holds features of kind {text_view.kind!r}; texts must be of kind 'text'"
        )
    if "group" not in text_view.columns:
        raise StoreError(
            f"{text_view.path} does not say which class its texts describe (no column 'group'); make it with "
            "`deponij extract-text --items … --labels …`"
        )
    images, words = view.identity, text_view.identity
    differences = [
        f"{name}: {getattr(images, name)} against {getattr(words, name)}"
        for name in ("backbone", "weights")
        if getattr(images, name) != getattr(words, name)
    ]
    if differences:
        raise IdentityError(
            f"{view.path} ({view.backbone}) and {text_view.path} ({text_view.backbone}) are of different "
            f"models: {'; '.join(differences)}"
        )


def _templates(text_view: View) -> np.ndarray:
    return text_view.columns.get("template", np.full(len(text_view), ""))


def _text_rows(text_view: View, templates: tuple[str, ...] | None) -> np.ndarray:
    if templates is None:
        return np.arange(len(text_view))
    there = _templates(text_view)
    absent = sorted(set(templates) - set(there.tolist()))
    if absent:
        known = sorted(set(there.tolist()))[:10]
        raise DataError(f"{text_view.path} has no texts of the templates {absent}; it has {known}")
    return np.flatnonzero(np.isin(there, templates))


def _missing_texts(missing: list[str], backbone: str, items: Path, labels: str, texts: Path) -> str:
    parts = ["deponij", "extract-text", "--backbone", backbone, "--items", str(items), "--labels", labels]
    named = ", ".join(repr(name) for name in missing[:10]) + (", …" if len(missing) > 10 else "")
    return (
        f"{len(missing)} classes have no text vectors in {texts}: {named}. Make them with\n"
        f"  {shlex.join([*parts, '--out', str(texts)])}"
    )


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
