"""Which texts can be stored: valid Unicode without NUL, which HDF5 and Parquet give back as put in; how names
that somebody else gave are shown, and how shares are.
"""

import unicodedata

REASON_CHARS = 1000
# Controls, formats (the marks that turn the direction of writing among them), halves of pairs, separators of lines.
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
# They join letters of Persian and Indian scripts, and parts of one emoji.
_JOINERS = frozenset("\u200c\u200d")


def is_storable(text: str) -> bool:
    """Whether a text is valid Unicode (file names of another encoding are not) and without NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def plain_reason(reason: str) -> str:
    """A failure's reason as it can be stored: valid Unicode, no NUL, of bounded length."""
    text = reason.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= REASON_CHARS else text[: REASON_CHARS - 1] + "…"


def one_line(text: str) -> str:
    r"""A name as it can be shown anywhere: on one line, with nothing in it that is not seen or turns what follows.

    What cannot be seen is spelled out as Python does it (`\n`, `\x1b`, `\u202e`); a name of spaces alone stands in
    quotes. Escaping for Markdown, HTML and the like comes after it.
    """
    shown = text if text.isprintable() else "".join(map(_seen, text))
    return f"'{shown}'" if text and not text.strip() else shown


def lines(text: str) -> str:
    """A message with names in it: its own lines stay."""
    return "\n".join(line if line.isspace() else one_line(line) for line in text.split("\n"))


def percent(share: float | None) -> str:
    """A share (a fraction of 1) where a heading or a neighbour says that these are percent: `63.8`; none is `–`."""
    return "–" if share is None else f"{100 * share:.1f}"


def in_percent(share: float | None) -> str:
    """A share that stands by itself: `63.8 %`."""
    return percent(share) + ("" if share is None else " %")


def _seen(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode()


def duration(seconds: float) -> str:
    """Seconds for people: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"
