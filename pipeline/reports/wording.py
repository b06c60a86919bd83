"""How figures and names are written on the page and in Markdown. What is shown where lives in `page`."""

import re
from collections.abc import Iterable

from deponij.pipeline.metrics.clustered import FEWEST
from deponij.store import texts
from deponij.store.texts import one_line

# One style of shares everywhere: by itself `63.8 %`, under a heading that says percent `63.8`.
in_percent, percent = texts.in_percent, texts.percent
TOO_FEW = "too few"
_SHORT_CHARS = 8
# What Markdown would read as markup, links and pictures above all: a page must load nothing.
_MARKUP = re.compile(r"([\\`*|\[\]])")


def interval(bounds: tuple[float, float] | None) -> str:
    """Bounds in percent, `[57.9, 69.3]`; none are there where too few groups were left out for them."""
    return f"[{TOO_FEW}]" if bounds is None else f"[{percent(bounds[0])}, {percent(bounds[1])}]"


def bounded(share: float | None, bounds: tuple[float, float] | None) -> str:
    """A share with its interval, in percent: `63.8 [57.9, 69.3]`, or `63.8 [too few]`."""
    return f"{percent(share)} {interval(bounds)}"


def interval_of(n_groups: int, unit: str, design_effects: Iterable[float | None] = ()) -> str:
    """What intervals are of: `95 % over 87 photographs, design effect 1.2 to 2.5`; of single items that would be 1."""
    if n_groups < FEWEST:
        what = unit if n_groups != 1 else unit.removesuffix("s")
        return f"{n_groups} {what}, too few for intervals, which take {FEWEST}"
    known = sorted(effect for effect in design_effects if effect is not None and unit != "items")
    ends = dict.fromkeys(f"{effect:.1f}" for effect in (*known[:1], *known[-1:]))
    return f"95 % over {n_groups:,} {unit}" + (f", design effect {' to '.join(ends)}" if ends else "")


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    """`p = 0.012`; below a thousandth the exact value means nothing."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def number(value: float) -> str:
    """A number with at most two decimals and no trailing zeros."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def sentence(text: str) -> str:
    """First letter large; `str.capitalize` would make the others small."""
    return text[:1].upper() + text[1:]


def short(fingerprint: str) -> str:
    """The first characters of a fingerprint, as a mark; the whole stands in a tooltip beside it."""
    return fingerprint[:_SHORT_CHARS]


def clipped(name: str, n_chars: int) -> str:
    """A name on one line, of at most so many characters."""
    name = one_line(name)
    return name if len(name) <= n_chars else name[: n_chars - 1] + "…"


def cell(text: object) -> str:
    """Text within Markdown, also in a table, in which a name must not become markup."""
    plain = _MARKUP.sub(r"\\\1", one_line(str(text)))
    return plain.replace("&", "&amp;").replace("<", "&lt;")


def code(text: object) -> str:
    """Text within backticks of Markdown, also in a table."""
    return one_line(str(text)).replace("`", "'").replace("|", "\\|")
