"""What the torture tests tried and what came of it, as one Markdown table: `TORTURE_REPORT` names the file.

A row counts attempts by outcome: `detected` (refused or reported in one clear message, and mended by running again),
`harmless` (the same results, as if nothing had been), `lost` (something committed has gone, or was left lying around),
`wrong` (other results than undisturbed, a traceback, a silent success). The last two must stay empty.
"""

import datetime
import os
import platform
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

OUTCOMES = ("detected", "harmless", "lost", "wrong")
REPORT = "TORTURE_REPORT"
SEED = "TORTURE_SEED"
MINUTES = "TORTURE_MINUTES"


def seed() -> int:
    """Of everything that is drawn; printed by every test, so that a failure can be had again."""
    return int(os.environ.get(SEED, "2026"))


def minutes() -> float:
    """How long the whole of `make torture` may draw new attempts for."""
    return float(os.environ.get(MINUTES, "60"))


def attempts(n: int) -> int:
    """Of n attempts that an hour has room for, those that the time does."""
    return max(4, round(n * minutes() / 60))


@dataclass
class Row:
    """One line: attempts of one kind on one thing."""

    section: str
    what: str
    counts: Counter[str] = field(default_factory=Counter)
    note: str = ""

    def add(self, outcome: str, n: int = 1) -> None:
        assert outcome in OUTCOMES, outcome
        self.counts[outcome] += n


class Clock:
    """How long attempts may go on: `TORTURE_MINUTES` from now."""

    def __init__(self) -> None:
        self._end = time.monotonic() + 60 * minutes()

    @property
    def is_up(self) -> bool:
        return time.monotonic() > self._end


class Ledger:
    """Rows in the order in which they were begun."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.clock = Clock()

    def row(self, section: str, what: str, note: str = "") -> Row:
        """A new line."""
        self.rows.append(Row(section, what, note=note))
        return self.rows[-1]

    def markdown(self) -> str:
        """The tables, a section each."""
        lines = []
        for section in dict.fromkeys(row.section for row in self.rows):
            rows = [row for row in self.rows if row.section == section]
            lines += [
                f"## {section}",
                "",
                f"| | tried | {' | '.join(OUTCOMES)} | |",
                "|---|" + "--:|" * 5 + "---|",
            ]
            lines += [_line(row.what, row.counts, row.note) for row in rows]
            if len(rows) > 1:
                lines.append(_line("**together**", sum((row.counts for row in rows), Counter()), ""))
            lines.append("")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Tables, with date and machine; what an earlier run wrote there goes."""
        head = (
            f"Run on {datetime.datetime.now(datetime.UTC).date()}, {os.cpu_count()} cores of {platform.machine()}, Python "
            f"{platform.python_version()}, seed {seed()}."
        )
        path.write_text(f"{head}\n\n{self.markdown()}")


def _line(what: str, counts: Counter[str], note: str) -> str:
    numbers = [f"{counts[one]:,}" if counts[one] else "–" for one in OUTCOMES]
    return f"| {what} | {sum(counts.values()):,} | {' | '.join(numbers)} | {note} |"
