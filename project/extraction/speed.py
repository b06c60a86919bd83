"""How fast this device computes, measured for about a second on a layer like those of the backbones. This is no stage."""

import time
from collections.abc import Callable
from statistics import median

from deponij.project.frame.device import pick_device

# A block of a ViT-B on the tokens of a 224 px picture with patches of 14 px.
_WIDTH, _HEADS, _TOKENS = 768, 12, 256
# Enough pictures to fill the device, few enough for a slow one to answer at once.
_PICTURES = {"cpu": 2, "mps": 8, "cuda": 32}
_PATIENCE_S, _MOST_TIMES = 1.0, 20


def gflops_per_s(device: str, precision: str, n_threads: int) -> float:
    """10^9 floating-point operations a second in a transformer's block: matrix products, attention, norms and all.

    Args:
        device: as `pick_device` takes it.
        precision: fp32, bf16 or fp16.
        n_threads: the model's, on a CPU.
    """
    import torch
    from torch import nn

    device = pick_device(device)
    torch.set_num_threads(n_threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    n = _PICTURES[device.partition(":")[0]]
    block = nn.TransformerEncoderLayer(
        _WIDTH, _HEADS, 4 * _WIDTH, activation="gelu", batch_first=True, norm_first=True
    )
    block.eval().to(device=device, dtype=dtype)
    tokens = torch.zeros(n, _TOKENS, _WIDTH, device=device, dtype=dtype)

    def once() -> None:
        with torch.inference_mode():
            block(tokens)
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    # A multiply-add is two: projections and MLP are 12 matrices of width^2, attention two products of all with all.
    n_operations = 2 * n * _TOKENS * (12 * _WIDTH**2 + 2 * _TOKENS * _WIDTH)
    return n_operations / usual_s(once) / 1e9


def usual_s(once: Callable[[], None], least: int = 1) -> float:
    """The median time of a call, the first one left aside: it makes kernels and takes memory.

    Args:
        least: number of calls that are measured; further ones up to a second.
    """
    once()
    times: list[float] = []
    while len(times) < least or (sum(times) < _PATIENCE_S and len(times) < _MOST_TIMES):
        begin = time.perf_counter()
        once()
        times.append(time.perf_counter() - begin)
    return median(times)
