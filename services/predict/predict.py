"""`deponij predict`: a learned classifier's answers to new pictures. This is no stage; it runs backbones.

Features are made the way the classifier's own were (decoding, transform, precision), so that their
identity is the same. Nothing is written to a depot; rows that a named one has are not computed again.

Shape letters: n pictures, C classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deponij.pipeline.backbones.extraction import Picture
from deponij.pipeline.heads.head import softmax
from deponij.pipeline.metrics.classification import rank
from deponij.pipeline.metrics.multilabel_result import MultilabelResult
from deponij.pipeline.multilabel.head import probabilities
from deponij.project.extraction.feature_maker import FeatureMaker
from deponij.project.frame.console import Advance, bar
from deponij.project.frame.csv_files import csv_bytes
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section
from deponij.project.in_force import run_of_results
from deponij.project.learning.multilabel_files import read_multilabel
from deponij.project.learning.reading import is_dense, only_one
from deponij.project.learning.result_files import RESULT_NAME
from deponij.project.meant import made_by, run_meant
from deponij.project.new_pictures import NewPicture, NewPictures, chunks
from deponij.project.record_files import check_ending, write_records
from deponij.services.predict.chosen_model import ChosenModel, ModelRequest, best_model, named_model
from deponij.services.predict.label_sets import best_multilabel, is_multilabel, named_multilabel
from deponij.store.atomic import write_bytes
from deponij.store.depot import FeatureStore
from deponij.store.errors import StoreError, UsageError
from deponij.store.what_is import instead

Array = NDArray[Any]
# Maps are a thousand times as large as vectors.
_CHUNK_MAPS = 64
TABLE_ENDINGS = (".parquet", ".csv")
_OF_RESULTS = ("method", "title", "protocol", "labels", "split")
_COLUMNS = {
    "path": str,
    "item_id": str,
    "label": str,
    "prob": float,
    "top_labels": pa.list_(pa.string()),
    "top_probs": pa.list_(pa.float64()),
    "labels": pa.list_(pa.string()),
    "failure": str,
}


class Answer(Section):
    """A class and its probability."""

    label: str
    prob: float


class Prediction(Section):
    """The answer to one picture.

    Attributes:
        item_id: of a crop.
        label, prob: the most probable class.
        top: the most probable ones in order.
        labels: of a classifier with several labels an item: the classes that it answers with yes, the most probable
            first; none may be. None of any other.
    """

    path: str
    item_id: str | None
    label: str
    prob: float
    top: tuple[Answer, ...]
    labels: tuple[str, ...] | None = None


class Failure(Section):
    """A picture that could not be answered, and why."""

    path: str
    item_id: str | None
    reason: str


class BackboneFacts(Section):
    """Whose features were used."""

    name: str
    spec: str
    fingerprint: str


class ModelFacts(Section):
    """The classifier that answered.

    Attributes:
        folder, method, title, protocol, labels, split, n_classes: as in its results.
        chosen: how it came to be chosen.
        val_top1, n_val: its share of right answers on validation; null without, and with several labels an item.
        val_map: mAP on validation; of a classifier with several labels an item.
        thresholds: of such a one: by class, the probability from which on it is answered.
        out_of_fold_top1, n_folds: the same of cross-validation; null and 0 without.
        temperature: logits were divided by it, as fitted on validation; null: uncalibrated.
    """

    folder: str
    method: str
    title: str
    protocol: str
    labels: str
    split: str
    n_classes: int
    backbones: tuple[BackboneFacts, ...]
    chosen: str
    val_top1: float | None
    out_of_fold_top1: float | None = None
    n_folds: int = 0
    n_val: int
    temperature: float | None
    calibrated: bool
    val_map: float | None = None
    thresholds: dict[str, float] | None = None


class PredictResult(Section):
    """All answers, in the order in which the pictures were named."""

    model: ModelFacts
    predictions: tuple[Prediction, ...]
    failures: tuple[Failure, ...]


def choose(
    model: Path | None,
    *,
    backbone: str | None = None,
    labels: str | None = None,
    split: str | None = None,
    specs: Sequence[str] = (),
) -> ChosenModel:
    """The classifier that is to answer.

    Args:
        model: a results folder, or the folder of a whole run; None: the run that is meant here
            (`deponij.project.meant`).
        backbone, labels, split: narrow the choice within a run.
        specs: backbones that the user named; see `find_backbones`.

    Raises:
        DeponijError: no such classifier, or its backbones are not here; the message says what to do.
    """
    if model is not None and not any((model / name).is_dir() for name in ("results", "items")):
        if any((backbone, labels, split)):
            raise UsageError(
                "--backbone, --labels and --split choose within a run; --model names one classifier already"
            )
        if is_multilabel(model):
            return named_multilabel(model, specs)
        if not (model / RESULT_NAME).is_file():
            raise StoreError(
                f"{model} is neither a folder of results (it has no {RESULT_NAME}) nor a run (no results/)"
                f"{instead(model)}"
            )
        return named_model(model, specs)
    at = run_meant().at if model is None else Layout(model)
    return _best(at, ModelRequest(backbone, labels, split, made_by(at)), specs)


def _best(at: Layout, request: ModelRequest, specs: Sequence[str]) -> ChosenModel:
    """Of several labels an item where their column is asked for, or there is nothing else."""
    columns = {read_multilabel(folder).labels for folder in at.multilabel_results()}
    if request.labels in columns or (columns and not at.results()):
        return best_multilabel(at, request, specs)
    if request.profile is not None and not request.profile.labels and not at.results():
        raise StoreError(
            f"{at.root} is a run without classifiers: it had no labels to learn from. `deponij results {at.root}` tells "
            "what there is; give labels (class folders, or a column: --labels) and run again to answer new pictures"
        )
    return best_model(at, request, specs)


def crop_of(chosen: ChosenModel, given: Mapping[str, Any]) -> dict[str, Any]:
    """How crops are cut: as `given`, else as its run's own were cut, where that is known."""
    at = run_of_results(chosen.folder)
    run = None if at is None else made_by(at)
    options = {} if run is None else run.data.get("options") or {}
    return {**(options.get("crop") or {}), **given}


