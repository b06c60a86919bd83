"""Near-duplicates as files: a table, a page of pictures, and the list of items without them. This is no stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL.Image import Image

from deponij.pipeline.reports.samples import WRONG
from deponij.pipeline.reports.sheets import FAINT, INK, NEUTRAL, Block, Tile, draw_sheet
from deponij.project.record_files import check_ending, write_records
from deponij.services.curate.collection import Gathered
from deponij.services.curate.duplicates import DuplicateGroup, DuplicatesReport, Member
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
        write_records(path, [{"item_id": one} for one in ids], {"item_id": str})
    else:
        write_bytes(path, "".join(f"{one}\n" for one in ids).encode())
    return len(ids)


def write_groups(path: Path, report: DuplicatesReport) -> None:
    """A row for each member of each group, as a Parquet table.

    Raises:
        UsageError: another ending. StoreError: it cannot be written.
    """
    rows = [
        {
            "group": number,
            "item_id": one.item_id,
            "key": one.key,
            "is_first": not one.how,
            "kind": group.kind,
            "how": one.how,
            "bits": one.bits,
            "cosine": one.cosine,
            "group_min_cosine": group.min_cosine,
            "is_conflict": group.is_conflict,
            "is_leak": bool(group.leaks),
            "label": one.label,
            "photo": one.photo,
            **{f"split_{split}": part for split, part in one.parts.items()},
        }
        for number, group in enumerate(report.groups)
        for one in group.members
    ]
    write_records(path, rows, _COLUMNS)


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
