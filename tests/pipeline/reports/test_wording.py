"""How figures and names are written, by hand."""

import pytest

from deponij.pipeline.reports.wording import (
    cell,
    clipped,
    code,
    interval,
    interval_of,
    number,
    p_value,
    percent,
    points,
    short,
)
from deponij.store.texts import duration


def test_shares() -> None:
    assert (percent(0.12345), percent(1.0), percent(None)) == ("12.3", "100.0", "–")
    assert (interval((0.1, 0.25)), interval(None)) == ("[10.0, 25.0]", "[too few]")


def test_what_intervals_are_of() -> None:
    assert interval_of(1087, "photographs") == "95 % over 1,087 photographs"
    assert interval_of(9, "items") == "9 items, too few for intervals, which take 10"
    assert interval_of(1, "photographs").startswith("1 photograph, too few")
    of = "95 % over 87 photographs"
    assert interval_of(87, "photographs", [2.34, None, 10.0, 1.2]) == f"{of}, design effect 1.2 to 10.0"
    assert interval_of(87, "photographs", [1.31, 1.32]) == f"{of}, design effect 1.3"
    assert interval_of(87, "photographs", [None]) == of
    assert interval_of(87, "items", [1.0]) == "95 % over 87 items"
    assert (points(0.0123), points(-0.0123), points(0.0)) == ("+1.2", "−1.2", "+0.0")
    assert (p_value(0.0004), p_value(0.0456)) == ("p < 0.001", "p = 0.046")


@pytest.mark.parametrize(
    ("value", "told"),
    [(1.0, "1"), (1.5, "1.5"), (-0.001, "0"), (-0.25, "-0.25"), (100.0, "100"), (0.999, "1")],
)
def test_numbers_without_trailing_zeros(value: float, told: str) -> None:
    assert number(value) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.44, "0.4 s"), (12.4, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_names_are_shortened() -> None:
    assert clipped("abcdef", 6) == "abcdef"
    assert clipped("abcdefg", 6) == "abcde…"
    assert short("0123456789") == "01234567"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("<script>", "&lt;script>"),
        ("a|b", "a\\|b"),
        ("![x](http://example.org/x.png)", "!\\[x\\](http://example.org/x.png)"),
        ("`code` *bold*", "\\`code\\` \\*bold\\*"),
        ("two\nlines", "two\\\\nlines"),
        ("\u202eevil", "\\\\u202eevil"),
        ("بلاستيك 🥤", "بلاستيك 🥤"),
        ("AT&amp;T", "AT&amp;amp;T"),
    ],
)
def test_names_in_markdown_stay_names(name: str, told: str) -> None:
    assert cell(name) == told


def test_code_in_markdown() -> None:
    assert code("a`b|c\n") == r"a'b\|c\n"
