"""Near-duplicates of one set, what of them lies in two parts of a split, and a list without them. This is no stage.

    from deponij.services.curate.duplicates import find_duplicates
    report = find_duplicates("runs/sample/views/mini-openclip.h5", "runs/sample/items")
    report.groups[0].members

Two pictures are alike by equal content (`picture`), by perceptual hashes a few bits apart that the features confirm
(`phash`), or by a high cosine of their features (`embedding`); from when on: `deponij.pipeline.likeness.pairs`. A group
is what is alike with its first item itself; see `deponij.pipeline.likeness.groups`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from deponij.pipeline.likeness.groups import (
    ANY,
    OTHER_PHOTO,
    Counts,
    Group,
    count_alike,
    group_alike,
    lowest_cosine,
)
from deponij.pipeline.likeness.pairs import CONFIRM_COSINE, HOWS, MIN_COSINE, How, Likeness, Thresholds
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.project.frame.console import bar
from deponij.project.frame.settings import Section
from deponij.project.toy_features import toy_note
from deponij.services.curate.collection import Gathered, SetReport, Where
from deponij.store.texts import in_percent

# What stays of a group: the published test set does, and training gives way; see `_order`.
KEPT_FIRST = ("test", "val", "train")
# Among the pairs of a varied set this many would be alike by chance only with a threshold that is too low.
_COMMON = 0.005


class DuplicatesParams(Section):
    """When two pictures count as near-duplicates; see `deponij.pipeline.likeness.pairs.Thresholds`."""

    max_bits: int | None = Field(default=None, ge=0, le=64)
    min_cosine: float = Field(default=MIN_COSINE, gt=0, le=1)
    confirm_cosine: float = Field(default=CONFIRM_COSINE, ge=-1, le=1)

    @property
    def thresholds(self) -> Thresholds:
        """The same, for comparing."""
        return Thresholds(self.max_bits, self.min_cosine, self.confirm_cosine)


class Member(Section):
    """One item of a group.

    Attributes:
        how: what speaks for its being alike with the group's first item; nothing for that one itself.
        bits, cosine: between the two, whether or not they pass; None where not known.
        photo: its photograph.
        parts: by split.
    """

    item_id: str
    key: str
    how: tuple[How, ...]
    bits: int | None
    cosine: float | None
    label: str | None
    photo: str | None
    parts: dict[str, str | None]


class DuplicateGroup(Section):
    """Items that show the same thing; the first one is what a list without duplicates keeps.

    Attributes:
        kind: `exact` where all have the same content.
        min_cosine: of the two that are least alike; None without features.
        labels: how many have which.
        is_conflict: more than one label: probably an error.
        n_photos: photographs they come from; one: overlapping boxes, most likely. None: not known.
        leaks: splits in whose train, val and test parts it has items of at least two.
    """

    kind: str
    min_cosine: float | None
    labels: dict[str, int]
    is_conflict: bool
    n_photos: int | None
    leaks: tuple[str, ...]
    members: tuple[Member, ...]


class Leak(Section):
    """Items of one part that have their like in another; by pairs, so groups need not show them all.

    Attributes:
        n: items of `part`.
        n_alike: those with a near-duplicate in `against`.
        by: of these, how many by each kind of evidence (an item may count for several).
        n_other_photo: of these, those with one in another photograph.
    """

    split: str
    part: str
    against: str
    n: int
    n_alike: int
    share: float
    by: dict[str, int]
    n_other_photo: int


class DuplicatesReport(SetReport):
    """Everything that was found.

    Attributes:
        evidence: kinds that could be compared.
        n_alike: items with any near-duplicate.
        n_pairs: of them, by kind of evidence and `any`.
        n_surplus: items that a list without duplicates leaves out.
        n_within_photo: groups of one photograph.
        loosest: lowest cosine within any group.
        groups: those that leak or have different labels first; of them the surest first.
    """

    params: DuplicatesParams
    evidence: tuple[How, ...]
    n_alike: int
    n_pairs: dict[str, int]
    n_groups: int
    n_exact: int
    n_near: int
    n_surplus: int
    n_within_photo: int
    n_conflicts: int
    n_leaking: int
    loosest: float | None
    leaks: tuple[Leak, ...]
    groups: tuple[DuplicateGroup, ...]


def find_duplicates(
    features: str | Path | None = None,
    items: str | Path | None = None,
    *,
    splits: Mapping[str, Path] | None = None,
    labels: str | None = None,
    params: DuplicatesParams | None = None,
    threads: int = 1,
) -> DuplicatesReport:
    """Groups of near-duplicates of a view, of items, or of both.

    Args:
        features: view; without it, only content and hashes are compared.
        items: folder; without it, only content and features are.
        splits: by name, to see what leaks.
        labels: column of the items, to see which differ.

    Raises:
        DeponijError: files that are damaged or do not belong together.
    """
    where = Where(features, items, splits or {}, labels)
    return run(params or DuplicatesParams(), Gathered(where), threads=threads)


def run(params: DuplicatesParams, gathered: Gathered, *, threads: int = 1) -> DuplicatesReport:
    """Compare everything with everything; memory stays at some hundred MB beside the features.

    Raises:
        UsageError: the items have no such label column.
        DataError: a split is of other items.
    """
    gathered.check_names()
    likeness = Likeness(gathered.evidence, how=params.thresholds)
    columns, names = _columns(gathered)
    with threadpool_limits(limits=threads):
        with bar("comparing", len(gathered), "items") as advance:
            counts = count_alike(likeness, columns, gathered.photo_codes, advance)
        order = _order(gathered, counts[ANY][:, 0])
        with bar("grouping", len(order), "items") as advance:
            alike = group_alike(likeness, order, advance)
        groups = sorted((_described(group, likeness, gathered) for group in alike), key=_urgency)
    lows = [one.min_cosine for one in groups if one.min_cosine is not None]
    n_pairs = {kind: int(counts[kind][:, 0].sum(dtype=np.float64) / 2) for kind in (*HOWS, ANY)}
    there = {
        "picture": True,
        "phash": gathered.evidence.hashes is not None,
        "embedding": gathered.view is not None,
    }
    return DuplicatesReport(
        **gathered.facts(_notes(params, gathered, n_pairs)),
        params=params,
        evidence=tuple(how for how in HOWS if there[how]),
        n_alike=int((counts[ANY][:, 0] > 0).sum()),
        n_pairs=n_pairs,
        n_groups=len(groups),
        n_exact=sum(one.kind == "exact" for one in groups),
        n_near=sum(one.kind == "near" for one in groups),
        n_surplus=sum(len(one.members) - 1 for one in groups),
        n_within_photo=sum(one.n_photos == 1 for one in groups),
        n_conflicts=sum(one.is_conflict for one in groups),
        n_leaking=sum(bool(one.leaks) for one in groups),
        loosest=min(lows, default=None),
        leaks=tuple(_leaks(gathered, counts, names)),
        groups=tuple(groups),
    )


def _columns(gathered: Gathered) -> tuple[NDArray[np.float32], dict[tuple[str, str], int]]:
    """What is counted of near-duplicates, [n, c]: all, and those of each split's parts; and which column is which."""
    names = {
        (split, part): 1 + i for i, (split, part) in enumerate((s, p) for s in gathered.parts for p in PARTS)
    }
    columns = np.ones((len(gathered), 1 + len(names)), np.float32)
    for (split, part), column in names.items():
        columns[:, column] = [one == part for one in gathered.parts[split]]
    return columns, names


