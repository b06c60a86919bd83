"""Which device a model runs on."""

from deponij.store.errors import UsageError


def pick_device(device: str) -> str:
    """`auto` to the best device there is.

    Raises:
        UsageError: the device that was asked for is not there.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there[device.partition(":")[0]]:
        raise UsageError(
            f"there is no device {device!r} here; there is: {', '.join(d for d, yes in there.items() if yes)}"
        )
    return device
