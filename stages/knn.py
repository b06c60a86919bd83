"""Stage `knn`: nearest neighbours and nearest class means on one view, also of a few examples a class.

python -m deponij.stages.knn BACKBONE     (a key of `backbones` in params.yaml)
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from deponij.pipeline.heads.centroid import NearestClassMean
from deponij.pipeline.heads.choosing import draw
from deponij.pipeline.heads.examples import Examples
from deponij.pipeline.heads.knn import DEFAULT_KS, USUAL_K, NearestNeighbours
from deponij.pipeline.metrics.classification import balanced_accuracy, rank
from deponij.pipeline.metrics.evaluation import PARTS, Evaluation, PartScores, score_part
from deponij.project.frame.harness import layout, run_stage
from deponij.project.frame.settings import Section, Slug, load
from deponij.project.learning.grid import run_grid
from deponij.project.learning.results import evaluate, feature_sources, judge, read_examples, write_results
from deponij.store.errors import DataError
from deponij.store.items import Items
from deponij.store.view import View

Count = Annotated[int, Field(ge=1)]
Vectors = NDArray[np.floating]
_OWN_NEIGHBOURS = "Training items are their own nearest neighbours; figures of the training part say nothing."


class KnnParams(Section):
    """How neighbours are asked; the defaults are those of dinov2's `eval/knn.py`.

    Attributes:
        ks: numbers of neighbours; the best on validation is the result, all are reported.
        temperature: of the neighbours' weights.
        per_class: few-shot: examples of each class to learn from; empty for none.
        tries: few-shot: how often others are drawn, with the seeds 0, 1, …
    """

    ks: tuple[Count, ...] = Field(default=DEFAULT_KS, min_length=1)
    temperature: float = Field(default=0.07, gt=0, allow_inf_nan=False)
    per_class: tuple[Count, ...] = (1, 2, 5, 10)
    tries: int = Field(default=5, ge=1, le=100)


class Params(Section):
    """The sections of params.yaml that this stage reads; of the splits only their names."""

    splits: dict[Slug, Any]
    labels: list[str]
    knn: KnnParams = KnnParams()


class OfK(Section):
    """Scores of each part with one number of neighbours."""

    k: int
    parts: dict[str, PartScores]


class FewShot(Section):
    """Scores on test with a few examples of each class, averaged over tries.

    Attributes:
        per_class: examples of each class; a class that has fewer gives all it has.
        n_train: examples that are learned from; n_test: items that are answered.
        k: neighbours; chosen: whether it is the best one for this many examples on validation
            (without validation: the one next to 20).
        top1, balanced_accuracy: means over the tries; top1_std: their standard deviation (n - 1),
            0 of a single try.
    """

    per_class: int
    n_train: int
    n_test: int
    tries: int
    k: int
    chosen: bool
    top1: float
    top1_std: float
    balanced_accuracy: float


class KnnResult(Evaluation):
    """An `Evaluation` with what was chosen, and what else was tried.

    Attributes:
        dim: feature width. k: chosen number of neighbours. every_k: scores with each.
        few_shot: by examples of each class and k; empty without a test part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int
    k: int
    every_k: tuple[OfK, ...]
    few_shot: tuple[FewShot, ...]
    params: KnnParams


