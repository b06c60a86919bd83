"""Near-duplicates as files: a table, a page of pictures, and the list of items without them. This is no stage."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from PIL.Image import Image

from deponij.pipeline.reports.samples import WRONG
from deponij.pipeline.reports.sheets import FAINT, INK, NEUTRAL, Block, Tile, draw_sheet
from deponij.services.curate.collection import Gathered, check_ending
from deponij.services.curate.duplicates import DuplicateGroup, DuplicatesReport, Member
from deponij.store.atomic import write_bytes, write_table

_N_TILES = 6


def kept_ids(report: DuplicatesReport, found: Gathered) -> list[str]:
    """All items but those that a group's first stands for, in the set's order. No two of them are alike."""
    surplus = {one.item_id for group in report.groups for one in group.members[1:]}
    return [item_id for item_id in found.ids if item_id not in surplus]


def write_kept(path: Path, report: DuplicatesReport, found: Gathered) -> int:
    """The list as a text (an id a line) or a Parquet table (`item_id`); gives how many.

    Raises:
        UsageError: another ending. StoreError: it cannot be written.
    """
    check_ending(path, "--keep", ".txt", ".parquet")
    ids = kept_ids(report, found)
    if path.suffix == ".parquet":
        write_table(path, pa.table({"item_id": pa.array(ids, pa.string())}))
    else:
        write_bytes(path, "".join(f"{one}\n" for one in ids).encode())
    return len(ids)


def write_groups(path: Path, report: DuplicatesReport) -> None:
    """A row for each member of each group, as a Parquet table.

    Raises:
        UsageError: another ending. StoreError: it cannot be written.
    """
    check_ending(path, "--parquet", ".parquet")
    rows = [(number, group, one) for number, group in enumerate(report.groups) for one in group.members]
    columns = {
        "group": pa.array([number for number, _, _ in rows], pa.int64()),
        "item_id": pa.array([one.item_id for _, _, one in rows], pa.string()),
        "key": pa.array([one.key for _, _, one in rows], pa.string()),
        "is_first": pa.array([not one.how for _, _, one in rows], pa.bool_()),
        "kind": pa.array([group.kind for _, group, _ in rows], pa.string()),
        "how": pa.array([list(one.how) for _, _, one in rows], pa.list_(pa.string())),
        "bits": pa.array([one.bits for _, _, one in rows], pa.int32()),
        "cosine": pa.array([one.cosine for _, _, one in rows], pa.float64()),
        "group_min_cosine": pa.array([group.min_cosine for _, group, _ in rows], pa.float64()),
        "is_conflict": pa.array([group.is_conflict for _, group, _ in rows], pa.bool_()),
        "is_leak": pa.array([bool(group.leaks) for _, group, _ in rows], pa.bool_()),
        "label": pa.array([one.label for _, _, one in rows], pa.string()),
        "photo": pa.array([one.photo for _, _, one in rows], pa.string()),
    }
    for split in dict.fromkeys(name for _, _, one in rows for name in one.parts):
        columns[f"split_{split}"] = pa.array([one.parts[split] for _, _, one in rows], pa.string())
    write_table(path, pa.table(columns))


def draw_groups(path: Path, report: DuplicatesReport, found: Gathered, n_groups: int) -> None:
    """The first groups as a page of pictures (PNG).

    Raises:
        UsageError: another ending, or no items were named. StoreError: it cannot be written.
    """
    check_ending(path, "--sheet", ".png")
    shown = report.groups[:n_groups]
    images = found.images([one.item_id for group in shown for one in group.members[:_N_TILES]])
    blocks = [
        Block(tuple(_tile(one, images, group) for one in group.members[:_N_TILES]), heading_of(group))
        for group in shown
    ]
    some = f"; the first {len(shown)} of {report.n_groups:,}" if len(shown) < report.n_groups else ""
    how = f"hashes up to {report.params.max_bits} bits apart, cosine from {report.params.min_cosine}"
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
