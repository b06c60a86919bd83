"""Peak memory and time of items against their number: written, opened, looked up, read through.

    python benchmarks/items_growth.py [--sizes 100000,1000000] [--pictures 2000] [--json FILE]

Items have a tiny picture (60 bytes), an id of 30 characters and a label; each step is a process of its own, and its figure
how far the system's peak (`VmHWM`) rises above what the process had after its imports.

    write      one item after the other through `ItemWriter`
    open       `Items(...)` and its length: the files' footers
    columns    ids, keys and failures, gone through once
    places     the row of one item in a hundred, by its id
    contents   every picture, once

Then a folder of so many photographs (640 x 480, JPEG) becomes items, and again in another folder once there are 1 % more of
them: with copies of the pictures, and with their names alone.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from figures import ROOT, Line, below, parser, report
from PIL import Image

from deponij.pipeline.data.known_files import RACY_NS
from deponij.project.frame.settings import RunOptions
from deponij.stages import items as stage
from deponij.store.items import Items, ItemWriter
from deponij.store.keys import key_of_bytes

# Of all that reads and writes 10^6 items, beyond the imports.
MOST_MB = 300
SCHEMA = pa.schema([("label", pa.string())])


def content(number: int) -> bytes:
    """A picture's place-holder; the store never decodes it."""
    return number.to_bytes(8, "little") * 8


def name(number: int) -> str:
    """An item's id."""
    return f"folder-{number % 997:04d}/{number:012d}.jpg"


def write(folder: Path, n: int) -> None:
    """All items."""
    with ItemWriter(folder, SCHEMA) as writer:
        for number in range(n):
            data = content(number)
            writer.add(
                content=data,
                item_id=name(number),
                key=key_of_bytes(data),
                image_id=name(number),
                width_px=4,
                height_px=4,
                phash=f"{number:016x}",
                metadata={"label": f"class{number % 100}"},
            )


def opened(folder: Path, n: int) -> None:
    """How many there are."""
    if len(Items(folder)) != n:
        raise SystemExit("items are missing")


def columns(folder: Path, n: int) -> None:
    """Ids, keys and failures."""
    items = Items(folder)
    n_found = sum(key is not None for key in items.keys) + sum(bool(one) for one in items.ids)
    if n_found != 2 * n or items.failures:
        raise SystemExit("items are missing")


def places(folder: Path, n: int) -> None:
    """Rows of ids in any order."""
    items = Items(folder)
    wanted = random.Random(0).sample(range(n), max(1, n // 100))
    if any(items.places[name(number)] != number for number in wanted):
        raise SystemExit("an item is in another place")


def contents(folder: Path, n: int) -> None:
    """All pictures."""
    n_bytes = sum(len(one) for _, one in Items(folder).contents(range(n)))
    if n_bytes != 64 * n:
        raise SystemExit("pictures are missing")


STEPS: dict[str, Callable[[Path, int], None]] = {
    "write": write,
    "open": opened,
    "columns": columns,
    "places": places,
    "contents": contents,
}


def peak_kb(field: str) -> int:
    """Of this process: `VmHWM`, its peak so far, or `VmRSS`, now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise SystemExit("this system does not tell a process's memory")


def one_step(step: str, folder: Path, n: int) -> None:
    """Run a step here and print its seconds and megabytes."""
    before, start = peak_kb("VmRSS"), time.perf_counter()
    STEPS[step](folder, n)
    print(time.perf_counter() - start, (peak_kb("VmHWM") - before) / 1000)


def measured(sizes: list[int]) -> Iterator[Line]:
    """Figures of every size and step."""
    with tempfile.TemporaryDirectory() as folder:
        for n in sizes:
            for step in STEPS:
                command = [sys.executable, __file__, "--step", step, "--folder", f"{folder}/{n}"]
                told = subprocess.run(
                    [*command, "--sizes", str(n)], check=True, capture_output=True, text=True, env=_here()
                )
                seconds, megabytes = map(float, told.stdout.split())
                yield below(f"{step}, {n:,}: peak memory above imports", megabytes, "MB", MOST_MB)
                yield Line(f"{step}, {n:,}", seconds, "s")


def photographs(folder: Path, numbers: range) -> None:
    """Draw some."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        coarse = np.random.default_rng(number).integers(0, 255, (60, 80, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:06d}.jpg", "JPEG", quality=92)


def more_pictures(n: int) -> Iterator[Line]:
    """Items of photographs, and of 1 % more of them, each time in a new folder."""
    n_all = n + max(1, n // 100)
    copying: tuple[stage.CopyPictures, ...] = ("always", "never")
    for how in copying:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            os.environ["DEPONIJ_CACHE"] = str(root / "cache")
            for told, numbers in ((f"{n:,} photographs", range(n)), ("1 % more", range(n, n_all))):
                photographs(root / "pictures", numbers)
                # What has just been written would be read again.
                time.sleep(RACY_NS / 1e9)
                out, start = root / told, time.perf_counter()
                source = {"folder": root / "pictures"}
                stage.run("folder", source, out=out, run_options=RunOptions(), copy_pictures=how)
                yield Line(f"--copy {how}, {told}", time.perf_counter() - start, "s")
            for what, folder in (("pictures", root / "pictures"), ("items", out)):
                megabytes = sum(one.stat().st_size for one in folder.iterdir()) / 1e6
                yield Line(f"--copy {how}, {what} on disk", megabytes, "MB")


def _here() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}


def main() -> int:
    """The whole table, or one step of it in this process."""
    flags = parser(__doc__ or "")
    flags.add_argument("--sizes", default="100000,1000000")
    flags.add_argument("--pictures", type=int, default=2000)
    flags.add_argument("--step", choices=STEPS, help="only this step, here; needs --folder")
    flags.add_argument("--folder", type=Path)
    asked = flags.parse_args()
    sizes = [int(one) for one in asked.sizes.split(",")]
    if asked.step:
        one_step(asked.step, asked.folder, sizes[0])
        return 0
    return report(chain(measured(sizes), more_pictures(asked.pictures)), asked.json)


if __name__ == "__main__":
    sys.exit(main())
