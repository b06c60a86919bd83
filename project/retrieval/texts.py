"""How well words find pictures of one backbone, and pictures words.

Words are texts of classes, made one vector a class as for zero-shot, and captions of items where the view of texts has
some. Recall@k is CLIP_benchmark's: the share of queries with a positive among the first k.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.pipeline.metrics.retrieval import About, RetrievalResult, Task
from deponij.pipeline.retrieval.evaluation import Side
from deponij.project.learning.class_texts import (
    caption_columns,
    caption_vectors,
    class_texts,
    open_class_texts,
)
from deponij.project.retrieval.archive import Archive, Names, RetrievalParams, judged, read_archive
from deponij.store.errors import DataError
from deponij.store.scratch import taken
from deponij.store.view import View

_DIRECTIONS: tuple[Task, ...] = ("text-to-image", "image-to-text")


def run(
    params: RetrievalParams, *, features: Path, texts: Path, items: Path, split: Path, labels: str
) -> list[RetrievalResult]:
    """Classes by their texts: each class asks the items that are judged, and each of these all classes.

    Args:
        features: a view of kind `embedding`.
        texts: a view of kind `text` by the same model, whose column `group` names each text's class.
        items: the folder of items that the features were made from.
        split: a table of item_id and part.
        labels: the label column of the items.

    Raises:
        IdentityError: the two views are of different models.
        DataError: a class has no text; the message gives the command that makes them.
        DeponijError: inputs that do not fit together; the message says why.
    """
    view = View(features)
    text_view = open_class_texts(texts, view, items, [labels])
    archive = read_archive(view, items, split, labels)
    of_classes = class_texts(
        text_view,
        archive.examples.pool_classes,
        backbone=view.backbone,
        items=items,
        labels=[labels],
        templates=params.templates,
    )
    head = ZeroShotClassifier().fit(of_classes.vectors, of_classes.classes)
    words = Side(head.coef_, head.classes_)
    return _both_ways(words, "classes", _made(of_classes.classes), archive, text_view, params)


def run_captions(
    params: RetrievalParams,
    *,
    features: Path,
    texts: Path,
    items: Path,
    split: Path,
    labels: Sequence[str],
) -> list[RetrievalResult]:
    """Captions of items: each different one asks the items that are judged, and each of these all their captions.

    None where the view of texts holds no captions. Arguments and errors as `run`, but

    Args:
        labels: label columns whose classes the view of texts speaks of too, for the command that makes it anew.
    """
    view = View(features)
    text_view = open_class_texts(texts, view, items, labels)
    results = []
    for column in caption_columns(text_view):
        archive = _captioned(read_archive(view, items, split, column), column)
        names = np.unique(archive.labels[archive.rows])
        vectors = caption_vectors(
            text_view, column, names.tolist(), backbone=view.backbone, items=items, labels=labels
        )
        made = f"the {column} of an item, as it is"
        results += _both_ways(Side(vectors, names), "captions", made, archive, text_view, params)
    return results


def _made(classes: Names) -> str:
    """How many texts were averaged for a class, in words; a file of texts may have more of one than of another."""
    _, counts = np.unique(classes, return_counts=True)
    fewest, most = int(counts.min()), int(counts.max())
    if fewest < most:
        return f"the mean of {fewest} to {most} texts a class"
    return f"the mean of {most} text{'s' if most > 1 else ''} a class"


def _captioned(archive: Archive, column: str) -> Archive:
    """Without blank captions, of which no text was made: those of the last part that has others."""
    is_told = np.char.strip(archive.labels) != ""
    for part in reversed(PARTS):
        rows = archive.examples.rows(part)
        if is_told[rows].any():
            return replace(archive, part=part, rows=rows[is_told[rows]])
    raise DataError(f"no item of the split {archive.split!r} has a caption: {column!r} is blank in all")


def _both_ways(
    texts: Side, about: About, made: str, archive: Archive, text_view: View, params: RetrievalParams
) -> list[RetrievalResult]:
    rows, n = archive.rows, len(texts.vectors)
    pictures = Side(taken(archive.vectors, rows), archive.labels[rows])
    one, plural = ("caption", "different captions") if about == "captions" else ("class", "classes")

    def note(n_without: int) -> str:
        if about == "captions":
            return "What another caption describes counts as irrelevant, even where the words would fit it as well."
        missing = (
            f"{n_without} of {n} classes have no {archive.part} item to be found; they are in no figure."
        )
        return missing if n_without else ""

    asked = {
        "text-to-image": f"each of {n:,} {plural} asks the {len(rows):,} {archive.part} items",
        "image-to-text": f"each {archive.part} item asks the {n:,} {plural}",
    }
    return [
        judged(
            archive,
            params,
            task,
            about,
            *((texts, pictures) if task == "text-to-image" else (pictures, texts)),
            note,
            text_fingerprint=text_view.fingerprint,
            protocol=f"{asked[task]}; text: {made}; relevant: the same {one}; exact ranking by cosine",
        )
        for task in _DIRECTIONS
    ]
