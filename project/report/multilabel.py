"""What the page and the terminal tell of classifiers with several labels an item. This is no stage."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from deponij.pipeline.metrics.multilabel_result import MultilabelResult
from deponij.pipeline.reports.multilabel import (
    MultilabelFacts,
    MultilabelRow,
    SetSample,
    choose_set_samples,
    groups_in_order,
)
from deponij.pipeline.reports.provenance import Provenance
from deponij.project.learning.multilabel_files import read_multilabel, read_multilabel_answers

Group = list[tuple[MultilabelRow, MultilabelResult]]


def read_groups_of_rows(folders: Sequence[Path], toys: Set[str]) -> list[Group]:
    """Rows of results folders, one group a column and split.

    Raises:
        StoreError: a folder holds no results, or damaged ones.
    """
    return groups_in_order([(str(folder), read_multilabel(folder)) for folder in folders], toys)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A group with samples of its first classifier's answers, exact ones and others."""

    group: Group
    exact: list[SetSample]
    others: list[SetSample]

    @property
    def item_ids(self) -> set[str]:
        """Whose pictures are shown."""
        return {sample.item_id for sample in (*self.exact, *self.others)}

    def facts(
        self,
        pictures: Mapping[str, str],
        source: Callable[[MultilabelRow, Sequence[MultilabelResult]], Provenance],
    ) -> MultilabelFacts:
        """For the page.

        Args:
            pictures: data URI by item id.
            source: the caption of a row's figures.
        """
        row, result = self.group[0]
        classes = result.parts[result.shown].by_class
        return MultilabelFacts(
            rows=[one for one, _ in self.group],
            classes=sorted(classes, key=lambda one: (-one.support, one.name)),
            protocol=result.protocol,
            notes=result.notes,
            thresholds_from=result.thresholds_from,
            exact=[(sample, pictures.get(sample.item_id)) for sample in self.exact],
            others=[(sample, pictures.get(sample.item_id)) for sample in self.others],
            source=source(row, [one for _, one in self.group]),
        )


def sampled(groups: Sequence[Group], n_samples: int, seed: int) -> list[Sampled]:
    """Samples of each group's first classifier.

    Raises:
        StoreError: its answers are damaged.
    """
    samples = []
    for group in groups:
        result, answers = read_multilabel_answers(Path(group[0][0].folder))
        shown = answers.of(result.shown)
        pair = choose_set_samples(shown.ids, shown.truth, shown.answers, result.classes, n_samples, seed)
        samples.append(Sampled(group, *pair))
    return samples
