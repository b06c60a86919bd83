"""Retrieval laid out for the page: one table for each split, column and way of asking, backbones in rows.

What a figure is: `deponij.pipeline.metrics.retrieval`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deponij.pipeline.metrics.retrieval import Example, Figure, Hit, RetrievalResult, Task
from deponij.pipeline.reports.provenance import Provenance

HEADINGS: Mapping[Task, str] = {
    "image-to-image": "Pictures find pictures",
    "text-to-image": "Words find pictures",
    "image-to-text": "Pictures find words",
}
_BY_CLASS = "mAP"


@dataclass(frozen=True, slots=True)
class Asked:
    """One query that is shown, and what each backbone finds with it.

    Attributes:
        item_id: the query's; empty for a text.
        label: its class, or the text.
        by_backbone: backbone and its first hits.
    """

    item_id: str
    label: str
    by_backbone: tuple[tuple[str, tuple[Hit, ...]], ...]


@dataclass(frozen=True, slots=True)
class RetrievalTable:
    """One way of asking, on one split and column.

    Attributes:
        results: one a backbone, of the same task, split and column.
        source: of the figures.
    """

    results: tuple[RetrievalResult, ...]
    source: Provenance

    @property
    def first(self) -> RetrievalResult:
        """For what is the same of all."""
        return self.results[0]

    @property
    def heading(self) -> str:
        """Who finds what."""
        return HEADINGS[self.first.task]

    @property
    def measures(self) -> tuple[str, ...]:
        """Those that are shown: of the precisions the last, where several items may be relevant at all."""
        names = list(self.first.figures.micro)
        recalls = [name for name in names if name.startswith("recall@")]
        precisions = [name for name in names if name.startswith("precision@")]
        has_many = self.first.about == "classes" and self.first.task != "image-to-text"
        return (*names[:1], *recalls, *(precisions[-1:] if has_many else ()))

    @property
    def has_macro(self) -> bool:
        """Whether there are means over classes besides those over queries."""
        return bool(self.first.figures.macro)

    @property
    def notes(self) -> list[str]:
        """What must be known, each once."""
        return list(dict.fromkeys(note for one in self.results for note in one.notes))

    @property
    def classes(self) -> list[tuple[str, int, list[Figure | None]]]:
        """Name, queries and each backbone's mAP of every class, the most frequent first."""
        counts: dict[str, int] = {}
        for one in self.results:
            for each in one.figures.classes:
                counts[each.name] = max(counts.get(each.name, 0), each.n)
        known = [{c.name: c.figures.get(_BY_CLASS) for c in one.figures.classes} for one in self.results]
        names = sorted(counts, key=lambda name: (-counts[name], name))
        return [(name, counts[name], [figures.get(name) for figures in known]) for name in names]

    @property
    def asked(self) -> list[Asked]:
        """Queries that are shown, each with every backbone that was asked it."""
        hits_of: dict[tuple[str, str], list[tuple[str, tuple[Hit, ...]]]] = {}
        for one in self.results:
            for example in one.examples:
                hits_of.setdefault((example.item_id, example.label), []).append((one.backbone, example.hits))
        return [Asked(item_id, label, tuple(hits)) for (item_id, label), hits in hits_of.items()]


def grouped(results: Sequence[RetrievalResult]) -> list[list[RetrievalResult]]:
    """Results that share a table, table by table: by split and column, pictures before words."""
    places = {(one.split, one.column): None for one in results}
    tables = []
    for split, column in places:
        for task in HEADINGS:
            members = [one for one in results if (one.split, one.column, one.task) == (split, column, task)]
            tables += [members] if members else []
    return tables


def fewer(results: Sequence[RetrievalResult], n_hits: int) -> list[RetrievalResult]:
    """With only so many of the examples that no more than about n_hits pictures are shown in all."""
    n_shown = sum(max((len(e.hits) for e in one.examples), default=0) for one in results)
    n = n_hits // n_shown if n_shown else 0
    return [one.model_copy(update={"examples": one.examples[:n]}) for one in results]


def items_of(examples: Sequence[Example]) -> set[str]:
    """Items whose picture is shown."""
    ids = {hit.item_id for example in examples for hit in example.hits}
    return ids | {example.item_id for example in examples if example.item_id}
