"""Tables on narrow terminals: names stay whole, what is of least worth goes, and a line says so."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from deponij.commands.show.cells import print_cells
from deponij.commands.show.tables import Columns, show_lines, show_table
from deponij.commands.show.widths import Column, widths
from deponij.pipeline.reports.cells import Place, chance_cell, measured_cell

Row = tuple[str, str, str, str]
ROWS: list[Row] = [
    ("efficientnet-lite0", "linear probe (logistic regression)", "86.1 [70.5, 94.2]", "94.4"),
    ("mini-openclip (toy)", "zero-shot and probe interpolated (WiSE-FT)", "55.6 [38.8, 71.1]", "77.8"),
]
COLUMNS: Columns[Row] = {
    "backbone": lambda row: row[0],
    "method": lambda row: row[1],
    "top-1 [95 %]": lambda row: row[2],
    "top-2": lambda row: row[3],
}


def printed(width: int, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    show_table("results", COLUMNS, ROWS, console=console, **options)  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", [60, 70, 80, 100, 132])
def test_names_and_figures_stay_whole_at_any_width(width: int) -> None:
    text = printed(width, spare=("top-2",))
    assert max(map(len, text.splitlines())) <= width
    cells = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if "│" in line]
    words = " ".join(word for line in cells for cell in line for word in cell.split())
    for row in ROWS:
        assert all(word in words.split() for text in row[:2] for word in text.split())
    assert "70.5, 94.2]" in words


def test_what_goes_is_said_and_goes_in_order() -> None:
    # Two columns of figures need 12 and 5, the names 18 and 18, the frame 13: 66 with all, 58 without top-2.
    wide, narrow = printed(100, spare=("top-2",)), printed(60, spare=("top-2",))
    assert "94.4" in wide and "too narrow" not in wide
    assert "77.8" not in narrow and "too narrow for top-2: a wider terminal and --json have more" in " ".join(
        narrow.split()
    )


def test_words_are_broken_last_and_those_that_name_a_row_last_of_all() -> None:
    columns = [
        Column(("item", "a" * 20), False),
        Column(("path", "b" * 20), False),
        Column(("n", "100"), True),
    ]
    # 20 + 20 + 3 and a frame of 10 take 53; of 45 the path gives 8, of 25 the name too.
    assert widths(columns, 53) == [20, 20, 3]
    assert widths(columns, 45) == [20, 12, 3]
    assert widths(columns, 25) == [6, 6, 3]


def test_lines_are_folded_between_words_on_a_terminal_and_commands_never() -> None:
    console = Console(file=io.StringIO(), width=30, force_terminal=True, color_system=None)
    show_lines("times     68 s: extract 36.6, mistakes 8.5", console=console)
    show_lines("ask       deponij query item some-name.png", is_command=True, console=console)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "times     68 s: extract 36.6,",
        "          mistakes 8.5",
        "ask       deponij query item some-name.png",
    ]
    show_lines("test top-1 of all of these: 83.3 %", console=console)
    assert console.file.getvalue().splitlines()[-1].endswith("83.3 %")  # type: ignore[attr-defined]
    log = Console(file=io.StringIO(), width=30, force_terminal=False)
    show_lines("times     68 s: extract 36.6, mistakes 8.5", console=log)
    assert len(log.file.getvalue().splitlines()) == 1  # type: ignore[attr-defined]


def test_tables_over_seeds_leave_out_what_does_not_fit() -> None:
    cells = [
        chance_cell("label", "random", np.arange(20), 2, "items"),
        measured_cell(
            Place("single", ("efficientnet-lite0",), "linear", "label", "random"),
            np.array(["a", "b"] * 10),
            [np.array([["a", "b"]] * 20)],
            np.arange(20),
            unit="items",
            n_classes=2,
            protocol="made up",
        ),
    ]
    for width, gone in ((80, ""), (60, "top-3, top-2"), (50, "top-3, top-2, bal.")):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        print_cells(cells, console)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width
        # Half of 20 are right; the interval is whole at any width.
        assert re.search(r"\[\d\d\.\d, \d\d\.\d\]", text)
        assert (f"too narrow for {gone}:" in text) == bool(gone)
