"""How long a person waits before anything happens: new processes, each alone, best and median of several.

    python benchmarks/startup.py [--times 5] [--only help,import,query,extract,repro] [--checkout DIR] [--json FILE]

    help     `deponij --help`
    import   `import deponij`; and, for comparison, Python alone, `import torch` and what open_clip takes beside it
    query    `deponij query` of an index of twenty drawn pictures: stored words, new words, a picture
    extract  `deponij extract` of items whose rows are all known, by the mini OpenCLIP and the mini DINOv2
    repro    `dvc repro` with nothing to do, in a copy of a checkout whose sample has been run; nothing is run here

A new process pays for imports each time; `deponij serve` pays once.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from figures import ROOT, Line, deponij, drawn, encoded, indexed, left_out, parser, report, timed

from deponij.project.frame.layout import Layout

HELP_S, REPRO_S, TEXT_S = 0.4, 3.0, 15.0
PARTS = ("help", "import", "query", "extract", "repro")
# What `dvc repro` looks at beside the files that git knows.
_OF_A_RUN = ("runs", "data", ".dvc/cache")
_LEAN = "from deponij.pipeline.backbones.lean_imports import without_compiler\nwith without_compiler(): import open_clip"


def several(name: str, once: Callable[[], float], times: int, limit_s: float | None = None) -> Iterator[Line]:
    """Best and median of some calls that give seconds; a limit is for the best, as others may be at work here."""
    seconds = [once() for _ in range(times)]
    best = min(seconds)
    judged = ("", None) if limit_s is None else (f"< {limit_s:g}", best < limit_s)
    yield Line(name, best, "s", *judged)
    yield Line(f"{name}: median of {times}", statistics.median(seconds), "s")


def new_process(code: str) -> float:
    """Seconds of Python that runs this."""
    command = [sys.executable, "-c", code]
    return timed(lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True))[0]


def told(code: str) -> float:
    """The seconds that a new Python prints."""
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def of_help(args: argparse.Namespace, folder: Path) -> Iterator[Line]:
    yield from several("deponij --help", lambda: deponij(folder, "--help"), args.times, HELP_S)


def of_imports(args: argparse.Namespace, folder: Path) -> Iterator[Line]:
    for name, code in {
        "Python alone": "pass",
        "import deponij": "import deponij",
        "deponij.View, the class": "import deponij; deponij.View",
        "import torch": "import torch",
    }.items():
        yield from several(name, lambda code=code: new_process(code), args.times)
    for name, code in {
        "open_clip after torch": "from deponij.pipeline.backbones.lean_imports import lean_open_clip as it; it()",
        "the same as it comes, with transformers and torch's compiler": "import open_clip",
    }.items():
        timing = f"import time, torch; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
        yield from several(name, lambda timing=timing: told(timing), args.times)


def made(folder: Path) -> Path:
    """The index of twenty drawn pictures, as a run; parts share it."""
    index = Layout(folder / "runs" / "bench").index("mini-openclip")
    return index if index.is_dir() else indexed(folder, 20)


def of_queries(args: argparse.Namespace, folder: Path) -> Iterator[Line]:
    asked = ("--index", made(folder), "--json")
    picture = folder / "asked.png"
    picture.write_bytes(encoded(drawn(1000), "PNG"))
    numbers = iter(range(10_000))
    kinds: dict[str, tuple[Callable[[], tuple[object, ...]], float | None]] = {
        "query text, stored words": (lambda: ("text", "class1"), 1.5),
        "query text, new words": (lambda: ("text", f"a crushed can, number {next(numbers)}"), TEXT_S),
        "query image": (lambda: ("image", picture), None),
    }
    for name, (terms, limit_s) in kinds.items():
        once = lambda terms=terms: deponij(folder, "query", *terms(), *asked)  # noqa: E731
        yield from several(name, once, args.times, limit_s)


def of_extraction(args: argparse.Namespace, folder: Path) -> Iterator[Line]:
    items = made(folder).parent.parent / "items"
    for backbone in ("mini-openclip", "mini-dinov2"):
        flags = ("--items", items, "--backbone", backbone, "--out", folder / "view.h5")
        deponij(folder, "extract", *flags)
        name = f"extract, {backbone}, every row known"
        yield from several(name, lambda flags=flags: deponij(folder, "extract", *flags), args.times)


def of_repro(args: argparse.Namespace, folder: Path) -> Iterator[Line]:
    name, checkout = "dvc repro with nothing to do", args.checkout.resolve()
    if not (checkout / "runs" / "sample" / "run.json").is_file():
        yield left_out(name, "the sample has not been run in this checkout (`make run`)")
        return
    copy = copied(checkout, folder / "checkout")
    dvc = [sys.executable, "-m", "dvc"]
    # Hashes every file once, as DVC does after a clone; from then on it knows them by size and time.
    dry = subprocess.run([*dvc, "repro", "--dry"], cwd=copy, check=False, capture_output=True, text=True)
    if dry.returncode or "Running stage" in dry.stdout:
        yield left_out(name, "there is something to do (`dvc status` says what)")
        return

    def once() -> float:
        return timed(lambda: subprocess.run([*dvc, "repro"], cwd=copy, check=True, capture_output=True))[0]

    yield from several("dvc --version", lambda: new_process("import dvc.cli as c; c.main(['version'])"), 1)
    yield from several(name, once, args.times, REPRO_S)


def copied(checkout: Path, to: Path) -> Path:
    """Git's files and those of a run, with their times."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=checkout, check=True, capture_output=True).stdout
    for name in listed.decode().split("\0"):
        source = checkout / name
        if name and (source.is_symlink() or source.is_file()):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name, follow_symlinks=False)
    for name in _OF_A_RUN:
        if (checkout / name).is_dir():
            shutil.copytree(checkout / name, to / name, symlinks=True, dirs_exist_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=to, check=True)
    return to


def measured(args: argparse.Namespace) -> Iterator[Line]:
    """Figures of the parts, in one folder."""
    parts = dict(zip(PARTS, (of_help, of_imports, of_queries, of_extraction, of_repro), strict=True))
    with tempfile.TemporaryDirectory(prefix="deponij-start-") as folder:
        for part in args.only.split(","):
            yield from parts[part](args, Path(folder))


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--times", type=int, default=5)
    flags.add_argument("--only", default=",".join(PARTS))
    flags.add_argument(
        "--checkout", type=Path, default=ROOT, help="one whose sample has been run, for `repro`"
    )
    args = flags.parse_args()
    return report(measured(args), args.json, times=args.times)


if __name__ == "__main__":
    raise SystemExit(main())
