"""Extraction against its limit: pictures per second end to end over the same model's bare forward rate.

    python benchmarks/extract.py [--device cuda --precision bf16] [--pictures 256] [--models vit-b-16,mini]

Both rates come from one process, in turns (forward, end to end, forward), on the same threads and
batch size. The ViT-B/16 has random weights: its arithmetic is that of the real one. Pictures are
JPEGs made here: photographs of 640 x 480 for the ViT, of 256 x 256 for the mini backbone.

End to end is everything from the items table to committed rows: read, decode, transform, forward,
write; loading the model is left out on both sides. Pages are kept, as in every process that computes
(`DEPONIJ_KEEP_PAGES=0` for the plain allocator).
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from figures import Line, encoded, parser, report
from PIL import Image

from deponij.project.frame.allocator import keep_pages
from deponij.project.frame.settings import RunOptions
from deponij.stages.extract import ExtractParams, run
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes

VIT = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
NORM = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


def make_clip(folder: Path, config: dict[str, Any]) -> Path:
    """An open_clip folder of this model configuration with random weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    model = open_clip.CLIP(**config)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": NORM}))
    return folder


def make_items(path: Path, n: int, size_px: tuple[int, int]) -> Path:
    """n JPEG pictures of smooth noise and edges, about as hard to decode as photographs."""
    rng = np.random.default_rng(0)
    with ItemWriter(path, pa.schema([])) as writer:
        for number in range(n):
            coarse = Image.fromarray(rng.integers(0, 255, (24, 32, 3), np.uint8)).resize(
                size_px, Image.Resampling.BICUBIC
            )
            noisy = np.asarray(coarse, np.int16) + rng.integers(
                -12, 13, (size_px[1], size_px[0], 3), np.int16
            )
            content = encoded(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), "JPEG", quality=90)
            writer.add(
                item_id=str(number),
                image_id=str(number),
                key=key_of_bytes(content),
                content=content,
                metadata={},
            )
    return path


def bare_rate(spec: str, options: RunOptions, precision: str, batch_size: int, seconds: float) -> float:
    """Pictures per second of the forward pass alone, inputs on the device."""
    import torch

    from deponij.project.extraction.devices import load_backbone
    from deponij.project.frame.device import pick_device

    device = pick_device(options.device)
    model = load_backbone(spec, device, precision, options.n_threads)
    height, width = model.description.input_px
    batch = torch.randn(batch_size, 3, height, width, device=device)
    n_done, start = 0, 0.0
    with torch.inference_mode():
        for turn in range(100_000):
            if turn == 3:
                start = _now(device)
            model.embed_images(batch)
            if turn >= 3:
                n_done += batch_size
                if turn % 4 == 0 and _now(device) - start > seconds:
                    break
    return n_done / (_now(device) - start)


def _now(device: str) -> float:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def measured(name: str, spec: str, items: Path, args: argparse.Namespace, scratch: Path) -> Iterator[Line]:
    """One model: forward, end to end, forward."""
    batch = args.batch_size or (256 if args.device.startswith("cuda") else 32)
    options = RunOptions(
        depot=str(scratch / f"depot-{name}"),
        device=args.device,
        batch_size=batch,
        workers=args.workers,
        threads=args.threads,
    )
    before = bare_rate(spec, options, args.precision, batch, args.seconds)
    result = run(
        ExtractParams(precision=args.precision),
        items=items,
        backbone=spec,
        out=scratch / f"{name}.h5",
        options=options,
    )
    after = bare_rate(spec, options, args.precision, batch, args.seconds)
    rate = result.pictures_per_s or 0.0
    yield Line(f"{name}, batch {batch}: bare, before", before, "/s")
    yield Line(f"{name}: bare, after", after, "/s")
    yield Line(f"{name}: end to end", rate, "/s")
    yield Line(f"{name}: end to end over bare", 2 * rate / (before + after))
    for part, of_part in (result.rates or {}).items():
        yield Line(
            f"{name}: {part}{' (the slowest part)' if part == result.bottleneck else ''}", of_part, "/s"
        )


def all_models(args: argparse.Namespace) -> Iterator[Line]:
    """Figures of each model that was asked for."""
    with tempfile.TemporaryDirectory(prefix="deponij-bench-") as folder:
        scratch = Path(folder)
        for name in args.models.split(","):
            is_vit = name == "vit-b-16"
            n = args.pictures if is_vit else 10 * args.pictures
            spec = str(make_clip(scratch / "vit", VIT)) if is_vit else name
            items = make_items(scratch / f"items-{name}", n, (640, 480) if is_vit else (256, 256))
            yield from measured(name, spec, items, args, scratch)


def main() -> int:
    keep_pages()
    flags = parser(__doc__)
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--precision", default="fp32")
    flags.add_argument("--models", default="vit-b-16,efficientnet-lite0,mini-openclip")
    flags.add_argument(
        "--pictures", type=int, default=256, help="for the ViT; the minis get ten times as many"
    )
    flags.add_argument("--batch-size", type=int, default=0)
    flags.add_argument("--workers", type=int, default=0)
    flags.add_argument("--threads", type=int, default=0)
    flags.add_argument("--seconds", type=float, default=10.0, help="of each bare measurement")
    args = flags.parse_args()
    return report(all_models(args), args.json, device=args.device, precision=args.precision)


if __name__ == "__main__":
    raise SystemExit(main())
