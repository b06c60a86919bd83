"""Stage `blends`: zero-shot blended with what labelled pictures teach, on one backbone with text.

python -m deponij.stages.blends BACKBONE     (one of `text_backbones` in params.yaml)
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from deponij.pipeline.heads.words.text_blend import TextBlend
from deponij.pipeline.heads.words.tip_adapter import TipAdapter
from deponij.pipeline.heads.words.wise_ft import WiseFt
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.frame.harness import layout, run_stage
from deponij.project.frame.settings import Section, Slug, load
from deponij.project.learning.class_texts import check_texts, class_texts, open_texts, require_same_model
from deponij.project.learning.grid import run_grid
from deponij.project.learning.results import evaluate, feature_sources, read_examples, write_results
from deponij.store.errors import DataError
from deponij.store.items import Items
from deponij.store.view import View

Method = Literal["wise-ft", "tip-adapter"]
METHODS: tuple[Method, ...] = ("wise-ft", "tip-adapter")


class BlendParams(Section):
    """How zero-shot and pictures are blended; see the heads of these kinds.

    Attributes:
        templates: use only texts of these templates; None for all that the view has.
        scale: of the cosine.
        max_iter: L-BFGS iterations of one of WiSE-FT's fits.
    """

    templates: tuple[str, ...] | None = None
    scale: float = Field(default=100.0, gt=0, allow_inf_nan=False)
    max_iter: int = Field(default=200, ge=1)


class Params(Section):
    """The sections of params.yaml that this stage reads; of the splits only their names."""

    splits: dict[Slug, Any]
    labels: list[str]
    blends: BlendParams = BlendParams()


class BlendTrial(Section):
    """One choice and its figures on validation; `beta` and `c` belong to one of the methods each."""

    alpha: float
    beta: float | None = None
    c: float | None = None
    top1: float
    log_loss: float


class BlendResult(Evaluation):
    """An `Evaluation` with what was blended, and chosen.

    Attributes:
        alpha: how much the pictures count; at 0 it is zero-shot. beta, c: the method's other choice.
        trials: what was tried on validation, empty without validation.
        converged: whether the chosen fit had ended; None where nothing is trained.
        text_fingerprint, templates, n_texts: as the zero-shot stage's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float
    beta: float | None
    c: float | None
    trials: tuple[BlendTrial, ...]
    converged: bool | None
    text_fingerprint: str
    templates: tuple[str, ...]
    n_texts: int
    params: BlendParams


def run(
    params: BlendParams,
    method: Method,
    *,
    features: Path,
    texts: Path,
    items: Path,
    split: Path,
    labels: str,
    out: Path | None = None,
) -> BlendResult:
    """Start from the texts of the pool's classes, learn on `train`, choose on `val`, score every part.

    Args:
        features: a view of kind `embedding`.
        texts: a view of kind `text` by the same model, whose column `group` names each text's class.
        items: the folder of items that the features were made from.
        split: a table of item_id and part.
        labels: the label column of the items.
        out: folder for the results and the head; None writes nothing.

    Raises:
        IdentityError: the two views are of different models.
        DataError: a class has no text; the message gives the command that makes them.
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    view = View(features)
    text_view = open_texts(texts, view.backbone, items, [labels])
    check_texts(text_view)
    require_same_model(view, text_view)
    examples, vectors = read_examples(view, Items(items), split, labels)
    train, val = examples.rows("train"), examples.rows("val")
    if len(train) == 0:
        raise DataError(f"{split}: its train part has no items with a {labels!r} and features")
    found = class_texts(
        text_view,
        examples.pool_classes,
        backbone=view.backbone,
        items=items,
        labels=[labels],
        templates=params.templates,
    )
    head = _make(method, params)
    validation = (vectors[val], examples.labels[val]) if len(val) else (None, None)
    head.fit(
        vectors[train], examples.labels[train], *validation, texts=found.vectors, text_names=found.classes
    )
    sources = feature_sources([view], labels)
    judged = evaluate(head, sources, examples, vectors, labels=labels, split=split)
    result = BlendResult(
        **judged.evaluation.model_dump(exclude={"notes"}),
        notes=(*judged.evaluation.notes, *_notes(head, params)),
        alpha=head.alpha_,
        beta=head.beta_ if isinstance(head, TipAdapter) else None,
        c=head.c_ if isinstance(head, WiseFt) else None,
        trials=_trials(head),
        converged=head.converged_ if isinstance(head, WiseFt) else None,
        text_fingerprint=text_view.fingerprint,
        templates=found.templates,
        n_texts=len(found.classes),
        params=params,
    )
    if out is not None:
        head.save(out, sources)
        write_results(out, result, judged.predictions, judged.logits)
    return result


def _make(method: Method, params: BlendParams) -> WiseFt | TipAdapter:
    if method == WiseFt.kind:
        return WiseFt(scale=params.scale, max_iter=params.max_iter)
    return TipAdapter(scale=params.scale)


def _trials(head: WiseFt | TipAdapter) -> tuple[BlendTrial, ...]:
    if isinstance(head, WiseFt):
        return tuple(BlendTrial(alpha=t.alpha, c=t.c, top1=t.top1, log_loss=t.log_loss) for t in head.trials_)
    return tuple(
        BlendTrial(alpha=t.alpha, beta=t.beta, top1=t.top1, log_loss=t.log_loss) for t in head.trials_
    )


def _notes(head: TextBlend, params: BlendParams) -> Sequence[str]:
    if isinstance(head, TipAdapter):
        return ["Training items are in the cache; figures of the training part say nothing."]
    if isinstance(head, WiseFt) and not head.converged_:
        return [f"The fit had not converged after {params.max_iter} iterations; raise max_iter."]
    return []


def main(key: str) -> None:
    """Under DVC: one backbone of the profile in force, every method, split and label set."""
    params = load(Params)
    at = layout()
    inputs = {"features": at.view(key), "texts": at.texts(key), "items": at.items}
    for method in METHODS:

        def run_one(split: Path, labels: str, out: Path, method: Method = method) -> BlendResult:
            return run(params.blends, method, split=split, labels=labels, out=out, **inputs)

        run_grid(at, method, key, params.splits, params.labels, run_one)


if __name__ == "__main__":
    run_stage(f"blends@{sys.argv[1]}", lambda: main(sys.argv[1]))
