"""How well words find pictures of one backbone, and pictures words.

Words are texts of classes, made one vector a class as for zero-shot, and captions of items where the view of texts has
some. Recall@k is CLIP_benchmark's: the share of queries with a positive among the first k.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.pipeline.metrics.retrieval import About, Example, Hit, RetrievalResult
from deponij.pipeline.retrieval.evaluation import Side, nearest
from deponij.project.learning.class_texts import (
    caption_columns,
    caption_vectors,
    class_texts,
    open_class_texts,
)
from deponij.project.retrieval.archive import (
    Archive,
    Names,
    RetrievalParams,
    Vectors,
    choose_examples,
    figures,
    left_out,
    ranked,
    read_archive,
)
from deponij.store.errors import DataError
from deponij.store.items import Items
from deponij.store.view import View

Direction = Literal["text-to-image", "image-to-text"]


@dataclass(frozen=True, slots=True)
class _Words:
    """What pictures are ranked against, and by.

    Attributes:
        vectors: [m, d]. names: class or caption of each, [m]. made: how, in words.
    """

    about: About
    column: str
    vectors: Vectors
    names: Names
    made: str


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
    archive = read_archive(view, Items(items), split, labels)
    found = class_texts(
        text_view,
        archive.examples.pool_classes,
        backbone=view.backbone,
        items=items,
        labels=[labels],
        templates=params.templates,
    )
    head = ZeroShotClassifier().fit(found.vectors, found.classes)
    words = _Words("classes", labels, head.coef_, head.classes_, _made(found.classes))
    return _both_ways(words, archive, view, text_view, params)


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
        archive = _captioned(read_archive(view, Items(items), split, column), column)
        names = np.unique(archive.labels[archive.rows])
        vectors = caption_vectors(
            text_view, column, names.tolist(), backbone=view.backbone, items=items, labels=labels
        )
        words = _Words("captions", column, vectors, names, f"the {column} of an item, as it is")
        results += _both_ways(words, archive, view, text_view, params)
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
    words: _Words, archive: Archive, view: View, text_view: View, params: RetrievalParams
) -> list[RetrievalResult]:
    rows = archive.rows
    pictures = Side(archive.vectors[rows], archive.labels[rows])
    texts = Side(words.vectors, words.names)
    has_classes = words.about == "classes"
    results = []
    directions: tuple[Direction, ...] = ("text-to-image", "image-to-text")
    for task in directions:
        by_text = task == "text-to-image"
        queries, gallery = (texts, pictures) if by_text else (pictures, texts)
        found = ranked(queries, gallery, params, f"{task.replace('-', ' ')} {view.backbone}")
        names = words.names if by_text else archive.labels[rows]
        clusters = words.names if by_text else archive.photos[rows]
        results.append(
            RetrievalResult(
                task=task,
                about=words.about,
                column=words.column,
                backbone=view.backbone,
                fingerprint=view.fingerprint,
                text_fingerprint=text_view.fingerprint,
                split=archive.split,
                part=archive.part,
                n_queries=len(found.asked),
                n_without=found.n_without,
                n_gallery=len(gallery.vectors),
                resampled="texts" if by_text else "photographs",
                figures=figures(found, clusters, names if has_classes else None, params),
                protocol=_protocol(words, archive, by_text),
                notes=(*_notes(found.n_without, words, archive.part), *left_out(archive, words.column)),
                examples=_examples(words, archive, params) if by_text else (),
            )
        )
    return results


def _protocol(words: _Words, archive: Archive, by_text: bool) -> str:
    n, n_items = len(words.names), len(archive.rows)
    plural = "different captions" if words.about == "captions" else "classes"
    one = "caption" if words.about == "captions" else "class"
    if by_text:
        asked = f"each of {n:,} {plural} asks the {n_items:,} {archive.part} items"
    else:
        asked = f"each {archive.part} item asks the {n:,} {plural}"
    return f"{asked}; text: {words.made}; relevant: the same {one}; exact ranking by cosine"


def _notes(n_without: int, words: _Words, part: str) -> tuple[str, ...]:
    if words.about == "captions":
        return (
            "What another caption describes counts as irrelevant, even where the words would fit it as well.",
        )
    if not n_without:
        return ()
    return (
        f"{n_without} of {len(words.names)} classes have no {part} item to be found; they are in no figure.",
    )


def _examples(words: _Words, archive: Archive, params: RetrievalParams) -> tuple[Example, ...]:
    """Some texts and the pictures they find."""
    ids, labels = archive.examples.ids[archive.rows], archive.labels[archive.rows]
    pictures = archive.vectors[archive.rows]
    found = []
    for place in choose_examples(words.names, params.n_examples, params.seed):
        hits = [
            Hit(
                item_id=str(ids[row]),
                label=str(labels[row]),
                score=round(score, 6),
                is_relevant=bool(labels[row] == words.names[place]),
            )
            for row, score in nearest(words.vectors[place], pictures, params.n_hits)
        ]
        found.append(Example(item_id="", label=str(words.names[place]), hits=tuple(hits)))
    return tuple(found)
