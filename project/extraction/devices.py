"""Which device a model runs on, and bringing it there."""

import os
from typing import TYPE_CHECKING

from deponij.store.errors import UsageError

if TYPE_CHECKING:
    from deponij.pipeline.backbones.contract import Backbone

# OpenMP's threads wait for each other by spinning, on the very cores that decode pictures; asleep they
# let a mini backbone on two cores do 630 pictures/s instead of 80. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def load_backbone(
    spec: str, device: str, precision: str, n_threads: int, input_px: tuple[int, int] | None = None
) -> "Backbone":
    """The model on its device, with the CPU threads set."""
    import torch

    from deponij.pipeline.backbones import load as load_model

    torch.set_num_threads(n_threads)
    return load_model(spec, device=device, precision=precision, input_px=input_px)


def free_memory_bytes(device: str) -> int | None:
    """What a model on this device (as `pick_device` gives it) can still take; None where it cannot be asked."""
    if device == "cpu":
        import psutil

        return int(psutil.virtual_memory().available)
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return None


def pick_device(wanted: str) -> str:
    """`auto` to the best device there is.

    Raises:
        UsageError: the device that was asked for is not there.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there[wanted.partition(":")[0]]:
        raise UsageError(
            f"there is no device {wanted!r} here; there is: {', '.join(d for d, yes in there.items() if yes)}"
        )
    return wanted
