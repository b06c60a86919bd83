"""The forward pass alone on a CPU: torch as Deponij runs it, against what else could run the same network.

    python benchmarks/engines.py [--only lite0,vit] [--batch 16] [--rounds 3] [--threads 2] [--json FILE]

    lite0   EfficientNet-Lite0 at 224 x 224, real weights (those that come with Deponij, or the folder in DEPONIJ_SHARED)
    vit     ViT-B/16 at 224 x 224 (timm), random weights: its arithmetic is that of the real one

    deponij       torch eager, pages kept, channels last where that is faster, as `extract` loads it
    plain         torch eager as timm gives it, pages kept too
    compile       torch.compile (inductor, needs a C++ compiler), of the deponij form
    bf16          torch in bfloat16; left out where the processor has no instructions for it
    onnxruntime   ONNX Runtime on the exported network
    openvino      OpenVINO on the same

Those that are not installed are left out with a line; none is a dependency. An engine would be worth having at 1.5
times the pace with differences below 1e-4 of the vectors scaled to length one. Engines take turns; the best round
counts. Compiling and exporting are timed apart. With one thread torch takes its slow way for 1 x 1 convolutions of fewer
than 16 pictures, so smaller batches would flatter the others.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from figures import Line, below, left_out, parser, reaching, report, timed

from deponij.project.frame.allocator import keep_pages

WORTH, DIFFERENCE = 1.5, 1e-4
SIZE_PX = 224
Run = Callable[[], np.ndarray]


def network(what: str) -> tuple[Any, Any]:
    """As Deponij computes, and as timm gives it: modules in evaluation mode."""
    import torch

    if what == "vit":
        import timm

        torch.manual_seed(0)
        vit = timm.create_model("vit_base_patch16_224", num_classes=0).eval()
        return vit, vit
    from deponij.pipeline.backbones import load

    shared = Path(os.environ.get("DEPONIJ_SHARED", "../shared")) / "data" / "efficientnet_lite0"
    spec = str(shared) if shared.is_dir() else "efficientnet-lite0"
    ours, other = load(spec).vision, load(spec).vision
    return ours, other.to(memory_format=torch.contiguous_format)


def embedded(module: Any, batch: Any) -> np.ndarray:
    """Vectors [n, d]: what the network gives, pooled where it gives maps."""
    found = module(batch)
    return (found.mean((2, 3)) if found.ndim == 4 else found).float().numpy()


def in_torch(module: Any, batch: Any) -> Run:
    import torch

    def run() -> np.ndarray:
        with torch.inference_mode():
            return embedded(module, batch)

    return run


def has_bf16() -> bool:
    """Whether the processor computes in bfloat16 (AVX-512 BF16, AMX, or Arm's)."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})


def exported(module: Any, batch: Any, folder: Path) -> Path:
    """The network as an ONNX file for batches of this size."""
    import torch

    path = folder / "network.onnx"
    with torch.no_grad():
        torch.onnx.export(module, (batch,), str(path), dynamo=True, external_data=False, verbose=False)
    return path


def of_onnxruntime(path: Path, batch: Any, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: batch.numpy()}
    return lambda: pooled(session.run(None, feed)[0])


def of_openvino(path: Path, batch: Any, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    given = batch.numpy()
    return lambda: pooled(compiled(given)[0])


def pooled(found: np.ndarray) -> np.ndarray:
    return found.mean((2, 3)) if found.ndim == 4 else np.array(found)


def engines(
    what: str, args: argparse.Namespace, folder: Path, batch: Any
) -> Iterator[tuple[str, Run] | Line]:
    """Each engine's name and its run, or why it is left out; preparing it is timed."""
    import torch

    ours, plain = network(what)
    yield "deponij", in_torch(ours, channels_last(ours, batch))
    if plain is not ours:
        yield "plain", in_torch(plain, batch)
    if "compile" in args.leave_out:
        yield left_out(f"{what}: compile", "as asked for")
    else:
        run = in_torch(torch.compile(ours), channels_last(ours, batch))
        seconds, _ = timed(run)
        yield Line(f"{what}: compile, first batch (less where inductor remembers it)", seconds, "s")
        yield "compile", run
    if has_bf16():
        half = network(what)[0].to(torch.bfloat16)
        yield "bf16", in_torch(half, channels_last(half, batch.to(torch.bfloat16)))
    else:
        yield left_out(f"{what}: bf16", "the processor has no instructions for it")
    if not (find_spec("onnx") and find_spec("onnxscript")):
        yield left_out(
            f"{what}: onnxruntime, openvino", "`onnx` and `onnxscript`, which torch exports with, are absent"
        )
        return
    seconds, path = timed(exported, plain, batch, folder)
    yield Line(f"{what}: export to ONNX", seconds, "s")
    for name, make in {"onnxruntime": of_onnxruntime, "openvino": of_openvino}.items():
        if find_spec(name) is None:
            yield left_out(f"{what}: {name}", "not installed")
            continue
        yield name, make(path, batch, args.threads)


def channels_last(module: Any, batch: Any) -> Any:
    """The batch in the order in which the module's weights lie."""
    import torch

    from deponij.pipeline.backbones.memory_format import is_convolutional

    return batch.contiguous(memory_format=torch.channels_last) if is_convolutional(module) else batch


def measured(what: str, args: argparse.Namespace, folder: Path) -> Iterator[Line]:
    """One network by all engines, in turns."""
    import torch

    torch.manual_seed(1)
    batch = torch.randn(args.batch, 3, SIZE_PX, SIZE_PX)
    runs: dict[str, Run] = {}
    for one in engines(what, args, folder, batch):
        if isinstance(one, Line):
            yield one
        else:
            runs[one[0]] = one[1]
    answers = {name: unit(run()) for name, run in runs.items()}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(args.rounds):
        for name, run in runs.items():
            for _ in range(args.batches):
                best[name] = min(best[name], timed(run)[0])
    for name, seconds in best.items():
        yield Line(f"{what}: {name}", args.batch / seconds, "/s")
    for name, seconds in best.items():
        if name == "deponij":
            continue
        difference = float(np.abs(answers[name] - answers["deponij"]).max())
        # Nobody wants another engine to be faster: a limit would call it missed that there is no need for one.
        yield Line(f"{what}: {name} over deponij, pace", best["deponij"] / seconds, "x")
        yield below(f"{what}: {name}, largest difference", difference, "", DIFFERENCE)
    candidates = {
        name: best["deponij"] / seconds
        for name, seconds in best.items()
        if name not in ("deponij", "plain") and np.abs(answers[name] - answers["deponij"]).max() < DIFFERENCE
    }
    for name, gain in candidates.items():
        if gain >= WORTH:
            yield reaching(f"{what}: {name} would be worth having", gain, "x", WORTH)


def unit(rows: np.ndarray) -> np.ndarray:
    """Of length one."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def all_networks(args: argparse.Namespace) -> Iterator[Line]:
    for what in args.only.split(","):
        with tempfile.TemporaryDirectory(prefix="deponij-engines-") as folder:
            yield from measured(what, args, Path(folder))


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--only", default="lite0,vit")
    flags.add_argument("--batch", type=int, default=16)
    flags.add_argument("--batches", type=int, default=4, help="of each engine in a round")
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--leave-out", default="", help="`compile`, which takes minutes")
    flags.add_argument("--threads", type=int, default=os.cpu_count())
    args = flags.parse_args()
    keep_pages()
    import torch

    torch.set_num_threads(args.threads)
    return report(
        all_networks(args), args.json, threads=args.threads, batch=args.batch, torch=torch.__version__
    )


if __name__ == "__main__":
    raise SystemExit(main())
