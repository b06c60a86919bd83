"""What computing takes: operations against counts by hand, memory against what was allocated."""

import time

import pytest
import torch
from torch import nn

from deponij.pipeline.backbones import load
from deponij.pipeline.backbones.catalog import entries
from deponij.pipeline.training.costs import PeakMemory, gflops_of


def test_operations_of_a_convolution_are_those_that_a_hand_counts() -> None:
    layer = nn.Conv2d(3, 5, 4, stride=4)
    # 6 x 8 cells, 5 channels out, 3 x 4 x 4 products and sums each; two pictures do not count twice.
    by_hand = 2 * 6 * 8 * 5 * 3 * 4 * 4 / 1e9
    assert gflops_of(layer, torch.zeros(2, 3, 24, 32)) == pytest.approx(by_hand)


def test_fused_attention_is_counted_and_stays_switched_on() -> None:
    """The catalog's figure was counted on the device `meta`, where nothing is fused."""
    backbone = load("mini-openclip")
    pictures = torch.zeros(1, 3, *backbone.description.input_px)
    assert torch.backends.mha.get_fastpath_enabled()
    found = gflops_of(backbone.embed_images, pictures)
    assert found == pytest.approx(entries()["mini-openclip"].gflops, rel=5e-3)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_peak_is_seen_after_it_has_gone() -> None:
    with PeakMemory("cpu") as peak:
        held = torch.ones(64 << 20, dtype=torch.uint8).add_(1)
        # It stays until it was looked at once.
        until = time.monotonic() + 60
        while peak._most - peak._before < len(held) // 2 and time.monotonic() < until:
            time.sleep(1e-3)
        del held
    assert peak.n_bytes is not None
    assert peak.n_bytes == pytest.approx(64 << 20, rel=0.2)


def test_of_other_devices_nothing_is_known() -> None:
    with PeakMemory("mps") as peak:
        pass
    assert peak.n_bytes is None


@pytest.mark.gpu
def test_a_peak_of_a_gpu() -> None:
    with PeakMemory("cuda") as peak:
        torch.ones(64 << 20, dtype=torch.uint8, device="cuda").add_(1)
    assert peak.n_bytes == 64 << 20
