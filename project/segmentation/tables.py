"""Which results folders of segmentation are meant, and their tables. This is no stage."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from deponij.pipeline.reports.segmentation.table import SegmentationTable, segmentation_tables
from deponij.project.frame.layout import Layout
from deponij.project.frame.toys import toys_of
from deponij.project.in_force import toys_beside
from deponij.project.meant import run_meant
from deponij.project.segmentation.result_files import read_segmentation
from deponij.store.errors import UsageError


@dataclass(frozen=True, slots=True)
class MeantTables:
    """Tables, and in a line whose they are (None where folders were named); toys: backbones that are toys."""

    tables: list[SegmentationTable]
    toys: Set[str]
    said: str | None


def tables_meant(folders: Sequence[Path], of_run: Path | None, part: str | None) -> MeantTables:
    """Tables of the folders that were named (of a run's all of its approaches), else of all of a run.

    Raises:
        UsageError: both were named, the run has none, or none has pictures of this part.
        StoreError: a folder holds no results, or damaged ones.
    """
    if folders and of_run is not None:
        raise UsageError(
            "--run says which run is meant where no folder is named; leave it out beside folders"
        )
    if folders:
        results = [one for folder in folders for one in Layout(folder).segmentations() or [folder]]
        toys = frozenset().union(toys_beside(*results), *(toys_of(folder / "weights") for folder in folders))
        return _of(results, toys, part, None)
    meant = run_meant(of_run)
    results = meant.at.segmentations()
    if not results:
        raise UsageError(
            f"{meant.at.root} has no segmentation: `dvc repro decoders` learns what the profile names under `decoders`, "
            "`deponij fit-decoder --out FOLDER` one by itself"
        )
    return _of(
        results,
        toys_of(meant.at.dense_weights),
        part,
        meant.said(f"{len(results)} approaches to segmentation"),
    )


def _of(folders: Sequence[Path], toys: Set[str], part: str | None, said: str | None) -> MeantTables:
    results = [(str(folder), read_segmentation(folder)) for folder in folders]
    tables = segmentation_tables(results, toys, part)
    if not tables:
        known = sorted({one for _, result in results for one in result.parts})
        raise UsageError(f"no results have pictures of the part {part!r}; there are {', '.join(known)}")
    return MeantTables(tables, toys, said)
