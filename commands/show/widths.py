"""How wide the columns of a table are where a terminal is narrow. What a table shows lives in `tables`.

Shape letters: m columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

# A column of texts that has this much room is read at ease, though its cells may fold between words.
_AT_EASE = 18
# Frame of a table of m columns: 3 m + 1.
_FRAME_OF_COLUMN, _FRAME = 3, 1
# Where words must be broken all the same, into no less than this.
_LEAST = 6


@dataclass(frozen=True, slots=True)
class Column:
    """What must be known of one column.

    Attributes:
        texts: its heading and its cells, each of any number of lines.
        is_rigid: figures, which are never folded.
    """

    texts: tuple[str, ...]
    is_rigid: bool

    @property
    def whole(self) -> int:
        """Width of its widest line."""
        return max((cell_len(line) for text in self.texts for line in text.split("\n")), default=0)

    @property
    def word(self) -> int:
        """Width of its longest word, all of it where it is rigid."""
        if self.is_rigid:
            return self.whole
        return max((cell_len(word) for text in self.texts for word in text.split()), default=0)

    @property
    def at_ease(self) -> int:
        """Width below which it is read with effort."""
        return max(self.word, min(self.whole, _AT_EASE))


def fits(columns: Sequence[Column], n_chars: int) -> bool:
    """Whether all stand side by side in so many characters, nothing folded."""
    return sum(column.whole for column in columns) <= _room(columns, n_chars)


def fits_at_ease(columns: Sequence[Column], n_chars: int) -> bool:
    """Whether they do with texts folded between words."""
    return sum(column.at_ease for column in columns) <= _room(columns, n_chars)


def widths(columns: Sequence[Column], n_chars: int) -> list[int]:
    """Width [m] of each, within so many characters.

    The widest texts are folded first. Words are broken only where that is not enough, and last those of the first
    column of texts, which names the rows.
    """
    room, chosen = _room(columns, n_chars), [column.whole for column in columns]
    broken = [column.word if column.is_rigid else min(column.word, _LEAST) for column in columns]
    name = next((place for place, column in enumerate(columns) if not column.is_rigid), None)
    named = [column.word if place == name else broken[place] for place, column in enumerate(columns)]
    for least in (
        [column.at_ease for column in columns],
        [column.word for column in columns],
        named,
        broken,
    ):
        while sum(chosen) > room:
            spare = [place for place, width in enumerate(chosen) if width > least[place]]
            if not spare:
                break
            chosen[max(spare, key=lambda place: chosen[place])] -= 1
    return chosen


def _room(columns: Sequence[Column], n_chars: int) -> int:
    return n_chars - _FRAME_OF_COLUMN * len(columns) - _FRAME
