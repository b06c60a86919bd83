"""Retrieval as tables: which results share one, what is shown of them, how many pictures."""

import pytest

from deponij.pipeline.metrics.retrieval import (
    About,
    ClassFigures,
    Example,
    Figure,
    Figures,
    Hit,
    RetrievalResult,
    Task,
)
from deponij.pipeline.reports.provenance import Provenance
from deponij.pipeline.reports.retrieval_tables import RetrievalTable, fewer, grouped, items_of

MEASURES = ("mAP", "recall@1", "recall@5", "precision@1", "precision@5", "R-precision")


def result(
    backbone: str,
    task: Task = "image-to-image",
    split: str = "s",
    about: About = "classes",
    value: float = 0.5,
    classes: tuple[tuple[str, int], ...] = (),
    n_examples: int = 0,
) -> RetrievalResult:
    figures = {name: Figure(value=value, interval=None, chance=0.1) for name in MEASURES}
    hits = tuple(Hit(item_id=f"hit{i}", label="Can", score=0.5, is_relevant=True) for i in range(3))
    return RetrievalResult(
        task=task,
        about=about,
        column="label" if about == "classes" else "caption",
        backbone=backbone,
        fingerprint="f" * 20,
        split=split,
        part="test",
        n_queries=4,
        n_without=0,
        n_gallery=9,
        resampled="photographs",
        figures=Figures(
            micro=figures,
            macro=figures,
            classes=tuple(ClassFigures(name=name, n=n, figures=figures) for name, n in classes),
            n_resampled=4,
        ),
        protocol="",
        notes=("one",) if backbone == "a" else ("one", "two"),
        examples=tuple(Example(item_id=f"query{i}", label="Can", hits=hits) for i in range(n_examples)),
    )


def table(*results: RetrievalResult) -> RetrievalTable:
    return RetrievalTable(results, Provenance("p", 9))


def test_tables_hold_the_backbones_of_one_split_column_and_task() -> None:
    """In the order in which splits and columns come; pictures before words, whatever file they are of."""
    given = [
        result("a"),
        result("a", split="t"),
        result("b"),
        result("b", split="t"),
        result("a", "text-to-image"),
        result("a", "image-to-text"),
        result("a", "text-to-image", about="captions"),
    ]
    found = [
        [(one.split, one.column, one.task, one.backbone) for one in members] for members in grouped(given)
    ]
    assert found == [
        [("s", "label", "image-to-image", "a"), ("s", "label", "image-to-image", "b")],
        [("s", "label", "text-to-image", "a")],
        [("s", "label", "image-to-text", "a")],
        [("t", "label", "image-to-image", "a"), ("t", "label", "image-to-image", "b")],
        [("s", "caption", "text-to-image", "a")],
    ]
    assert grouped([]) == []


@pytest.mark.parametrize(
    ("task", "about", "expected"),
    [
        ("image-to-image", "classes", ("mAP", "recall@1", "recall@5", "precision@5")),
        ("text-to-image", "classes", ("mAP", "recall@1", "recall@5", "precision@5")),
        ("image-to-text", "classes", ("mAP", "recall@1", "recall@5")),
        ("text-to-image", "captions", ("mAP", "recall@1", "recall@5")),
    ],
)
def test_precision_is_shown_where_several_may_be_relevant(
    task: Task, about: About, expected: tuple[str, ...]
) -> None:
    assert table(result("a", task, about=about)).measures == expected


def test_notes_are_told_once() -> None:
    assert table(result("a"), result("b")).notes == ["one", "two"]


def test_classes_of_all_backbones_the_most_frequent_first() -> None:
    """A backbone that could not see the items of a class has no figure there."""
    found = table(
        result("a", classes=(("Can", 2), ("Cup", 5))), result("b", classes=(("Cup", 4), ("Lid", 5)))
    ).classes
    assert [(name, n) for name, n, _ in found] == [("Cup", 5), ("Lid", 5), ("Can", 2)]
    assert [[figure is None for figure in figures] for _, _, figures in found] == [
        [False, False],
        [True, False],
        [False, True],
    ]


def test_a_query_is_shown_once_with_every_backbone() -> None:
    found = table(result("a", n_examples=2), result("b", n_examples=1)).asked
    assert [(one.item_id, [backbone for backbone, _ in one.by_backbone]) for one in found] == [
        ("query0", ["a", "b"]),
        ("query1", ["a"]),
    ]
    assert items_of(result("a", n_examples=2).examples) == {"query0", "query1", "hit0", "hit1", "hit2"}


@pytest.mark.parametrize(("n_hits", "expected"), [(100, [4, 4, 0]), (18, [3, 3, 0]), (5, [0, 0, 0])])
def test_pictures_are_limited_over_all_tables(n_hits: int, expected: list[int]) -> None:
    given = [result("a", n_examples=4), result("b", n_examples=4), result("c")]
    assert [len(one.examples) for one in fewer(given, n_hits)] == expected
