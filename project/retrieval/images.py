"""How well pictures of one backbone find pictures of their class.

Every labelled item of the part that is judged asks all labelled items of the split, those of its own photograph left
out: a new picture asked against the archive. What texts find, and what finds texts, is the business of `texts`.
"""

from pathlib import Path

from deponij.pipeline.metrics.retrieval import Example, Hit, RetrievalResult
from deponij.pipeline.retrieval.evaluation import Side, nearest
from deponij.project.retrieval.archive import (
    Archive,
    RetrievalParams,
    choose_examples,
    figures,
    left_out,
    ranked,
    read_archive,
)
from deponij.store.items import Items
from deponij.store.view import View


def run(params: RetrievalParams, *, features: Path, items: Path, split: Path, labels: str) -> RetrievalResult:
    """Rank the archive for every item that is judged; relevant is what has its class.

    Args:
        features: a view of kind `embedding`.
        items: the folder of items it was made from.
        split: a table of item_id and part.
        labels: the label column of the items.

    Raises:
        DeponijError: inputs that do not fit together; the message says why.
    """
    view = View(features)
    archive = read_archive(view, Items(items), split, labels)
    rows = archive.rows
    found = ranked(
        Side(archive.vectors[rows], archive.labels[rows], archive.photos[rows]),
        Side(archive.vectors, archive.labels, archive.photos),
        params,
        f"image to image {view.backbone}",
    )
    return RetrievalResult(
        task="image-to-image",
        about="classes",
        column=labels,
        backbone=view.backbone,
        fingerprint=view.fingerprint,
        split=archive.split,
        part=archive.part,
        n_queries=len(found.asked),
        n_without=found.n_without,
        n_gallery=len(archive.labels),
        resampled="photographs",
        figures=figures(found, archive.photos[rows], archive.labels[rows], params),
        protocol=(
            f"each {archive.part} item asks all {len(archive.labels):,} labelled items of the split but those of its "
            f"own photograph; relevant: the same {labels}; exact ranking by cosine"
        ),
        notes=(*_notes(found.n_without, archive), *left_out(archive, labels)),
        examples=tuple(_example(archive, row, params.n_hits) for row in _chosen(archive, params)),
    )


def _notes(n_without: int, archive: Archive) -> tuple[str, ...]:
    if not n_without:
        return ()
    return (
        f"{n_without} of {len(archive.rows)} items have no other photograph with an item of their class, so that "
        "there is nothing for them to find; they are in no figure.",
    )


def _chosen(archive: Archive, params: RetrievalParams) -> list[int]:
    rows = archive.rows
    return [
        int(rows[place]) for place in choose_examples(archive.labels[rows], params.n_examples, params.seed)
    ]


def _example(archive: Archive, row: int, n_hits: int) -> Example:
    ids, labels = archive.examples.ids, archive.labels
    there = archive.photos != archive.photos[row]
    hits = [
        Hit(
            item_id=str(ids[other]),
            label=str(labels[other]),
            score=round(score, 6),
            is_relevant=bool(labels[other] == labels[row]),
        )
        for other, score in nearest(archive.vectors[row], archive.vectors, n_hits, there)
    ]
    return Example(item_id=str(ids[row]), label=str(labels[row]), hits=tuple(hits))
