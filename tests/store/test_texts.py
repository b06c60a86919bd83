"""Names on one line: what Python prints of them, by hand."""

import unicodedata

import pytest

from deponij.store.texts import lines, one_line


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Plastic bag & wrapper", "Plastic bag & wrapper"),
        ("", ""),
        ("two\nlines", r"two\nlines"),
        ("a\r\tb", r"a\r\tb"),
        ("\x1b[31mred\x00", r"\x1b[31mred\x00"),
        ("\x85\x9b", r"\x85\x9b"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2066x\u2069\u200e", r"\u2066x\u2069\u200e"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("half \ud83d", r"half \ud83d"),
        ("\U000e0041", r"\U000e0041"),
        ("   ", "'   '"),
        ("\u3000", "'\u3000'"),
        ("\n", r"'\n'"),
        ("بلاستيك 🥤 瓶 कचरा", "بلاستيك 🥤 瓶 कचरा"),
        # Joined letters and joined emoji stay whole.
        ("می\u200cخواهم 👩\u200d🔬", "می\u200cخواهم 👩\u200d🔬"),
        ("[red]<b>|`$x`", "[red]<b>|`$x`"),
    ],
)
def test_names_stand_on_one_line(name: str, told: str) -> None:
    assert one_line(name) == told


def test_nothing_unseen_is_left_of_any_character() -> None:
    seen = one_line("".join(map(chr, range(0x11_0000))))
    unseen = {c for c in seen if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert unseen == {"\u200c", "\u200d"}
    assert len(seen.splitlines()) == 1


def test_the_lines_of_a_message_stay() -> None:
    assert lines("one\n  two\x1b[0m\n\n  \nfive") == "one\n  two\\x1b[0m\n\n  \nfive"
