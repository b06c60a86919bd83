"""The layout of cells: one table a label set, splits side by side, Markdown that renders."""

from itertools import takewhile

import numpy as np

from deponij.pipeline.reports.cell_tables import (
    CellTable,
    cell_tables,
    how_to_read,
    mean_and_std,
    render_markdown,
)
from deponij.pipeline.reports.cells import Cell, Place, chance_cell, measured_cell

RIGHT, WRONG = np.array(["a", "b"]), np.array(["b", "a"])


def made(model: str, head: str, labels: str, split: str, n_right: int, seeds: int = 1) -> Cell:
    """A cell of ten items, of which a number is right in every run, and on validation as many are wrong."""
    truth = np.full(10, "a")
    ranked = np.array([RIGHT] * n_right + [WRONG] * (10 - n_right))
    place = Place("single", (model,), head, labels, split)
    return measured_cell(
        place,
        truth,
        [ranked] * seeds,
        np.arange(10),
        unit="photographs",
        n_classes=2,
        val=(truth, [ranked[:, ::-1]] * seeds),
        protocol="by hand",
    )


CELLS = [
    chance_cell("l", "one", np.arange(10), 2, "photographs"),
    made("x", "linear", "l", "one", 7),
    made("x", "mlp", "l", "one", 8),
    made("y", "linear", "l", "one", 5),
    chance_cell("l", "two", np.arange(10), 2, "photographs"),
    made("x", "linear", "l", "two", 6),
    made("y", "linear", "l", "two", 4),
    made("x", "linear", "m", "one", 3),
]


def test_one_table_a_label_set_with_splits_side_by_side() -> None:
    first, second = cell_tables(CELLS)
    assert (first.labels, second.labels) == ("l", "m")
    assert first.splits == (("one", 10), ("two", 10))
    assert [(row.model, row.head) for row in first.rows] == [
        ("chance", "baseline"),
        ("x", "linear"),
        ("x", "mlp"),
        ("y", "linear"),
    ]
    assert [row.is_first for row in first.rows] == [True, True, False, True]
    # What was not measured on a split is missing there, not moved.
    assert first.rows[2].cells[1] is None
    assert first.rows[3].cells[1] is not None
    assert first.rows[3].cells[1].top1 == 0.4


def marked(table: CellTable) -> list[tuple[str, str, str]]:
    return [
        (cell.split, cell.model, cell.head)
        for row in table.rows
        for cell in row.cells
        if cell and table.is_chosen(cell)
    ]


def test_validation_chooses_on_each_split() -> None:
    assert CELLS[3].val_top1 == 0.5 and CELLS[3].n_val == 10
    # What is right least often on test is right most often on validation.
    assert marked(cell_tables(CELLS)[0]) == [("one", "y", "linear"), ("two", "y", "linear")]


def test_without_validation_none_is_marked() -> None:
    bare = [cell.model_copy(update={"val_top1": None, "n_val": 0}) for cell in CELLS]
    assert marked(cell_tables(bare)[0]) == []
    assert "**" not in render_markdown(bare, "t")
    assert not any("validation" in said for said in how_to_read(bare))


def test_toys_are_marked_and_not_chosen_beside_a_real_backbone() -> None:
    table = cell_tables(CELLS, {"y"})[0]
    assert marked(table) == [("one", "x", "linear"), ("two", "x", "linear")]
    assert [row.model for row in table.rows if table.is_toy(row)] == ["y"]
    assert marked(cell_tables(CELLS, {"x", "y"})[0]) == [("one", "y", "linear"), ("two", "y", "linear")]
    assert "| x (toy) | linear |" in render_markdown(CELLS, "t", {"x"})


def test_means_with_and_without_deviation() -> None:
    assert mean_and_std(0.7054, None) == "70.5"
    assert mean_and_std(0.7054, 0.0049) == "70.5 ± 0.5"


def test_markdown_rows_have_as_many_fields_as_their_header() -> None:
    cells = [*CELLS, made("dinov2-base", "linear", "taco10", "instance", 7)]
    lines = render_markdown(cells, "Title").splitlines()
    assert lines[0] == "# Title"
    tables = [i for i, line in enumerate(lines) if line.startswith("| model |")]
    assert len(tables) == 3
    for start in tables:
        rows = list(takewhile(lambda line: line.startswith("|"), lines[start:]))
        assert len({row.count("|") for row in rows}) == 1
        assert len(rows) > 2
    # Wilson's, of nine items (ten vary so much) with the quantile of Student's t for nine degrees of freedom.
    bounds = "[42.7, 95.5]"
    assert f"| x | mlp | 80.0 | {bounds} | 100.0 | 100.0 | 80.0 {bounds} |  |  |  |  |  |" in lines
    assert any(line.startswith("| y | linear | **50.0** |") for line in lines)
    published = next(line for line in lines if line.startswith("| dinov2-base"))
    assert "| 77.41 / 91.00 / 95.61 |" in published


def test_names_are_no_markup() -> None:
    lines = render_markdown([made("a|b<i>", "linear", "l", "one", 5)], "Title").splitlines()
    assert any(line.startswith("| a\\|b&lt;i> | linear |") for line in lines)


def test_sentences_say_what_the_figures_are() -> None:
    assert "Single runs" in how_to_read([made("x", "linear", "l", "one", 7)])[1]
    several = how_to_read([made("x", "linear", "l", "one", 7, seeds=3), *CELLS])
    assert "mean over 3 seeds" in several[1]
    noted = how_to_read([made("siglip-base-16", "zero-shot", "taco10", "instance", 7)])
    assert "validation" in noted[2]
    assert "Kuleš 2025" in noted[3]
    assert noted[4] == "siglip-base-16, zero-shot on taco10: the prompt is not stated."
