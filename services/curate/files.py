"""What looking after a set of pictures hands out as files: tables, pages of pictures, lists. This is no stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL.Image import Image

from deponij.pipeline.reports.samples import WRONG
from deponij.pipeline.reports.sheets import FAINT, INK, NEUTRAL, Block, Tile, draw_sheet
from deponij.project.frame.settings import Section
from deponij.project.record_files import check_ending, write_records
from deponij.services.curate.batches import BatchReport, NewItem
from deponij.services.curate.collection import Gathered
from deponij.services.curate.duplicates import DuplicateGroup, DuplicatesReport, Member
from deponij.services.curate.outliers import Outlier, OutliersReport
from deponij.store.atomic import write_bytes

_N_TILES = 6
_COLUMNS: Mapping[str, Any] = {
    "group": int,
    "item_id": str,
    "key": str,
    "is_first": bool,
    "kind": str,
    "how": pa.list_(pa.string()),
    "bits": pa.int32(),
    "cosine": float,
    "group_min_cosine": float,
    "is_conflict": bool,
    "is_leak": bool,
    "label": str,
    "photo": str,
}


def kept_ids(report: DuplicatesReport, gathered: Gathered) -> list[str]:
    """All items but those that a group's first stands for, in the set's order. No two of them are alike."""
    surplus = {one.item_id for group in report.groups for one in group.members[1:]}
    return [item_id for item_id in gathered.ids if item_id not in surplus]


def write_kept(path: Path, report: DuplicatesReport, gathered: Gathered) -> int:
    """The list as a text (an id a line) or a Parquet table (`item_id`); gives how many.

    Raises:
        UsageError: another ending.
        StoreError: it cannot be written.
    """
    check_ending(path, "--keep", ".txt", ".parquet")
    ids = kept_ids(report, gathered)
    if path.suffix == ".parquet":
        write_records(path, [{"item_id": one} for one in ids], {"item_id": str})
    else:
        write_bytes(path, "".join(f"{one}\n" for one in ids).encode())
    return len(ids)


def write_groups(path: Path, report: DuplicatesReport) -> None:
    """A row for each member of each group, as a Parquet table.

    Raises:
        UsageError: another ending.
        StoreError: it cannot be written.
    """
    rows = [
        {
            **one.model_dump(exclude={"parts"}),
            "group": number,
            "is_first": not one.how,
            "kind": group.kind,
            "group_min_cosine": group.min_cosine,
            "is_conflict": group.is_conflict,
            "is_leak": bool(group.leaks),
            **{f"split_{split}": part for split, part in one.parts.items()},
        }
        for number, group in enumerate(report.groups)
        for one in group.members
    ]
    write_records(path, rows, _COLUMNS)


def draw_groups(path: Path, report: DuplicatesReport, gathered: Gathered, n_groups: int) -> None:
    """The first groups as a page of pictures (PNG).

    Raises:
        UsageError: another ending, or no items were named.
        StoreError: it cannot be written.
    """
    check_ending(path, "--sheet", ".png")
    shown = report.groups[:n_groups]
    images = gathered.images([one.item_id for group in shown for one in group.members[:_N_TILES]])
    blocks = [
        Block(tuple(_tile(one, images, group) for one in group.members[:_N_TILES]), heading_of(group))
        for group in shown
    ]
    some = f"; the first {len(shown)} of {report.n_groups:,}" if len(shown) < report.n_groups else ""
    how = report.params.thresholds.words("phash" in report.evidence, "embedding" in report.evidence)
    title = f"Near-duplicates{some}"
    write_bytes(path, draw_sheet(blocks, title, f"{report.source}\n{how}", "No two items are alike."))


def heading_of(group: DuplicateGroup) -> str:
    """A group in few words."""
    words = ["same picture" if group.kind == "exact" else "alike"]
    words += [f"{len(group.members)} items"] if len(group.members) > 2 else []
    words += ["leak"] if group.leaks else []
    words += ["labels differ"] if group.is_conflict else []
    words += ["one photo"] if group.n_photos == 1 else []
    return ", ".join(words)


def link_of(one: Member) -> str:
    """What speaks for a member, in few words."""
    if not one.how:
        return "the first"
    if "picture" in one.how:
        return "same picture"
    bits = "" if one.bits is None else f"{one.bits} bits"
    cosine = "" if one.cosine is None else f"cos {one.cosine:.3f}"
    # What holds comes first, the other in brackets.
    holds = [text for how, text in (("phash", bits), ("embedding", cosine)) if how in one.how]
    other = [text for how, text in (("phash", bits), ("embedding", cosine)) if how not in one.how and text]
    return ", ".join(holds) + "".join(f" ({text})" for text in other)


def _tile(one: Member, images: Mapping[str, Image], group: DuplicateGroup) -> Tile:
    parts = ", ".join(part for part in one.parts.values() if part)
    lines = [(link_of(one), INK)]
    if one.label is not None:
        lines.append((one.label, WRONG if group.is_conflict else INK))
    if parts:
        lines.append((parts, WRONG if group.leaks else FAINT))
    return Tile(
        images.get(one.item_id),
        tuple(lines),
        one.item_id,
        WRONG if group.is_conflict or group.leaks else NEUTRAL,
    )


def write_items(path: Path, items: Sequence[Section]) -> None:
    """All items as a Parquet table, a column for each fact; the first one first.

    Args:
        items: of one kind, at least one.

    Raises:
        UsageError: another ending.
        StoreError: it cannot be written.
    """
    kinds = {}
    for name, field in type(items[0]).model_fields.items():
        allowed = getattr(field.annotation, "__args__", (field.annotation,))
        kinds[name] = next((one for one in allowed if one in (str, float, int, bool)), str)
    write_records(path, [one.model_dump(mode="json") for one in items], kinds)


def draw_outliers(path: Path, report: OutliersReport, gathered: Gathered, n_items: int) -> None:
    """The farthest items, each beside the one nearest to it, then those among another class (PNG).

    Raises:
        UsageError: another ending, or no items were named.
        StoreError: it cannot be written.
    """
    check_ending(path, "--sheet", ".png")
    far, misplaced = report.items[:n_items], report.misplaced[:n_items]
    images = gathered.images({name for one in (*far, *misplaced) for name in (one.item_id, one.nearest)})
    k = report.params.k
    blocks = [_beside_nearest(one, k, images, f"distance {one.score:.3f}") for one in far]
    blocks += [_beside_nearest(one, k, images, "among another class", True) for one in misplaced]
    title = f"Outliers: the {len(far)} farthest of {report.n:,}" + (
        f", and {len(misplaced)} of {report.n_misplaced:,} among another class" if misplaced else ""
    )
    score = f"by cosine distance to the {kth(report.params.k)}nearest other"
    source = f"{report.source}\n{score}; beside each the item nearest to it"
    write_bytes(path, draw_sheet(blocks, title, source, "There are no items."))


def kth(k: int) -> str:
    """`2nd `, `10th `; nothing for the first, which is just the nearest."""
    ending = "th" if k % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(k % 10, "th")
    return "" if k == 1 else f"{k}{ending} "


def _beside_nearest(
    one: Outlier, k: int, images: Mapping[str, Image], heading: str, is_wrong: bool = False
) -> Block:
    colour = WRONG if is_wrong else NEUTRAL
    of = [(one.label, WRONG if is_wrong else INK)] if one.label else []
    if one.n_same is not None:
        of.append((f"{one.n_same} of {k} near it agree", FAINT))
    beside = [(f"nearest, {one.nearest_distance:.3f}", FAINT)]
    beside += [(one.nearest_label, INK)] if one.nearest_label else []
    return Block(
        (
            Tile(images.get(one.item_id), tuple(of), one.item_id, colour),
            Tile(images.get(one.nearest), tuple(beside), one.nearest),
        ),
        heading,
    )


def draw_batch(path: Path, report: BatchReport, archive: Gathered, new: Gathered, n_items: int) -> None:
    """The pick, or else the most novel items, each beside what it is likest to in the archive (PNG).

    Raises:
        UsageError: another ending, or no items were named.
        StoreError: it cannot be written.
    """
    check_ending(path, "--sheet", ".png")
    shown = (report.pick or report.items)[:n_items]
    of_new = new.images({one.item_id for one in shown})
    of_archive = archive.images({one.like for one in shown}) if archive.items is not None else {}
    blocks = [_beside_likest(one, of_new, of_archive) for one in shown]
    what = "the pick that adds most" if report.pick else "the most novel first"
    title = f"New pictures, {what}: {len(shown)} of {report.n_new:,}"
    source = f"{report.batch}\nbeside each what it is likest to in {report.archive}"
    write_bytes(path, draw_sheet(blocks, title, source, "There are no new pictures."))


def _beside_likest(one: NewItem, of_new: Mapping[str, Image], of_archive: Mapping[str, Image]) -> Block:
    colour = WRONG if one.novelty == "novel" else NEUTRAL
    like = [(f"distance {one.distance:.3f}", FAINT), *([(one.like_label, INK)] if one.like_label else [])]
    heading = one.novelty if one.rank is None else f"{one.rank}. {one.novelty}, adds {one.gap or 0:.3f}"
    return Block(
        (
            Tile(of_new.get(one.item_id), ((f"{one.novelty}, {one.score:.3f}", INK),), one.item_id, colour),
            Tile(of_archive.get(one.like), tuple(like), one.like),
        ),
        heading,
    )
