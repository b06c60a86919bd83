"""What the page shows that needs no labels: what is alike, what stands apart, and answers by words. This is no stage."""

from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

from deponij.pipeline.likeness.records import LIKENESS, LikenessReport
from deponij.pipeline.reports.answer_facts import AnswerFacts, Shown, answer_facts
from deponij.pipeline.reports.provenance import is_toy
from deponij.project.learning.zero_shot_answers import read_answers
from deponij.project.report.inputs import labels_of, read_records
from deponij.project.report.runs import Standing, Told
from deponij.store.items import Items

LACKING = (
    "No column of labels was learned from, so there are no classifiers and no figures of any. What follows needs none. "
    "Labels (one folder a class, or a column named with --labels) would add: classifiers with their figures and "
    "intervals, how well pictures find those of their class, learning curves, and labels worth a second look."
)
# Pictures of each class, and in all lists of a backbone, that the page can carry.
_OF_CLASS, _MEMBERS = 6, 4
_MAX_PICTURES = 300


def read_likeness(paths: Sequence[Path], n_shown: int, toys: Set[str]) -> list[LikenessReport]:
    """What the page shows of it: some groups and some items of each backbone, toys last.

    Raises:
        StoreError: a file is missing or damaged.
    """
    reports = read_records(paths, LIKENESS, "near-duplicates and outliers")
    n = min(n_shown, _MAX_PICTURES // (5 * len(reports))) if reports else 0
    shown = [one.model_copy(update={"groups": one.groups[:n], "apart": one.apart[:n]}) for one in reports]
    return sorted(shown, key=lambda one: is_toy(one.backbone, toys))


def pictured_in(reports: Iterable[LikenessReport]) -> set[str]:
    """Items whose pictures these show."""
    return {
        item_id
        for one in reports
        for item_id in (
            *(item_id for group in one.groups for item_id in group.item_ids[:_MEMBERS]),
            *(far.item_id for far in one.apart),
        )
    }


def colours_of(
    table: Items, standings: Sequence[Standing], answered: Sequence[AnswerFacts]
) -> dict[str, Mapping[str, str]]:
    """What maps are coloured by, each item's class by its id: labels that were learned from, else answers, else nothing."""
    columns = list(dict.fromkeys(standing.group.labels for standing in standings))
    if columns:
        return {column: labels_of(table, column) for column in columns}
    if answered:
        return {f"answers of {one.backbone}": one.of_items for one in answered}
    return {"": dict.fromkeys(table.ids, "all items")}


def read_answer_facts(paths: Sequence[Path], toys: Set[str], told: Told) -> list[AnswerFacts]:
    """What the page shows of each backbone's answers, toys last.

    Raises:
        StoreError: a table is missing or damaged.
    """
    facts = []
    for path in paths:
        answers = read_answers(path)
        rows = [Shown(**row) for row in answers.table.to_pylist()]
        n = max(1, min(_OF_CLASS, _MAX_PICTURES // (len(paths) * (len(answers.classes) + 1))))
        facts.append(
            answer_facts(
                rows,
                answers.classes,
                n,
                backbone=answers.backbone,
                protocol=answers.protocol,
                table=str(path.with_suffix(".csv")),
                source=told.source("answers", [answers], n=len(rows)),
            )
        )
    return sorted(facts, key=lambda one: is_toy(one.backbone, toys))
