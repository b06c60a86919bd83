"""Items and features by Deponij's commands, beside the plain script that somebody would write (`plain_script.py`).

    python benchmarks/plain.py [--only small,photographs,crops] [--pictures 2527] [--json FILE]

Both start as new processes, on the same files, model, batch size and threads, in turns (plain, Deponij, plain). Deponij's
time is of `items` (or `crop`) and `extract` together: every picture is hashed, proven to decode, kept, and its row
checksummed. At most 1.1 of the plain script's time is wanted. Then 1 % new pictures come, and both run again.

    small        photographs of 256 x 256 px, the mini DINOv2
    photographs  9 megapixels, EfficientNet-Lite0
    crops        9 megapixels, four instances each, EfficientNet-Lite0: the plain script decodes one for each crop
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figures import ROOT, Line, below, drawn, encoded, of_part, parser, report
from PIL import Image

MINI = ROOT / "sample" / "weights" / "dinov2"
LARGE_PX = (3464, 2598)
N_CROPS = 4
WANTED = 1.1
# Runs a command in a process whose children's peak is that of this command, and prints it.
_WATCH = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
sys.stderr.buffer.write(ended.stderr[-2000:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ended.returncode)
"""


def spent(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds, and the peak of memory in MiB of all its processes' largest, of a command that must succeed."""
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _WATCH, *command], check=False, cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr}")
    return time.perf_counter() - before, int(done.stdout) / 1024


def photograph(seed: int, size_px: tuple[int, int]) -> bytes:
    """JPEG: a drawn picture, enlarged, with the noise of a sensor."""
    image = drawn(seed, (96, 96 * size_px[1] // size_px[0])).resize(size_px, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).integers(-10, 11, (size_px[1], size_px[0], 1), np.int16)
    return encoded(
        Image.fromarray((np.asarray(image, np.int16) + noise).clip(0, 255).astype(np.uint8)),
        "JPEG",
        quality=88,
    )


def write_pictures(folder: Path, numbers: range, size_px: tuple[int, int]) -> None:
    """Photographs as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:06d}.jpg").write_bytes(photograph(number, size_px))


def write_boxes(folder: Path, numbers: range) -> None:
    """Four instances a photograph: as COCO, and as the plain script's list."""
    rng, width, height = np.random.default_rng(0), *LARGE_PX
    images, annotations, crops = [], [], []
    for number in numbers:
        name = f"{number:06d}.jpg"
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for _ in range(N_CROPS):
            w, h = rng.integers(200, 900, 2).tolist()
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            box = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": [x, y, w, h]}
            annotations.append({**box, "area": w * h, "iscrowd": 0})
            crops.append([str(folder / "pictures" / name), x, y, x + w, y + h])
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "coco.json").write_text(json.dumps(coco))
    (folder / "crops.json").write_text(json.dumps(crops))


def measured(folder: Path, n: int, what: str, args: argparse.Namespace) -> Iterator[Line]:
    """One load: plain, Deponij, plain; then 1 % more pictures."""
    size_px = (256, 256) if what == "small" else LARGE_PX
    pictures = folder / "pictures"
    family, model = (
        ("transformers", MINI) if what == "small" else ("timm", args.shared / "data" / "efficientnet_lite0")
    )
    named = folder / "crops.json" if what == "crops" else pictures
    settings = [str(args.batch_size), str(args.workers), str(args.threads)]
    plain = [
        sys.executable,
        str(ROOT / "benchmarks" / "plain_script.py"),
        family,
        str(model.resolve()),
        str(named),
    ]
    plain += [str(folder / "plain.npy"), *settings]

    def ours() -> tuple[float, float]:
        command = [sys.executable, str(ROOT / "cli.py")]
        source = (
            ["crop", "--coco", "coco.json", "--images", "pictures"]
            if what == "crops"
            else ["items", "--folder", "pictures"]
        )
        first = spent([*command, *source, "--out", "items"], folder)
        extract = [
            "extract",
            "--items",
            "items",
            "--backbone",
            str(model.resolve()),
            "--out",
            "view.h5",
            "--depot",
            "depot",
        ]
        flags = [
            "--batch-size",
            settings[0],
            "--workers",
            settings[1],
            "--threads",
            settings[2],
            "--decode",
            "full",
        ]
        second = spent([*command, *extract, *flags], folder)
        return first[0] + second[0], max(first[1], second[1])

    write_pictures(pictures, range(n), size_px)
    if what == "crops":
        write_boxes(folder, range(n))
    one, (seconds, memory), other = spent(plain, folder), ours(), spent(plain, folder)
    plain_s, n_rows = (one[0] + other[0]) / 2, n * (N_CROPS if what == "crops" else 1)
    yield Line("plain script", plain_s, "s")
    yield Line("plain script: its two runs' ratio", max(one[0], other[0]) / min(one[0], other[0]))
    yield Line("Deponij, items and extract", seconds, "s")
    yield below("Deponij over the plain script", seconds / plain_s, "", WANTED)
    yield Line("Deponij", n_rows / seconds, "rows/s")
    yield Line("peak memory: plain script, largest process", max(one[1], other[1]), "MiB")
    yield Line("peak memory: Deponij", memory, "MiB")
    yield Line("largest difference of vectors", difference(folder))
    n_more = max(1, n // 100)
    write_pictures(pictures, range(n, n + n_more), size_px)
    if what == "crops":
        write_boxes(folder, range(n + n_more))
    again, plain_again = ours(), spent(plain, folder)
    yield Line(f"{n_more} new pictures: plain script", plain_again[0], "s")
    yield Line(f"{n_more} new pictures: Deponij", again[0], "s")


def difference(folder: Path) -> float:
    """Of the vectors of both, in the order of the plain script."""
    from deponij.store.view import View

    view, plain = View(folder / "view.h5"), np.load(folder / "plain.npy")
    return float(np.abs(view.embedding - plain).max()) if len(plain) == len(view.ids) else float("nan")


def all_loads(args: argparse.Namespace) -> Iterator[Line]:
    for what in args.only.split(","):
        n = (
            args.pictures
            if what == "small"
            else max(8, args.pictures // (20 if what == "photographs" else 40))
        )
        with tempfile.TemporaryDirectory(prefix="deponij-plain-") as folder:
            yield from of_part(measured(Path(folder), n, what, args), f"{what}, {n}")


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--only", default="small,photographs,crops")
    flags.add_argument("--pictures", type=int, default=2527, help="small ones; of the large there are fewer")
    flags.add_argument("--shared", type=Path, default=Path(os.environ.get("DEPONIJ_SHARED", "../shared")))
    flags.add_argument("--batch-size", type=int, default=32)
    flags.add_argument("--workers", type=int, default=2)
    flags.add_argument("--threads", type=int, default=2)
    args = flags.parse_args()
    return report(all_loads(args), args.json, pictures=args.pictures, threads=args.threads)


if __name__ == "__main__":
    raise SystemExit(main())
