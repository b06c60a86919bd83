"""Classes and files of hostile names through a whole run: no surface breaks, and none shows what is not seen."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import cli_world
import fake_backbone
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from deponij.commands.show.tables import show_table
from deponij.pipeline.reports.sheets import Block, Tile, draw_sheet
from deponij.services.serve.counters import Counters

NAMES = (
    "two\nlines",
    "cr\rname",
    "tab\tname",
    "\x1b[31mred",
    "\u202eevil",
    "[red]x[bold]",
    "[",
    "=cmd|'calc'!A1",
    'a,b;"q"',
    "<script>alert(1)<",
    "|pipe|`code`",
    "   ",
    "n" * 200,
    "zero\u200bwidth",
    "\x85\x9b",
    "line\u2028sep",
)
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@dataclass(frozen=True)
class Ran:
    """A run, and what its commands and others printed."""

    root: Path
    printed: str
    told: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    root = tmp_path_factory.mktemp("hostile")
    for number, name in enumerate(NAMES):
        (root / "pictures" / name).mkdir(parents=True)
        for k in range(4):
            colour = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
            # Some hues are of the next class: there must be mistakes to show.
            picture = cli_world.picture(colour if k else (0, 0, 0), 10 * number + k)
            picture.save(root / "pictures" / name / f"{k}{NAMES[-1 - number]}.png")
    with fake_backbone.registered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(root / "cache"))
        patch.setenv("DEPONIJ_THREADS", "1")
        patch.setenv("DEPONIJ_DEVICE", "cpu")
        model = fake_backbone.make(root / "model")
        out, depot = root / "run", ["--depot", root / "depot"]
        data = ["--features", out / "views" / "model.h5", "--items", out / "items", "--labels", "label"]
        answers = [
            cli_world.done("run", "--folder", root / "pictures", "--backbone", model, "--out", out, *depot),
            cli_world.done("mistakes", *data, "--out", root / "mistakes"),
            cli_world.done("duplicates", *data, "--sheet", root / "duplicates.png"),
            cli_world.done("outliers", *data, "--sheet", root / "outliers.png"),
            cli_world.done("advice", out),
            cli_world.done("predict", root / "pictures", "--model", out),
            cli_world.done("predict", root / "pictures", "--model", out, "--out", root / "answers.csv"),
            cli_world.done("query", "text", "red", "--index", out / "indexes" / "model"),
            cli_world.call(
                "items", "--folder", root / "pictures" / "two\nlines" / "none", "--out", root / "x"
            ),
        ]
        yield Ran(root, "".join(one.out for one in answers), "".join(one.err for one in answers))


def unseen(text: str) -> set[str]:
    return {character for character in text if unicodedata.category(character) in UNSEEN} - {"\n"}


def test_terminals_are_sent_nothing_unseen(ran: Ran) -> None:
    assert unseen(ran.printed) == set()
    assert unseen(ran.told) == set()
    assert r"two\nlines" in ran.printed
    assert "lines/none does not exist" in ran.told
    assert "[red]x[bold]" in ran.printed


def test_a_record_of_a_csv_file_is_a_line(ran: Ran) -> None:
    files = sorted(ran.root.rglob("*.csv"))
    assert {"confusion.csv", "per_class.csv", "answers.csv"} <= {path.name for path in files}
    for path in files:
        text = path.read_bytes().decode()
        rows = list(csv.reader(text.splitlines()))
        assert text.count("\n") == len(text.splitlines()) == len(rows)
        assert len({len(row) for row in rows}) == 1
        assert not any(cell.startswith(("=", "@")) for row in rows for cell in row)
    answers = next(path for path in files if path.name == "answers.csv")
    assert len(answers.read_text().splitlines()) == 1 + 4 * len(NAMES)


def test_tables_of_markdown_stay_tables(ran: Ran) -> None:
    files = sorted(ran.root.rglob("*.md"))
    assert {path.name for path in files} == {"results.md", "tables.md"}
    for path in files:
        text = path.read_text()
        assert unseen(text) == set()
        assert "<script>" not in text
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            bars = {len(re.findall(r"(?<!\\)\|", row.replace("\\\\", ""))) for row in table.splitlines()}
            assert len(bars) == 1, table


class Elements(HTMLParser):
    """What a browser would find."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts = 0
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.words += [value for _, value in attrs if value]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_shows_names_as_words(ran: Ran) -> None:
    text = (ran.root / "run" / "report" / "page.html").read_text()
    assert unseen(text) == set()
    page = Elements(text)
    assert page.scripts == 2  # The map's points, and what shows them.
    # The script reads its points from JSON.
    words = "\n".join([*page.words, *json.loads(next(one for one in page.words if '"ids"' in one))["ids"]])
    assert unseen(words) == set()
    for told in (
        r"two\nlines",
        "[red]x[bold]",
        "<script>alert(1)<",
        r"\u202eevil",
        "'   '",
        r"zero\u200bwidth",
    ):
        assert told in words


def test_sheets_are_drawn(ran: Ran) -> None:
    names = {path.relative_to(ran.root).as_posix() for path in ran.root.rglob("*.png")}
    sheets = {
        "run/report/sheet.png",
        "duplicates.png",
        "outliers.png",
        "mistakes/label-suspects.png",
        "mistakes/label-twins.png",
    }
    assert sheets <= names
    for name in sheets:
        with Image.open(ran.root / name) as sheet:
            sheet.load()
            assert sheet.width > 900


@pytest.mark.parametrize("name", NAMES)
def test_a_name_on_a_sheet_is_one_line(name: str) -> None:
    """Nothing is drawn where the next line begins."""
    tile = Tile(None, ((name, (0, 0, 0)),), name)
    image = Image.open(io.BytesIO(draw_sheet([Block((tile,), name)], name, name, "")))
    words = np.asarray(image.convert("L"), np.int64)
    # Title, source and heading, then the frame; below it two lines of text and the gap.
    rows = np.flatnonzero((words < 190).any(axis=1))
    assert rows.max() < image.height - 14


def test_prometheus_reads_labels_back() -> None:
    counters = Counters()
    for name in NAMES:
        counters.batch_of(name, "text")(3)
        counters.refused(name)
    families = list(text_string_to_metric_families(counters.text().decode()))
    found = {
        value for family in families for sample in family.samples for label, value in sample.labels.items()
        if label in ("backbone", "reason")
    }  # fmt: skip
    assert found == set(NAMES)


def test_a_table_holds_headings_and_titles_of_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    for name in NAMES:
        columns = {name: lambda row: row}
        show_table(name, columns, [name], console=Console(width=400, force_terminal=False))
    printed = capsys.readouterr().out
    assert unseen(printed) == set()
