"""Bringing a model to its device; which one that is, `deponij.project.frame.device` says."""

import os
from typing import TYPE_CHECKING

from deponij.store.scratch import available_bytes

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
        return available_bytes()
    if device.startswith("cuda"):
        import torch

        # What torch keeps for later arrays is free, too.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return None
