"""What the page tells of segmentation, read from results folders and scenes. This is no stage."""

from collections.abc import Sequence, Set
from pathlib import Path

from PIL import Image

from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.pipeline.reports.provenance import Provenance
from deponij.pipeline.reports.samples import data_uri, thumbnail
from deponij.pipeline.reports.segmentation.colours import as_array, class_colours
from deponij.pipeline.reports.segmentation.facts import (
    ClassKey,
    Example,
    SegmentationFacts,
    Shown,
    chosen_pictures,
)
from deponij.pipeline.reports.segmentation.pictures import Table, error_map, overlay
from deponij.pipeline.reports.segmentation.similarity_plot import similarity_svg
from deponij.pipeline.reports.segmentation.table import SegmentationTable, segmentation_tables
from deponij.project.report.runs import Told
from deponij.project.segmentation.compare import compare_segmentations
from deponij.project.segmentation.result_files import (
    Answers,
    read_counts,
    read_label_maps,
    read_segmentation,
)
from deponij.store.errors import DataError
from deponij.store.scenes import Scenes

# Approaches whose answers stand side by side.
_COMPARED = 3
# Of more classes cosines cannot be read.
_MOST_COSINES = 60


def segmentation_facts(
    folders: Sequence[Path], scenes: Path | None, toys: Set[str], told: Told, n_examples: int, side_px: int
) -> list[SegmentationFacts]:
    """What is shown of results folders, one for each set of classes and pictures.

    Args:
        scenes: that they are of; None: their pictures are not shown.
        n_examples: pictures shown of each.
        side_px: longer side of a picture.

    Raises:
        StoreError: a folder holds no results or damaged ones, or the scenes are damaged.
    """
    results = {str(folder): read_segmentation(folder) for folder in folders}
    known = Scenes(scenes) if scenes is not None and n_examples and folders else None
    facts = []
    for table in segmentation_tables(list(results.items()), toys):
        of_table = [results[row.folder] for row in table.rows]
        first = of_table[0]
        vectors = next((one for one in of_table if one.class_cosines is not None), None)
        facts.append(
            SegmentationFacts(
                table=table,
                protocols=[(row.name, row.protocol) for row in table.rows],
                notes=_notes(table, of_table),
                duel=_duel(table),
                similarity=_similarity(vectors),
                of_vectors="" if vectors is None else f"{vectors.backbone}, {vectors.words}",
                keys=_keys(first),
                examples=_examples(table, first, known, n_examples, side_px),
                source=_source(told, table, of_table),
            )
        )
    return facts


def _source(told: Told, table: SegmentationTable, results: Sequence[SegmentationResult]) -> Provenance:
    return told.source("decoders", results, part=table.part, n=table.n_pictures)


def _notes(table: SegmentationTable, results: Sequence[SegmentationResult]) -> list[str]:
    """Those of the table but the first, which stands in its heading, and those of each approach."""
    pairs = zip(table.rows, results, strict=True)
    return [*table.notes[1:], *(f"{row.name}: {note}" for row, one in pairs for note in one.notes)]


def _duel(table: SegmentationTable) -> str:
    """The first against the second, where there are two."""
    if len(table.rows) < 2:
        return ""
    first, second = table.rows[:2]
    try:
        comparison = compare_segmentations(Path(first.folder), Path(second.folder), table.part)
    except DataError as error:
        return f"The first two were not compared picture by picture: {error}."
    return f"A is {first.name}; B is {second.name}. {comparison.verdict}"


def _similarity(result: SegmentationResult | None) -> str:
    if result is None or result.class_cosines is None or not 1 < len(result.classes) <= _MOST_COSINES:
        return ""
    label = f"cosines between class vectors: {result.backbone}, {result.words}"
    return similarity_svg(result.class_cosines, result.classes, label)


def _keys(result: SegmentationResult) -> list[ClassKey]:
    colours = class_colours(result.colours)
    pairs = zip(result.classes, colours, strict=True)
    return [ClassKey(number, name, colour) for number, (name, colour) in enumerate(pairs, start=1)]


def _examples(
    table: SegmentationTable, first: SegmentationResult, scenes: Scenes | None, n: int, side_px: int
) -> list[Example]:
    """Pictures of the part that is shown, with the answers that were kept of the first approaches; none without."""
    if scenes is None or tuple(one.name for one in scenes.classes) != first.classes:
        return []
    of_part = read_counts(Path(table.rows[0].folder))[1].of(table.part)
    kept = [(row.method, row.name, read_label_maps(Path(row.folder))) for row in table.rows[:_COMPARED]]
    methods = [method for method, _, _ in kept]
    answers = [
        (name if methods.count(method) > 1 else method, label_maps) for method, name, label_maps in kept
    ]
    colours = as_array(class_colours(first.colours))
    examples = []
    for row, what, miou in chosen_pictures(of_part.confusions, n):
        item_id = str(of_part.ids[row])
        if item_id in answers[0][1] and (shown := _pictures(scenes, item_id, answers, colours, side_px)):
            examples.append(Example(item_id, what, miou, shown))
    return examples


def _pictures(
    scenes: Scenes, item_id: str, answers: Sequence[tuple[str, Answers]], colours: Table, side_px: int
) -> list[Shown]:
    """Photograph, truth, and of each approach its answer and where that is wrong; none where it cannot be decoded."""
    photograph = thumbnail(scenes.items.content(item_id), side_px)
    if photograph is None:
        return []
    truth = scenes.label_map(item_id)
    pictures = [
        Shown("Photograph", data_uri(photograph)),
        _shown("Truth", overlay(photograph, truth, colours)),
    ]
    for name, label_maps in answers:
        if item_id in label_maps:
            said = label_maps.label_map(item_id)
            pictures.append(_shown(name, overlay(photograph, said, colours)))
            pictures.append(_shown(f"Errors of {name}", error_map(photograph, truth, said, colours)))
    return pictures


def _shown(heading: str, picture: Image.Image) -> Shown:
    return Shown(heading, data_uri(picture))