def run(
    chosen: ChosenModel, pictures: NewPictures, *, top: int = 3, options: RunOptions, depot: str | None = None
) -> PredictResult:
    """Answer pictures.

    Args:
        top: answers a picture; fewer where there are fewer classes.
        depot: whose rows are taken where it has them; None for none.

    Raises:
        UsageError: a device that is not there, or no answers asked for.
        StoreError: the depot cannot be read.
    """
    if top < 1:
        raise UsageError(f"--top must be at least 1, got {top}")
    store = None if depot is None else FeatureStore(depot)
    backbones = {one.identity.fingerprint: one for one in chosen.backbones}
    makers = [FeatureMaker(one, options) for one in backbones.values()]
    predictions: list[Prediction] = []
    failures: list[Failure] = []
    with bar("predict", pictures.n * len(makers), "pictures") as advance:
        n_at_once = _CHUNK_MAPS if any(is_dense(str(one.kind)) for one in chosen.backbones) else None
        for chunk in chunks(pictures.read(options.n_workers), n_at_once):
            reasons, answers = _answered(chosen, makers, store, chunk, top, advance)
            for one in chunk:
                reason = one.failure or reasons.get(one.key or "")
                if reason is not None:
                    failures.append(Failure(path=one.path, item_id=one.item_id, reason=reason))
                    continue
                best, labels = answers[one.key or ""]
                predictions.append(
                    Prediction(
                        path=one.path, item_id=one.item_id, **best[0].model_dump(), top=best, labels=labels
                    )
                )
    return PredictResult(model=_facts(chosen), predictions=tuple(predictions), failures=tuple(failures))


def _answered(
    chosen: ChosenModel,
    makers: Sequence[FeatureMaker],
    store: FeatureStore | None,
    chunk: Iterable[NewPicture],
    top: int,
    advance: Advance,
) -> tuple[dict[str, str], dict[str, tuple[tuple[Answer, ...], tuple[str, ...] | None]]]:
    """By key: why there is no answer, and the answers: the most probable ones, and of several labels those above theirs."""
    contents = {one.key: one.content for one in chunk if one.key is not None and one.content is not None}
    reasons: dict[str, str] = {}
    rows: dict[str, dict[str, Array]] = {}
    for maker in makers:
        rows[maker.backbone.identity.fingerprint], failed = _rows(maker, store, contents, advance)
        reasons |= failed
        contents = {key: content for key, content in contents.items() if key not in failed}
    keys = list(contents)
    if not keys:
        return reasons, {}
    vectors = {name: np.stack([of_key[key] for key in keys]) for name, of_key in rows.items()}
    logits = chosen.classifier.logits(vectors) / (chosen.temperature or 1.0)
    probs = softmax(logits) if chosen.thresholds is None else probabilities(logits)
    ranked, classes = rank(logits, top), chosen.classifier.classes
    answers = {}
    for row, key in enumerate(keys):
        best = tuple(Answer(label=classes[column], prob=float(probs[row, column])) for column in ranked[row])
        labels = None
        if chosen.thresholds is not None:
            order = np.argsort(-probs[row], kind="stable")
            labels = tuple(classes[c] for c in order.tolist() if probs[row, c] >= chosen.thresholds[c])
        answers[key] = best, labels
    return reasons, answers