def _order(gathered: Gathered, degree: NDArray[np.float32]) -> NDArray[np.int64]:
    """Who may open a group first: rows with any near-duplicate.

    Evaluation parts go before training, by the first split: then what is kept leaves test sets as they were published
    and takes from the training items what is in them. Then who has most that is like it, then the larger picture.
    """
    rows = np.flatnonzero(degree)
    parts = next(iter(gathered.parts.values()), [None] * len(gathered))
    rank = {part: number for number, part in enumerate(KEPT_FIRST)}
    ranks = np.array([rank.get(str(part), len(rank)) for part in parts])
    ids = np.array(gathered.ids, np.str_)
    order: NDArray[np.int64] = rows[
        np.lexsort((ids[rows], -gathered.n_pixels[rows], -degree[rows], ranks[rows]))
    ]
    return order


def _described(group: Group, likeness: Likeness, gathered: Gathered) -> DuplicateGroup:
    links = likeness.links(group.first, np.array(group.rows))
    members = [
        Member(
            item_id=gathered.ids[row],
            key=gathered.keys[row],
            how=() if row == group.first else link.how,
            bits=link.bits,
            cosine=None if link.cosine is None else round(link.cosine, 6),
            label=None if gathered.labels is None else gathered.labels[row],
            photo=None if gathered.photos is None else gathered.photos[row],
            parts={split: parts[row] for split, parts in gathered.parts.items()},
        )
        for row, link in zip(group.rows, links, strict=True)
    ]
    members[1:] = sorted(members[1:], key=lambda one: (-len(one.how), -(one.cosine or 0), one.item_id))
    labels = [one.label for one in members if one.label is not None]
    lowest = lowest_cosine(likeness, group)
    return DuplicateGroup(
        kind="exact" if len({one.key for one in members}) == 1 else "near",
        min_cosine=None if lowest is None else round(lowest, 6),
        labels={label: labels.count(label) for label in sorted(set(labels))},
        is_conflict=len(set(labels)) > 1,
        n_photos=None if gathered.photos is None else len({gathered.photo_codes[row] for row in group.rows}),
        leaks=tuple(
            split for split in gathered.parts if len({one.parts[split] for one in members} & set(PARTS)) > 1
        ),
        members=tuple(members),
    )


