"""How well pictures of one backbone find pictures of their class.

Every labelled item of the part that is judged asks all labelled items of the split, those of its own photograph left
out: a new picture asked against the archive. What texts find, and what finds texts, is the business of `texts`.
"""

from pathlib import Path

from deponij.pipeline.metrics.retrieval import RetrievalResult
from deponij.pipeline.retrieval.evaluation import Side
from deponij.project.retrieval.archive import RetrievalParams, judged, read_archive
from deponij.store.scratch import taken
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
    archive = read_archive(View(features), items, split, labels)
    rows = archive.rows
    return judged(
        archive,
        params,
        "image-to-image",
        "classes",
        Side(taken(archive.vectors, rows), archive.labels[rows], archive.photos[rows]),
        Side(archive.vectors, archive.labels, archive.photos),
        lambda n: (
            f"{n} of {len(rows)} items have no other photograph with an item of their class, so that there is nothing "
            "for them to find; they are in no figure."
            if n
            else ""
        ),
        protocol=(
            f"each {archive.part} item asks all {len(archive.labels):,} labelled items of the split but those of its "
            f"own photograph; relevant: the same {labels}; exact ranking by cosine"
        ),
    )
