"""What benchmarks share: figures with the limits they must keep, and pictures and indexes to measure on."""

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from deponij.project.frame.layout import Layout

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """One figure, None where it could not be had; where it has a limit, whether that holds."""

    name: str
    value: float | None
    unit: str = ""
    limit: str = ""
    holds: bool | None = None


def below(name: str, value: float, unit: str, limit: float) -> Line:
    """A figure that must stay below its limit."""
    return Line(name, value, unit, f"< {limit:g}", bool(value < limit))


def reaching(name: str, value: float, unit: str, limit: float | None) -> Line:
    """A figure that must reach its limit, if it has one."""
    return Line(name, value, unit, *(() if limit is None else (f">= {limit:g}", bool(value >= limit))))


def left_out(name: str, why: str) -> Line:
    """A figure that could not be had here, and why."""
    return Line(f"{name}: left out, {why}", None)


def parser(text: str) -> argparse.ArgumentParser:
    """Flags of a benchmark, of which all have `--json`; its help is the module's text."""
    flags = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--json", type=Path, help="write the figures there too")
    return flags


def report(lines: Iterable[Line], path: Path | None, **facts: object) -> int:
    """Print figures as they come, with the machine's facts in JSON if wanted; 1 where a limit is missed."""
    facts |= {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    shown = []
    for line in lines:
        shown.append(line)
        verdict = {None: "", True: "holds", False: "MISSED"}[line.holds]
        value = f"{'-':>11}" if line.value is None else f"{line.value:11.3f}"
        print(f"  {line.name:62} {value} {line.unit:8} {line.limit:10} {verdict}", flush=True)
        # At once, so that one that is stopped leaves what it had.
        if path is not None:
            path.write_text(json.dumps({**facts, "lines": [asdict(line) for line in shown]}, indent=1))
    return int(any(line.holds is False for line in shown))


def timed(function: Callable[..., T], *arguments: object) -> tuple[float, T]:
    """Seconds, and what came out."""
    start = time.perf_counter()
    found = function(*arguments)
    return time.perf_counter() - start, found


def drawn(seed: int, size_px: tuple[int, int] = (96, 96)) -> Image.Image:
    """A picture with a blob of some colour, and noise."""
    rng = np.random.default_rng(seed)
    width, height = size_px
    y, x = np.mgrid[:height, :width] / max(size_px)
    centre, spread = rng.random(2), 0.1 + 0.3 * rng.random()
    blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / spread**2)[..., None]
    pixels = 255 * (blob * rng.random(3) + (1 - blob) * rng.random(3)) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str, **settings: int) -> bytes:
    """A picture as a file's bytes."""
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def deponij(folder: Path, *arguments: object) -> float:
    """Run a command in a folder; seconds."""
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    seconds, _ = timed(lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True))
    return seconds


def indexed(folder: Path, n_pictures: int) -> Path:
    """An index of drawn pictures of eight classes by the mini OpenCLIP, with the classes' names, as a run."""
    at = Layout(folder / "runs" / "bench")
    for i in range(n_pictures):
        path = folder / "pictures" / f"class{i % 8}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn(i).save(path)
    items, backbone = ("--items", at.items), ("--backbone", "mini-openclip")
    words = ("--labels", "label", "--template", "name", "--out", at.texts("mini-openclip"))
    view, index = at.view("mini-openclip"), at.index("mini-openclip")
    deponij(folder, "items", "--folder", folder / "pictures", "--out", at.items)
    deponij(folder, "extract", *items, *backbone, "--out", view)
    deponij(folder, "extract-text", *items, *backbone, *words)
    deponij(folder, "index", *items, "--features", view, "--out", index)
    return index


def of_part(lines: Iterable[Line], prefix: str) -> Iterator[Line]:
    """Figures of one part of a benchmark, with its name before theirs."""
    for line in lines:
        yield Line(f"{prefix}: {line.name}", line.value, line.unit, line.limit, line.holds)