def _urgency(group: DuplicateGroup) -> tuple[bool, int, float, int, str]:
    """What to look at first: what leaks or contradicts itself; the surest of it, by kinds of evidence for each member."""
    n_kinds = min(len(one.how) for one in group.members[1:])
    is_trouble = bool(group.leaks) or group.is_conflict
    return (not is_trouble, -n_kinds, -(group.min_cosine or 0), -len(group.members), group.members[0].item_id)


def _leaks(gathered: Gathered, counts: dict[str, Counts], names: dict[tuple[str, str], int]) -> list[Leak]:
    leaks = []
    for split, parts in gathered.parts.items():
        for part, against in (("test", "train"), ("test", "val"), ("val", "train")):
            rows = np.array([one == part for one in parts])
            alike = {
                kind: int((count[rows, names[split, against]] > 0).sum()) for kind, count in counts.items()
            }
            n = int(rows.sum())
            leaks.append(
                Leak(
                    split=split,
                    part=part,
                    against=against,
                    n=n,
                    n_alike=alike[ANY],
                    share=round(alike[ANY] / n, 6) if n else 0.0,
                    by={how: alike[how] for how in HOWS},
                    n_other_photo=alike[OTHER_PHOTO],
                )
            )
    return leaks


def _notes(params: DuplicatesParams, gathered: Gathered, n_pairs: dict[str, int]) -> list[str]:
    notes = []
    n_all = len(gathered) * (len(gathered) - 1) / 2
    if gathered.view is None:
        notes.append(
            "no features were named: only content and perceptual hashes were compared, and nothing confirms what "
            "hashes propose"
        )
    elif n_pairs["embedding"] - n_pairs["picture"] > max(_COMMON * n_all, len(gathered)):
        notes.append(
            f"{in_percent(n_pairs['embedding'] / n_all)} of all pairs have a cosine of {params.min_cosine} or more: unless "
            "the set is full of copies, that is too low for these features; raise --min-cosine"
        )
    if gathered.view is not None and (note := toy_note(gathered.view.path, gathered.view.backbone)):
        notes.append(note)
    if gathered.evidence.hashes is None:
        notes.append("there are no perceptual hashes: name --items with the column `phash` to compare looks")
    if not gathered.where.splits:
        notes.append("no split was named: what leaks between parts was not looked at (--split)")
    return notes
