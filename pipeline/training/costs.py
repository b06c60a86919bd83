"""What computing takes: operations of a forward pass, and memory at its peak. Of a training: `training.estimate`.

Memory of a GPU is what torch's allocator counts. A CPU's is this process's resident memory, looked at now and then: so
it is only worth something in a process that does nothing else, and a peak of less than that may be missed.
"""

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from deponij.pipeline.training.freed_memory import give_back

if TYPE_CHECKING:
    from torch import Tensor

_EVERY_S = 1e-3


def gflops_of(forward: "Callable[[Tensor], Any]", pictures: "Tensor") -> float:
    """10^9 floating-point operations a picture, a multiply-add being two, by torch's `FlopCounterMode`.

    Matrix products, convolutions and attention; norms and activations are not counted.

    Args:
        pictures: [n, 3, h, w]; on the device `meta` nothing is computed.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # Torch's fused attention is one operation, which the counter does not know.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            forward(pictures)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops()) / len(pictures) / 1e9


class PeakMemory:
    """By how many bytes the memory of a device grows at most while this is entered.

    Args:
        device: such as `cpu` or `cuda:0`; of others nothing is known.
        every_s: seconds between two looks at a CPU's memory.

    Attributes:
        n_bytes: known afterwards; None where the device does not tell.
    """

    def __init__(self, device: str, every_s: float = _EVERY_S) -> None:
        self.n_bytes: int | None = None
        self._device, self._every_s = device, every_s
        self._before = self._most = 0
        self._is_over = Event()

    def __enter__(self) -> Self:
        if self._device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        elif self._device == "cpu":
            import psutil

            give_back()
            self._process = psutil.Process()
            self._before = self._most = self._process.memory_info().rss
            self._watch = Thread(target=self._look, daemon=True)
            self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device.startswith("cuda"):
            import torch

            self.n_bytes = int(torch.cuda.max_memory_allocated(self._device)) - self._before
        elif self._device == "cpu":
            self._is_over.set()
            self._watch.join()
            self.n_bytes = self._most - self._before

    def _look(self) -> None:
        while True:
            self._most = max(self._most, int(self._process.memory_info().rss))
            if self._is_over.wait(self._every_s):
                break
