"""What a progress bar shows in terminals of several widths."""

import io

import pytest
from rich.console import Console

from deponij.project.frame import console

RATES = "read 3,468 decode 4,654 transform 1,073 forward 14* write 12,000"


def drawn(monkeypatch: pytest.MonkeyPatch, n_chars: int, label: str, note: str) -> str:
    """The last line that a bar drew after 97 of 361."""
    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=n_chars, color_system=None, soft_wrap=True)
    monkeypatch.setattr(console, "stderr", terminal)
    with console.bar(label, 361, "pictures") as advance:
        advance(97, note=note)
    return [line for line in file.getvalue().split("\x1b[2K") if line.strip()][-1].split("\x1b")[0].rstrip()


@pytest.mark.parametrize("n_chars", [80, 100, 200])
def test_count_and_bar_stand_whatever_else_is_told(monkeypatch: pytest.MonkeyPatch, n_chars: int) -> None:
    line = drawn(monkeypatch, n_chars, "extract efficientnet-lite0", RATES)
    assert line.startswith("extract efficientnet-lite0 ━━")
    assert " 97/361 " in line and "-:--:--" in line
    assert len(line.splitlines()[0]) <= n_chars
    assert (RATES in line) == (n_chars == 200)


def test_a_short_note_fits_beside_a_short_label(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "loss 0.512" in drawn(monkeypatch, 80, "linear", "loss 0.512")
    assert "loss 0.512, val mIo…" in drawn(monkeypatch, 80, "linear", "loss 0.512, val mIoU 45.1 %")
