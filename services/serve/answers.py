"""From query vectors to hits and the labels around them. This is no stage."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.likeness.pairs import Thresholds
from deponij.pipeline.retrieval.filters import Condition
from deponij.pipeline.unit_vectors import blend
from deponij.project.indexes import Hit, Index, plain
from deponij.services.search.vectors import Vector
from deponij.services.serve import schema

# As `deponij.pipeline.heads.knn` weighs its votes.
TEMPERATURE = 0.07
N_VOTERS = 20


def searched(
    index: Index, order: NDArray[np.int64], query: schema.Query, vectors: Sequence[Vector]
) -> tuple[list[Hit], list[Hit], int]:
    """Hits, best first; the nearest items, none folded, which vote on the label; how many items pass the filters.

    Args:
        vectors: of the query's terms. None: hits in this `order` of vector rows, and nobody votes.

    Raises:
        UsageError: a filter that cannot be used, or terms that cancel each other out.
    """
    conditions = tuple(Condition(one.column, one.op, one.value) for one in query.filters)
    n_searched = index.count(conditions=conditions)
    if not vectors:
        return index.listed(query.top, conditions=conditions, order=order), [], n_searched
    direction = blend(
        np.stack([np.asarray(one, np.float64) for one in vectors]), [term.weight for term in query.terms]
    )
    named = [term.value for term in query.terms if isinstance(term, schema.ItemTerm)]
    leave_out = list(dict.fromkeys(named)) if query.leave_out_named else []
    hits = index.search(
        direction,
        query.top,
        conditions=conditions,
        unique=Thresholds() if query.unique else None,
        leave_out=leave_out,
    )
    if query.top >= N_VOTERS and not query.unique:
        return hits, hits[:N_VOTERS], n_searched
    return hits, index.search(direction, N_VOTERS, conditions=conditions, leave_out=leave_out), n_searched


def hit_answer(hit: Hit, labels: str | None, *, is_compared: bool) -> schema.HitAnswer:
    """A hit as it is sent; its score is null where nothing was compared."""
    label = None if labels is None else hit.metadata.get(labels)
    return schema.HitAnswer(
        item_id=hit.item_id,
        key=hit.key,
        score=hit.score if is_compared else None,
        label=None if label is None else str(plain(label)),
        folded=list(hit.folded),
        width_px=hit.metadata.get("width_px"),
        height_px=hit.metadata.get("height_px"),
        metadata=dict(hit.metadata),
    )


def vote(voters: Sequence[Hit], labels: str | None) -> list[schema.LabelShare]:
    """Shares of the labels among hits, by softmax of cosine / temperature; hits without a label have no vote."""
    told = [hit for hit in voters if labels is not None and hit.metadata.get(labels) is not None]
    if labels is None or not told:
        return []
    scores = np.array([hit.score for hit in told]) / TEMPERATURE
    names, of_hit, counts = np.unique(
        [str(hit.metadata[labels]) for hit in told], return_inverse=True, return_counts=True
    )
    weights = np.exp(scores - scores.max())
    shares = np.bincount(of_hit, weights / weights.sum())
    return [
        schema.LabelShare(label=str(names[row]), share=round(float(shares[row]), 4), n=int(counts[row]))
        for row in np.argsort(-shares, kind="stable")
    ]
