"""CamVid from stored maps: decoders on a frozen EfficientNet-Lite0, beside networks that learn their encoder too.

    python benchmarks/camvid.py --shared ../shared --out /tmp/camvid [--seeds 0,1,2] [--only linear,fpn] [--minutes 30]

Train 367, choice on val, test once; a mean over seeds. What a run has finished is not learned again: the same command goes
on where it was. Prints a Markdown table (docs/numbers.md), and what of val and test each class reached.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from deponij.project.frame.allocator import keep_pages

keep_pages()

import numpy as np  # noqa: E402

from deponij.pipeline.decoders.whole import WholeNetwork  # noqa: E402
from deponij.pipeline.metrics.segmentation_result import SegmentationResult  # noqa: E402
from deponij.project.frame.settings import RunOptions  # noqa: E402
from deponij.project.segmentation.learn import Running, asked_of, learn_decoder  # noqa: E402
from deponij.project.segmentation.params import DecodersParams  # noqa: E402
from deponij.project.segmentation.result_files import read_segmentation  # noqa: E402
from deponij.project.segmentation.sources import StoredScenes  # noqa: E402
from deponij.project.segmentation.whole import Encoder, encoder_of, from_nothing, learn_whole  # noqa: E402
from deponij.stages import extract_dense, scenes  # noqa: E402
from deponij.store.atomic import write_bytes  # noqa: E402

INPUT_PX = (360, 480)
JUDGED = ("val", "test")
# On stored maps: both ways at test, since the mirrored pictures' maps are there too.
STORED: dict[str, dict[str, Any]] = {
    "linear": {"training": {"epochs": 10, "batch_size": 8, "lr": 1e-2, "weight_decay": 0.0}},
    "lseg": {"training": {"epochs": 15, "batch_size": 8, "lr": 3e-3, "weight_decay": 0.0}},
    "fpn": {"arguments": {"width": 96, "dropout": 0.1}, "training": {"epochs": 20, "weight_decay": 1e-2}},
    "swiftnet": {"arguments": {"width": 128}, "training": {"epochs": 12, "weight_decay": 1e-2}},
}
# Windows as the thesis cuts them.
WINDOW_PX = (224, 224)
# The gap between windows cut out of stored maps and windows that are encoded: one decoder, one recipe, both ways.
STORED["linear-cut"] = {**STORED["linear"], "decoder": "linear"}
# Networks that see pictures: the decoder, what of the encoder learns, how.
_SWIFTNET = {"batch_size": 8, "min_lr": 1e-6, "weight_decay": 1e-4}
WHOLE: dict[str, dict[str, Any]] = {
    # SwiftNet's own widths and grids, on a ResNet-18 that starts from nothing.
    "scratch": {
        "decoder": "swiftnet",
        "arguments": {"width": 128, "pooled": 128, "level_width": 42, "grids": [8, 4, 2]},
        "training": {"lr": 1e-3, **_SWIFTNET},
        "learns": "all",
    },
    "unfrozen": {
        "decoder": "swiftnet",
        "arguments": {"width": 128},
        "training": {"lr": 4e-4, **_SWIFTNET},
        "learns": "all",
    },
    "last-stage": {
        "decoder": "swiftnet",
        "arguments": {"width": 128},
        "training": {"lr": 4e-4, **_SWIFTNET},
        "learns": "last",
    },
    "linear-encoded": {
        "decoder": "linear",
        "training": {**STORED["linear"]["training"], "weight_decay": 1e-4},
        "learns": "none",
    },
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default=",".join((*STORED, *WHOLE)))
    parser.add_argument(
        "--minutes", type=float, default=30, help="of each whole network: epochs follow from a trial"
    )
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    prepare(given.shared, given.out, given.threads)
    wanted = given.only.split(",")
    found: dict[str, list[SegmentationResult]] = {}
    for seed in map(int, given.seeds.split(",")):
        for name in wanted:
            learn = stored if name in STORED else whole
            result = learn(name, seed, given)
            found.setdefault(name, []).append(result)
            print(line(result), flush=True)
    print(table(found))


def prepare(shared: Path, out: Path, n_threads: int) -> None:
    """Scenes, and their maps in a depot; what is there is not made again."""
    options = RunOptions(depot=str(out / "depot"), threads=n_threads)
    if not (out / "scenes").is_dir():
        told = {"folder": shared / "data" / "camvid", "classes": "camvid", "descriptions": "camvid"}
        scenes.run("label-maps", told, out=out / "scenes", run_options=options)
    params = extract_dense.DenseParams(
        spec=str(shared / "data" / "efficientnet_lite0"), kind="pyramid@4", flip=True, input_px=INPUT_PX
    )
    begin = time.perf_counter()
    extract_dense.run(
        params,
        "efficientnet-lite0",
        scenes=out / "scenes",
        out=out / "dense" / "lite0.h5",
        flip_out=out / "dense" / "lite0.flip.h5",
        words_out=out / "dense" / "lite0.words.h5",
        options=options,
    )
    print(f"maps: {time.perf_counter() - begin:.0f} s", flush=True)


def stored(name: str, seed: int, given: argparse.Namespace) -> SegmentationResult:
    """A decoder on stored maps."""
    folder = given.out / "results" / name / str(seed)
    if folder.is_dir():
        return read_segmentation(folder)
    method = {"decoder": name, **STORED[name]}
    method["training"] = {**method["training"], "seed": seed}
    params = DecodersParams.model_validate(
        {
            "methods": {name: method},
            "both_ways": True,
            "judged": JUDGED,
            "window_px": WINDOW_PX if name == "linear-cut" else None,
        }
    )
    source = StoredScenes.open(
        given.out / "scenes",
        given.out / "dense" / "lite0.h5",
        given.out / "dense" / "lite0.flip.h5",
        str(given.out / "depot"),
    )
    (asked,) = asked_of(params, with_words=False)
    running = Running("cpu", given.threads, given.out / "unfinished" / f"{name}-{seed}")
    return learn_decoder(asked, params, source, words=None, running=running, out=folder)


def whole(name: str, seed: int, given: argparse.Namespace) -> SegmentationResult:
    """A network that sees pictures, for as many epochs as fit into the minutes, by a trial of three batches."""
    path = given.out / "results" / name / f"{seed}.json"
    if path.is_file():
        return SegmentationResult.model_validate_json(path.read_text())
    method = dict(WHOLE[name])
    learns = method.pop("learns")
    spec = str(given.shared / "data" / "efficientnet_lite0")

    def encoder() -> Encoder:
        import torch

        torch.manual_seed(seed)
        return from_nothing(INPUT_PX) if name == "scratch" else encoder_of(spec, INPUT_PX, learns)

    method["training"] = {**method["training"], "seed": seed}
    if "epochs" not in method["training"]:
        seconds = trial(encoder(), method, given.threads)
        n_steps = -(-367 // method["training"]["batch_size"])
        method["training"]["epochs"] = max(1, int(given.minutes * 60 / (n_steps * seconds + 8)))
    params = DecodersParams.model_validate(
        {"methods": {name: method}, "window_px": WINDOW_PX, "both_ways": True, "judged": JUDGED}
    )
    (asked,) = asked_of(params, with_words=False)
    running = Running("cpu", given.threads, given.out / "unfinished" / f"{name}-{seed}")
    result = learn_whole(asked, params, given.out / "scenes", encoder(), running=running)
    write_bytes(path, result.model_dump_json(indent=1).encode())
    return result


def trial(encoder: Encoder, method: dict[str, Any], n_threads: int) -> float:
    """Seconds of a step."""
    import torch

    from deponij.project.segmentation.learn import make_decoder

    torch.set_num_threads(n_threads)
    decoder = make_decoder(method["decoder"], method["arguments"]).build(encoder.levels, 11, None)
    model = WholeNetwork(encoder.module, decoder).to(memory_format=torch.channels_last).train()
    pixels = torch.randn(method["training"]["batch_size"], 3, *WINDOW_PX).contiguous(
        memory_format=torch.channels_last
    )
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        model(pixels, WINDOW_PX).sum().backward()
        times.append(time.perf_counter() - begin)
    return min(times)


def line(result: SegmentationResult) -> str:
    """One result."""
    test, val = result.parts["test"], result.parts["val"]
    bounds = test.miou_interval
    told = "" if bounds is None else f" [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"
    return (
        f"{result.method} seed {result.seed}: test mIoU {100 * test.miou:.2f}{told}, val {100 * val.miou:.2f}, "
        f"accuracy {100 * test.accuracy:.2f}, {result.n_weights:,} weights, {result.seconds:.0f} s; "
        + json.dumps({one.name: round(100 * (one.iou or 0), 1) for one in test.by_class})
    )


def table(found: dict[str, list[SegmentationResult]]) -> str:
    """Means over seeds, Markdown."""
    rows = [
        "| approach | weights | mIoU test (each seed) | first seed's 95 % | mIoU val | accuracy | s |",
        "|-|-|-|-|-|-|-|",
    ]
    for name, results in found.items():
        tests = [100 * one.parts["test"].miou for one in results]
        first = results[0].parts["test"].miou_interval
        bounds = "–" if first is None else f"{100 * first[0]:.1f}–{100 * first[1]:.1f}"
        rows.append(
            f"| {name} | {results[0].n_weights:,} | {np.mean(tests):.1f} ({', '.join(f'{one:.1f}' for one in tests)}) | "
            f"{bounds} | {np.mean([100 * one.parts['val'].miou for one in results]):.1f} | "
            f"{np.mean([100 * one.parts['test'].accuracy for one in results]):.1f} | "
            f"{np.mean([one.seconds or 0 for one in results]):.0f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
