"""Memory that is kept: under glibc, unless somebody says otherwise, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deponij.project.frame import allocator
from deponij.project.frame.allocator import Pages, keep_pages

ROOT = Path(__file__).resolve().parents[2]
# Pages touched for the first time while 20 arrays of 64 MiB live and die one after the other.
FAULTS = """
import resource, sys
if sys.argv[1] == "keep":
    from deponij.project.frame.allocator import keep_pages
    keep_pages()
import numpy as np
for turn in range(21):
    np.ones(1 << 23)
    if turn == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


class Library:
    """A C library that notes how it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.refused: set[int] = set()

    def mallopt(self, what: int, value: int) -> int:
        self.asked.append((what, value))
        return int(what not in self.refused)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_", allocator.SWITCH))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: made)
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)
    return made


def test_glibc_is_told_and_may_be_told_again(library: Library) -> None:
    assert keep_pages() == Pages.KEPT
    once = list(library.asked)
    assert once == [(-4, 0), (-1, 2**31 - 1), (-2, 256 << 20)]  # <malloc.h>: M_MMAP_MAX, trim, top pad
    assert keep_pages() == Pages.KEPT
    assert library.asked == once * 2


@pytest.mark.parametrize("refused", [{-1, -2, -4}, {-4}])
def test_a_refusal_is_told(library: Library, refused: set[int]) -> None:
    library.refused = refused
    assert keep_pages() == Pages.REFUSED


@pytest.mark.parametrize("error", [ValueError, OSError, AttributeError])
def test_other_c_libraries_are_left_alone(
    library: Library, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unknown(name: str) -> str:
        raise error(name)

    monkeypatch.setattr(os, "confstr", unknown, raising=False)
    assert keep_pages() == Pages.NOT_GLIBC
    monkeypatch.setattr(os, "confstr", lambda name: "", raising=False)
    assert keep_pages() == Pages.NOT_GLIBC
    assert library.asked == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *((allocator.SWITCH, value, Pages.SWITCHED_OFF) for value in ("0", "false", "No", "off")),
        *((allocator.SWITCH, value, Pages.KEPT) for value in ("1", "true", "YES", "on", "")),
        ("MALLOC_MMAP_THRESHOLD_", "1000000", Pages.OWN),
        ("GLIBC_TUNABLES", "glibc.malloc.arena_max=1", Pages.OWN),
        ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2", Pages.KEPT),
    ],
)
def test_the_environment_has_the_say(
    library: Library, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: Pages
) -> None:
    monkeypatch.setenv(name, value)
    assert keep_pages() == said
    assert bool(library.asked) == (said == Pages.KEPT)


def test_a_switch_that_is_neither_on_nor_off_is_refused(library: Library) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "deponij.cli", "doctor"],
        cwd=ROOT,
        env=os.environ | {allocator.SWITCH: "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert "DEPONIJ_KEEP_PAGES is 1, true, yes, on, or 0, false, no, off; got '2'" in process.stderr
    assert "Traceback" not in process.stderr


def test_arrays_find_their_pages_again() -> None:
    if keep_pages() != Pages.KEPT:
        pytest.skip(f"pages are {keep_pages()}")
    kept, plain = (
        int(
            subprocess.run(
                [sys.executable, "-c", FAULTS, how], cwd=ROOT, capture_output=True, check=True
            ).stdout
        )
        for how in ("keep", "plain")
    )
    # Without it every array of 64 MiB faults in anew: by huge pages, 32 of them, or by 16,384 small ones.
    assert plain >= 20 * 32
    assert kept < plain / 10


@pytest.mark.parametrize(
    "start",
    [
        "from deponij import cli; cli.app = lambda **_: None; cli.main()",
        "from deponij.project.frame.harness import run_stage",
    ],
)
def test_processes_that_compute_keep_their_pages(start: str) -> None:
    run = "run_stage('none', None, lambda *_: None)" if "run_stage" in start else ""
    code = f"""
import sys
from deponij.project.frame import allocator
told = []
real = allocator.keep_pages
allocator.keep_pages = lambda: told.append(sorted({{'torch', 'numpy'}} & set(sys.modules))) or real()
{start}
from contextlib import nullcontext
from deponij.project.frame import harness
harness.timed = lambda *_: nullcontext()
harness.layout = harness.load = lambda *_: None
harness.lack_of = lambda _: ""
{run}
print(told)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[[]]"  # told once, before torch and NumPy are there