def run(
    params: KnnParams, *, features: Path, items: Path, split: Path, labels: str, out: Path | None = None
) -> KnnResult:
    """Keep `train`, choose k on `val`, score every part that has items.

    Args:
        features: a view of kind `embedding`.
        items: the folder of items it was made from.
        split: a table of item_id and part.
        labels: the label column of the items.
        out: folder for the results and the head; None writes nothing.

    Raises:
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    view = View(features)
    examples, vectors = _read(view, items, split, labels)
    head = NearestNeighbours(params.ks, params.temperature)
    head.fit(*_part(examples, vectors, "train"), *_validation(examples, vectors))
    decisions = head.decisions(vectors)
    sources = feature_sources([view], labels)
    judged = judge(
        decisions[head.k_],
        head.classes_.tolist(),
        examples,
        method=head.kind,
        title=head.title,
        protocol=head.protocol,
        backbone=view.backbone,
        fingerprint=view.fingerprint,
        labels=labels,
        split=split.stem,
    )
    result = KnnResult(
        **judged.evaluation.model_dump(exclude={"notes"}),
        notes=(*judged.evaluation.notes, _OWN_NEIGHBOURS),
        dim=head.n_features_in_,
        k=head.k_,
        every_k=tuple(_of_k(k, logits, head, examples) for k, logits in decisions.items()),
        few_shot=_few_shot(params, examples, vectors),
        params=params,
    )
    if out is not None:
        head.save(out, sources)
        write_results(out, result, judged.predictions, judged.logits)
    return result


def run_centroid(
    *, features: Path, items: Path, split: Path, labels: str, out: Path | None = None
) -> Evaluation:
    """The class whose mean over `train` is nearest; arguments and errors as `run`."""
    view = View(features)
    examples, vectors = _read(view, items, split, labels)
    head = NearestClassMean().fit(*_part(examples, vectors, "train"))
    sources = feature_sources([view], labels)
    judged = evaluate(head, sources, examples, vectors, labels=labels, split=split)
    if out is not None:
        head.save(out, sources)
        write_results(out, judged.evaluation, judged.predictions, judged.logits)
    return judged.evaluation


def _read(view: View, items: Path, split: Path, labels: str) -> tuple[Examples, Vectors]:
    examples, vectors = read_examples(view, Items(items), split, labels)
    if len(examples.rows("train")) == 0:
        raise DataError(f"{split}: its train part has no items with a {labels!r} and features")
    return examples, vectors


def _part(examples: Examples, vectors: Vectors, part: str) -> tuple[Vectors, NDArray[np.str_]]:
    rows = examples.rows(part)
    return vectors[rows], examples.labels[rows]


def _validation(examples: Examples, vectors: Vectors) -> tuple[Vectors, NDArray[np.str_]] | tuple[None, None]:
    return _part(examples, vectors, "val") if len(examples.rows("val")) else (None, None)


def _of_k(k: int, logits: Vectors, head: NearestNeighbours, examples: Examples) -> OfK:
    ranked = head.classes_[rank(logits, 3)]
    found = {part: examples.rows(part) for part in PARTS}
    return OfK(
        k=k,
        parts={
            part: score_part(
                examples.labels[rows], ranked[rows], head.classes_.tolist(), examples.majority_class
            )
            for part, rows in found.items()
            if len(rows)
        },
    )


# ------------------------------------------------------------------ few-shot


def _few_shot(params: KnnParams, examples: Examples, vectors: Vectors) -> tuple[FewShot, ...]:
    if len(examples.rows("test")) == 0:
        return ()
    return tuple(
        one
        for per_class in sorted(set(params.per_class))
        for one in _shots(params, examples, vectors, per_class)
    )


def _shots(params: KnnParams, examples: Examples, vectors: Vectors, per_class: int) -> list[FewShot]:
    """One count of examples: each k's means over the tries."""
    train, val, test = (examples.rows(part) for part in PARTS)
    names = examples.labels
    val_top1: dict[int, list[float]] = {}
    scores: dict[int, list[tuple[float, float]]] = {}
    for seed in range(params.tries):
        rows = train[draw(names[train], per_class, seed)]
        head = NearestNeighbours(params.ks, params.temperature).fit(vectors[rows], names[rows])
        for k, logits in head.decisions(vectors[np.concatenate([val, test])]).items():
            answers = head.classes_[logits.argmax(axis=1)]
            of_val, of_test = answers[: len(val)], answers[len(val) :]
            if len(val):
                val_top1.setdefault(k, []).append(float((of_val == names[val]).mean()))
            top1 = float((of_test == names[test]).mean())
            scores.setdefault(k, []).append((top1, balanced_accuracy(names[test], of_test)))
    chosen = _best(val_top1) if val_top1 else min(scores, key=lambda k: (abs(k - USUAL_K), k))
    return [
        FewShot(
            per_class=per_class,
            n_train=len(rows),
            n_test=len(test),
            tries=params.tries,
            k=k,
            chosen=k == chosen,
            top1=float(np.mean([top1 for top1, _ in tries])),
            top1_std=float(np.std([top1 for top1, _ in tries], ddof=1)) if len(tries) > 1 else 0.0,
            balanced_accuracy=float(np.mean([balanced for _, balanced in tries])),
        )
        for k, tries in scores.items()
    ]


def _best(val_top1: Mapping[int, list[float]]) -> int:
    return min(val_top1, key=lambda k: (-float(np.mean(val_top1[k])), k))


def main(key: str) -> None:
    """Under DVC: one backbone of the profile in force, every split and label set."""
    params = load(Params)
    at = layout()

    def run_knn(split: Path, labels: str, out: Path) -> Evaluation:
        return run(params.knn, features=at.view(key), items=at.items, split=split, labels=labels, out=out)

    def run_mean(split: Path, labels: str, out: Path) -> Evaluation:
        return run_centroid(features=at.view(key), items=at.items, split=split, labels=labels, out=out)

    run_grid(at, NearestNeighbours.kind, key, params.splits, params.labels, run_knn)
    run_grid(at, NearestClassMean.kind, key, params.splits, params.labels, run_mean)


if __name__ == "__main__":
    run_stage(f"knn@{sys.argv[1]}", lambda: main(sys.argv[1]))