def _rows(
    maker: FeatureMaker, store: FeatureStore | None, contents: Mapping[str, bytes], advance: Advance
) -> tuple[dict[str, Array], dict[str, str]]:
    """Features and reasons for there being none, by key."""
    identity, where = maker.backbone.identity, maker.backbone.name
    missing = list(contents) if store is None else store.missing(identity, list(contents))
    known = sorted(set(contents) - set(missing))
    rows: dict[str, Array] = {}
    if store is not None and known:
        rows |= zip(known, only_one(store.read(known, identity), where), strict=True)
    advance(len(known))
    failed: dict[str, str] = {}
    if missing:
        progress = maker.progress()
        for batch in maker.rows([Picture(key, contents[key]) for key in missing], progress):
            rows |= zip(batch.keys, only_one(batch.arrays, where), strict=True)
            advance(len(batch.keys))
        failed |= progress.failures
        advance(len(failed))
    return rows, failed


def _facts(chosen: ChosenModel) -> ModelFacts:
    result = chosen.evaluation
    figures: dict[str, Any]
    if isinstance(result, MultilabelResult):
        figures = {"val_top1": None, "val_map": result.val_map, "out_of_fold_top1": None, "n_folds": 0}
        figures["thresholds"] = dict(zip(result.classes, result.thresholds, strict=True))
    else:
        figures = {
            "val_top1": result.parts["val"].top1 if "val" in result.parts else None,
            "out_of_fold_top1": result.parts["test"].top1 if result.n_folds else None,
            "n_folds": result.n_folds,
        }
    return ModelFacts(
        folder=str(chosen.folder),
        **{name: getattr(result, name) for name in _OF_RESULTS},
        **figures,
        n_classes=len(result.classes),
        backbones=tuple(
            BackboneFacts(name=one.name, spec=one.spec, fingerprint=one.identity.fingerprint)
            for one in chosen.backbones
        ),
        chosen=chosen.why,
        n_val=result.parts["val"].n if "val" in result.parts else 0,
        temperature=chosen.temperature,
        calibrated=chosen.temperature is not None,
    )


def write_predictions(out: Path, result: PredictResult) -> None:
    """Write a table: the predictions, then the failures, which have a reason instead of a label.

    Parquet: path, item_id, label, prob, top_labels and top_probs (lists), labels (a list, of several labels an item),
    failure. CSV: path, item_id, failure, of several labels an item `labels` with bars between them (a bar alone: none), then
    label_1, prob_1, label_2, prob_2, …

    Raises:
        UsageError: the name ends in neither `.parquet` nor `.csv`.
    """
    check_ending(out, "--out", *TABLE_ENDINGS)
    good, bad = result.predictions, result.failures
    several = ["labels"] if result.model.thresholds is not None else []
    reasons = [{"path": one.path, "item_id": one.item_id, "failure": one.reason} for one in bad]
    if out.suffix.lower() == ".parquet":
        rows = [
            {
                **one.model_dump(exclude={"top"} if several else {"top", "labels"}),
                "top_labels": [answer.label for answer in one.top],
                "top_probs": [answer.prob for answer in one.top],
            }
            for one in good
        ]
        kinds = {name: kind for name, kind in _COLUMNS.items() if several or name != "labels"}
        write_records(out, [*rows, *reasons], kinds, "--out")
        return
    n_top = max((len(one.top) for one in good), default=1)
    names = [f"{what}_{place}" for place in range(1, n_top + 1) for what in ("label", "prob")]
    values = [[value for answer in one.top for value in (answer.label, answer.prob)] for one in good]
    answered = [
        {
            "path": one.path,
            "item_id": one.item_id,
            **({} if one.labels is None else {"labels": "|".join(one.labels) or "|"}),
            **dict(zip(names, row, strict=False)),
        }
        for one, row in zip(good, values, strict=True)
    ]
    write_bytes(out, csv_bytes([*answered, *reasons], ["path", "item_id", "failure", *several, *names]))
