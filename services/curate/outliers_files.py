"""Outliers and batches as files: a table of all items, and a page of pictures of the first. This is no stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL.Image import Image

from deponij.pipeline.reports.samples import WRONG
from deponij.pipeline.reports.sheets import FAINT, INK, NEUTRAL, Block, Tile, draw_sheet
from deponij.project.record_files import check_ending, write_records
from deponij.services.curate.batches import BatchReport, NewItem
from deponij.services.curate.collection import Gathered, Record
from deponij.services.curate.outliers import Outlier, OutliersReport
from deponij.store.atomic import write_bytes


def write_items(path: Path, items: Sequence[Record]) -> None:
    """All items as a Parquet table, a column for each fact; the first one first.

    Args:
        items: of one kind, at least one.

    Raises:
        UsageError: another ending. StoreError: it cannot be written.
    """
    kinds = {}
    for name, field in type(items[0]).model_fields.items():
        allowed = getattr(field.annotation, "__args__", (field.annotation,))
        kinds[name] = next((one for one in allowed if one in (str, float, int, bool)), str)
    write_records(path, [one.model_dump(mode="json") for one in items], kinds)


def draw_outliers(path: Path, report: OutliersReport, found: Gathered, n_items: int) -> None:
    """The farthest items, each beside the one nearest to it, then those among another class (PNG).

    Raises:
        UsageError: another ending, or no items were named. StoreError: it cannot be written.
    """
    check_ending(path, "--sheet", ".png")
    far, misplaced = report.items[:n_items], report.misplaced[:n_items]
    images = found.images({name for one in (*far, *misplaced) for name in (one.item_id, one.nearest)})
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
        UsageError: another ending, or no items were named. StoreError: it cannot be written.
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
