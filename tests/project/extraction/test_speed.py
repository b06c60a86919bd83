"""How fast a device computes: what is counted, and that the median of calls is taken."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deponij.project.extraction import speed
from deponij.store.errors import UsageError


def test_operations_are_those_that_torch_counts_in_such_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    # A second a call: then the rate is the number of operations.
    monkeypatch.setattr(speed, "usual_s", lambda once: 1.0)
    block = nn.TransformerEncoderLayer(768, 12, 3072, dropout=0, batch_first=True, norm_first=True)
    with FlopCounterMode(display=False) as counter:
        block(torch.zeros(2, 256, 768))
    assert speed.gflops_per_s("cpu", "fp32", 1) == pytest.approx(counter.get_total_flops() / 1e9)


def test_the_first_call_does_not_count_and_the_median_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the clock says around each call: 0.2, 0.5 and 0.4 s, which makes more than a second.
    ticks = iter([0.0, 0.2, 1.0, 1.5, 2.0, 2.4])
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    calls: list[None] = []
    assert speed.usual_s(lambda: calls.append(None)) == pytest.approx(0.4)
    assert len(calls) == 1 + 3


def test_so_many_calls_are_measured_however_long_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 5.0, 10.0, 12.0, 20.0, 29.0])
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert speed.usual_s(lambda: None, least=3) == pytest.approx(5.0)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="no device 'mps'"):
        speed.gflops_per_s("mps", "fp32", 1)
