"""Stage `likeness`: near-duplicates, and items that are far from all others, by the features of each backbone.

    python -m deponij.stages.likeness

It needs no labels. What of it lies in two parts of a split, or has two labels, is told by `deponij duplicates`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from deponij.pipeline.likeness.groups import ANY, Group, count_alike, group_alike, lowest_cosine
from deponij.pipeline.likeness.outliers import look_around, spread_of
from deponij.pipeline.likeness.pairs import HOWS, Evidence, Likeness, Thresholds, codes_of
from deponij.pipeline.likeness.records import LIKENESS, AlikeGroup, Apart, LikenessReport
from deponij.project.frame.console import bar, say
from deponij.project.frame.harness import for_each, run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Section
from deponij.project.learning.results import check_belongs, require_finite
from deponij.store.atomic import write_bytes
from deponij.store.errors import DataError
from deponij.store.items import Items
from deponij.store.view import View

_MEMBERS = 12
# Distances among fewer say nothing of what is far.
_FEWEST = 5


class LikenessParams(Section):
    """When two pictures are near-duplicates, and how much is listed.

    Attributes:
        max_bits: of 64 in which perceptual hashes may differ; None: as `duplicates` has it.
        min_cosine: of the features; None: as `duplicates` has it.
        k: the distance to the k-th nearest other tells how far an item is; fewer where there are few items.
        n_groups, n_apart: longest lists; all are counted.
    """

    max_bits: int | None = Field(default=None, ge=0, le=64)
    min_cosine: float | None = Field(default=None, gt=0, le=1)
    k: int = Field(default=10, ge=1, le=1000)
    n_groups: int = Field(default=100, ge=0)
    n_apart: int = Field(default=100, ge=0)

    @property
    def thresholds(self) -> Thresholds:
        """From when two pictures count as near-duplicates."""
        given = {"max_bits": self.max_bits, "min_cosine": self.min_cosine}
        return Thresholds(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; of the backbones only their names."""

    likeness: LikenessParams = LikenessParams()


def run(params: LikenessParams, *, features: Path, items: Path, threads: int = 1) -> LikenessReport:
    """Compare all items of a view with all others.

    Args:
        features: a view of kind `embedding`.
        items: the folder of items it was made from.

    Raises:
        DataError: the view is empty.
        UsageError: it holds no vectors.
        StoreError: it was made from other items, or has values that are not finite.
    """
    view, table = View(features), Items(items)
    check_belongs(view, table)
    if not len(view):
        raise DataError(f"{view.path} holds no features; there is nothing to compare")
    vectors, ids = view.embedding, view.ids.tolist()
    require_finite(vectors, ids, f"{view.path}: the features", "extract with precision fp32")
    rows = [table.places[item_id] for item_id in ids]
    phashes, photos = (_column(table, name, rows) for name in ("phash", "image_id"))
    evidence = Evidence(view.keys.tolist(), phashes, vectors)
    how = params.thresholds
    with threadpool_limits(limits=threads):
        groups = _groups(Likeness(evidence, how=how), codes_of(photos), ids)
        apart = _apart(params, evidence, [codes_of(evidence.keys.tolist()), codes_of(photos)], ids)
    return LikenessReport(
        backbone=view.backbone,
        fingerprint=view.fingerprint,
        n=len(view),
        min_cosine=how.min_cosine,
        max_bits=how.max_bits,
        n_groups=len(groups),
        n_surplus=sum(one.n - 1 for one in groups),
        groups=tuple(groups[: params.n_groups]),
        **apart,
    )


def _column(table: Items, name: str, rows: list[int]) -> list[str | None]:
    values = table.column(name)
    return [values[row] for row in rows]


def _groups(likeness: Likeness, photos: np.ndarray, ids: list[str]) -> list[AlikeGroup]:
    """The most alike first; who has most that is like it opens a group."""
    with bar("likeness", len(ids), "items") as advance:
        counts = count_alike(likeness, np.ones((len(ids), 1), np.float32), photos, advance)
    degree = counts[ANY][:, 0]
    rows = np.flatnonzero(degree)
    order = rows[np.lexsort((np.array(ids, np.str_)[rows], -degree[rows]))]
    groups = [_described(group, likeness, ids) for group in group_alike(likeness, order)]
    return sorted(groups, key=lambda one: (not one.is_exact, -one.lowest, one.item_ids))


def _described(group: Group, likeness: Likeness, ids: list[str]) -> AlikeGroup:
    links = likeness.links(group.first, np.array(group.rows[1:]))
    lowest = lowest_cosine(likeness, group)
    return AlikeGroup(
        item_ids=tuple(ids[row] for row in group.rows[:_MEMBERS]),
        n=len(group.rows),
        how=tuple(how for how in HOWS if any(how in link.how for link in links)),
        lowest=1.0 if lowest is None else lowest,
        is_exact=len({likeness.a.keys[row] for row in group.rows}) == 1,
    )


def _apart(
    params: LikenessParams, evidence: Evidence, tags: list[np.ndarray], ids: list[str]
) -> dict[str, Any]:
    """The fields of a report on what is far from all others; copies and crops of one photograph are no others."""
    k = min(params.k, _fewest_others(tags))
    if len(ids) < _FEWEST or not k:
        note = f"{len(ids)} items are too few to say which of them stand apart"
        return {"k": 0, "fence": 0.0, "n_beyond": 0, "apart": (), "notes": (note,)}
    assert evidence.units is not None
    around = look_around(evidence.units, k, tags)
    spread = spread_of(around.scores)
    order = np.lexsort((np.array(ids, np.str_), -around.scores))[: params.n_apart]
    apart = tuple(
        Apart(
            item_id=ids[row],
            distance=float(around.scores[row]),
            nearest=ids[around.others.rows[row, 0]],
            nearest_distance=float(around.others.distances[row, 0]),
        )
        for row in order.tolist()
    )
    few = f"few items: the distance to neighbour number {k} counts, not to number {params.k}."
    notes = (few,) if k < params.k else ()
    return {"k": k, "fence": spread.fence, "n_beyond": spread.n_beyond, "apart": apart, "notes": notes}


def _fewest_others(tags: list[np.ndarray]) -> int:
    """How many others every item has at least, by a bound: all but those that share a tag with it."""
    return int(len(tags[0]) - sum(np.bincount(tag).max() for tag in tags) + len(tags) - 1)


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every backbone of the profile."""

    def compare(backbone: str) -> None:
        report = run(params.likeness, features=at.view(backbone), items=at.items, threads=options.n_threads)
        write_bytes(at.likeness(backbone), LIKENESS.dump([report]))
        say(
            f"likeness {backbone}, of {report.n:,} items: groups of near-duplicates {report.n_groups:,}, items to spare "
            f"{report.n_surplus:,}, items that stand apart {report.n_beyond:,}"
        )

    for_each(params.backbones, compare)


if __name__ == "__main__":
    run_stage("likeness", Params, main)
