"""What a new batch of pictures adds to an archive. This is no stage.

    from deponij.services.curate.batches import judge
    report = judge("archive.h5", "new.h5", pick=20)
    report.shares, report.pick

Kinds: `exact` (the archive has the very picture), `near` (a near-duplicate), `familiar` (its k-th nearest is within
the archive's own radius), `novel` (beyond). The radius is a quantile of the archive's items' own distances to their
k-th nearest others, each item left out of its own; at 0.95, of more pictures of the archive's kind one in twenty
would be called novel. See `deponij.pipeline.likeness.coverage`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from deponij.pipeline.likeness.coverage import NOVELTIES, Batch, Novelty, Pick, farthest_first, judge_batch
from deponij.pipeline.likeness.pairs import UNHASHED, Likeness
from deponij.project.frame.console import bar
from deponij.project.frame.settings import Section
from deponij.services.curate.collection import Gathered, Where
from deponij.services.curate.duplicates import DuplicatesParams
from deponij.services.curate.outliers import OutliersParams, surroundings
from deponij.store.errors import IdentityError, UsageError


class BatchParams(OutliersParams, DuplicatesParams):
    """What counts as familiar.

    Attributes:
        quantile: of the archive's own distances that is its radius.
        pick: how many new items to choose that together add most.
    """

    quantile: float = Field(default=0.95, gt=0, lt=1)
    pick: int = Field(default=0, ge=0, le=100_000)


class NewItem(Section):
    """One item of the batch.

    Attributes:
        score: cosine distance to its k-th nearest of the archive.
        like, like_label, distance: the archive's item that it is likest to, and the cosine distance to it.
        bits: by which the nearest perceptual hash of the archive differs; None where there is none.
        rank: in the pick, from 1.
        gap: then, its distance to the archive and to all picked before it.
    """

    item_id: str
    key: str
    novelty: Novelty
    score: float
    like: str
    like_label: str | None
    distance: float
    bits: int | None
    rank: int | None = None
    gap: float | None = None


class BatchReport(Section):
    """The batch against the archive.

    Attributes:
        radius: the archive's.
        n, shares: by kind.
        density, coverage, expected_coverage: see `deponij.pipeline.likeness.coverage.Batch`.
        farthest: distance of the batch's farthest item to the archive.
        farthest_with_pick: and to the pick.
        items: the most novel first.
    """

    archive: str
    batch: str
    backbone: str
    fingerprint: str
    params: BatchParams
    n_archive: int
    n_new: int
    radius: float
    n: dict[Novelty, int]
    shares: dict[Novelty, float]
    density: float
    coverage: float
    expected_coverage: float
    farthest: float
    farthest_with_pick: float | None
    items: tuple[NewItem, ...]
    notes: tuple[str, ...]

    @property
    def pick(self) -> list[NewItem]:
        """The chosen items, in the order in which they were."""
        return sorted((one for one in self.items if one.rank is not None), key=lambda one: one.rank or 0)

    def first(self, n: int) -> dict[str, Any]:
        """As JSON, with the n most novel items and the whole pick."""
        return {
            **self.model_dump(mode="json", exclude={"items"}),
            "items": [one.model_dump(mode="json") for one in self.items[:n]],
            "pick": [one.model_dump(mode="json") for one in self.pick],
        }


def judge(
    archive: str | Path,
    new: str | Path,
    items: str | Path | None = None,
    new_items: str | Path | None = None,
    *,
    params: BatchParams | None = None,
    threads: int = 1,
) -> BatchReport:
    """Compare the items of one view with those of another, of the same identity.

    Args:
        items, new_items: folders; with both, perceptual hashes count too.

    Raises:
        IdentityError: the two were not encoded alike; the message names the differences.
        DeponijError: files that are damaged or do not belong together.
    """
    sides = Gathered(Where(archive, items)), Gathered(Where(new, new_items))
    return run(params or BatchParams(), *sides, threads=threads)


def run(params: BatchParams, archive: Gathered, new: Gathered, *, threads: int = 1) -> BatchReport:
    """Compare a batch with an archive, exactly.

    Raises:
        IdentityError: the two were not encoded alike.
        UsageError: one of them has no features, or the archive has too few items.
    """
    require_same(archive, new)
    archive.check_names()
    likeness = Likeness(new.evidence, archive.evidence, params.thresholds)
    with threadpool_limits(limits=threads):
        radii = surroundings(params, archive).scores
        radius = float(np.quantile(radii.astype(np.float64), params.quantile))
        with bar("judging", len(new), "items") as advance:
            batch = judge_batch(likeness, params.k, radii, radius, advance)
        pick = _picked(new, batch, params.pick)
    assert archive.view is not None
    n = {novelty: batch.count(novelty) for novelty in NOVELTIES}
    return BatchReport(
        archive=archive.source,
        batch=new.source,
        backbone=archive.view.backbone,
        fingerprint=archive.view.fingerprint,
        params=params,
        n_archive=len(archive),
        n_new=len(new),
        radius=round(radius, 6),
        n=n,
        shares={novelty: round(count / len(new), 6) for novelty, count in n.items()},
        density=round(batch.density, 6),
        coverage=round(batch.coverage, 6),
        expected_coverage=round(batch.expected_coverage, 6),
        farthest=round(float(batch.gaps.max()), 6),
        farthest_with_pick=None if pick is None else round(pick.left, 6),
        items=tuple(_items(archive, new, batch, pick)),
        notes=tuple(_notes(params, archive, new, batch, pick)),
    )


def require_same(archive: Gathered, new: Gathered) -> None:
    """Refuse to compare what was not encoded alike.

    Raises:
        IdentityError: naming every difference.
        UsageError: one of them has no features.
    """
    if archive.view is None or new.view is None:
        raise UsageError("a batch is compared by its features; name --features VIEW and --new VIEW")
    differences = archive.view.identity.differences(new.view.identity)
    if differences:
        raise IdentityError(
            f"{new.view.path} was not encoded as the archive {archive.view.path} ({archive.view.backbone}): "
            + "; ".join(differences)
            + "; extract it with the archive's backbone and settings"
        )


def _picked(new: Gathered, batch: Batch, n_wanted: int) -> Pick | None:
    if not n_wanted or new.evidence.units is None:
        return None
    is_known = np.isin(batch.novelty, ("exact", "near"))
    return farthest_first(new.evidence.units, np.where(is_known, np.float32(0), batch.gaps), n_wanted)


def _items(archive: Gathered, new: Gathered, batch: Batch, pick: Pick | None) -> list[NewItem]:
    labels = archive.labels or [None] * len(archive)
    places = {} if pick is None else {row: place for place, row in enumerate(pick.rows.tolist())}
    rank = {novelty: place for place, novelty in enumerate(reversed(NOVELTIES))}
    order = sorted(
        range(len(new)), key=lambda row: (rank[_novelty(batch, row)], -batch.scores[row], new.ids[row])
    )
    return [
        NewItem(
            item_id=new.ids[row],
            key=new.keys[row],
            novelty=_novelty(batch, row),
            score=round(float(batch.scores[row]), 6),
            like=archive.ids[batch.nearest[row]],
            like_label=labels[batch.nearest[row]],
            distance=round(float(batch.distances[row]), 6),
            bits=None if batch.bits[row] == UNHASHED else int(batch.bits[row]),
            rank=None if row not in places else places[row] + 1,
            gap=None if pick is None or row not in places else round(float(pick.gaps[places[row]]), 6),
        )
        for row in order
    ]


def _novelty(batch: Batch, row: int) -> Novelty:
    novelty: Novelty = batch.novelty[row]
    return novelty


def _notes(
    params: BatchParams, archive: Gathered, new: Gathered, batch: Batch, pick: Pick | None
) -> list[str]:
    notes = []
    if archive.evidence.hashes is None or new.evidence.hashes is None:
        notes.append("perceptual hashes were not compared: they are with the items (--items, --new-items)")
    if batch.count("exact") == len(new):
        notes.append("every new picture is in the archive already")
    if pick is not None and len(pick.rows) < params.pick:
        notes.append(f"{len(pick.rows)} items were picked; the others would add nothing")
    return notes
