"""What the forward pass on a CPU gains by the order of its numbers in memory and by keeping the pages of dead arrays.

    python benchmarks/pages.py [--only lite0,convnext,vit] [--batch 32] [--rounds 3] [--threads 2] [--json FILE]

    lite0     EfficientNet-Lite0 at 224 x 224
    convnext  ConvNeXt-T at 224 x 224
    vit       ViT-B/16 at 224 x 224

Networks of timm with random weights, as bare modules. Each is run contiguous and channels-last, in a process whose pages
glibc gives back to the kernel (`DEPONIJ_KEEP_PAGES=0`) and in one that keeps them. A process keeps its setting, so each
side of a round is a new one; sides take turns, and of the rounds the best counts. Beside the pace stand the share of
processor time that was the kernel's, the largest memory, and the largest difference of vectors of length one.
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
from figures import Line, below, parser, report

NETWORKS = {"lite0": "tf_efficientnet_lite0", "convnext": "convnext_tiny", "vit": "vit_base_patch16_224"}
SIDES = [(order, pages) for order in ("contiguous", "channels last") for pages in ("given back", "kept")]
SIZE_PX, DIFFERENCE = 224, 1e-5


def one_side(
    name: str, order: str, batch: int, threads: int, seconds: float, vectors: Path
) -> dict[str, float]:
    """In this process: pictures/s, share of the kernel in processor time, peak in GB. Writes vectors [batch, d]."""
    from deponij.project.frame.allocator import keep_pages

    keep_pages()
    import resource

    import timm
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    form = torch.channels_last if order == "channels last" else torch.contiguous_format
    network = timm.create_model(NETWORKS[name], num_classes=0).eval().to(memory_format=form)
    pictures = torch.randn(batch, 3, SIZE_PX, SIZE_PX).contiguous(memory_format=form)
    with torch.inference_mode():
        found = network(pictures)
        np.save(vectors, torch.nn.functional.normalize(found).numpy())
        n, start, before = 0, time.perf_counter(), os.times()
        while time.perf_counter() - start < seconds or n < 2:
            network(pictures)
            n += 1
    passed, after = time.perf_counter() - start, os.times()
    kernel, own = after.system - before.system, after.user - before.user
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"pace": n * batch / passed, "kernel": kernel / (kernel + own), "peak": peak}


def in_turns(name: str, args: argparse.Namespace, folder: Path) -> Iterator[Line]:
    """All sides of one network."""
    best: dict[tuple[str, str], dict[str, float]] = {}
    vectors = {side: folder / f"{'-'.join(side)}.npy" for side in SIDES}
    for _ in range(args.rounds):
        for side in SIDES:
            order, pages = side
            given = [name, order, str(args.batch), str(args.threads), str(args.seconds), str(vectors[side])]
            environment = {**os.environ, "DEPONIJ_KEEP_PAGES": "1" if pages == "kept" else "0"}
            told = subprocess.run(
                [sys.executable, __file__, "--side", *given],
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
            )
            found = json.loads(told.stdout)
            if side not in best or found["pace"] > best[side]["pace"]:
                best[side] = found
    first = best[SIDES[0]]
    for side, found in best.items():
        what = f"{name}: {side[0]}, pages {side[1]}"
        yield Line(what, found["pace"], "/s")
        yield Line(f"{what}: share of the kernel in processor time", found["kernel"])
        yield Line(f"{what}: peak memory", found["peak"], "GiB")
        if found is not first:
            yield Line(f"{what}: over contiguous, given back", found["pace"] / first["pace"], "x")
            apart = np.abs(np.load(vectors[side]) - np.load(vectors[SIDES[0]])).max()
            yield below(f"{what}: largest difference", float(apart), "", DIFFERENCE)


def main() -> int:
    if sys.argv[1:2] == ["--side"]:
        name, order, batch, threads, seconds, vectors = sys.argv[2:]
        print(json.dumps(one_side(name, order, int(batch), int(threads), float(seconds), Path(vectors))))
        return 0
    flags = parser(__doc__)
    flags.add_argument("--only", default=",".join(NETWORKS), type=lambda text: text.split(","))
    flags.add_argument("--batch", type=int, default=32)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--seconds", type=float, default=5.0, help="of each side and round")
    flags.add_argument("--threads", type=int, default=2)
    args = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = (line for name in args.only for line in in_turns(name, args, Path(folder)))
        return report(lines, args.json, batch=args.batch, threads=args.threads, rounds=args.rounds)


if __name__ == "__main__":
    sys.exit(main())
