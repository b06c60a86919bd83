"""Encoders and decoders joined: what learns, and SwiftNet's own shape."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from deponij.pipeline.decoders.decoder import Level, numbers_of
from deponij.pipeline.decoders.linear import Linear
from deponij.pipeline.decoders.whole import RESNET_18, WholeNetwork, resnet_18, swiftnet_rn18


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 5, 2, 2)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        fine = self.first(pixels)
        return [fine, self.last(fine.relu())]


def network() -> WholeNetwork:
    torch.manual_seed(0)
    return WholeNetwork(Encoder(), Linear().build([Level("stride4", 4, 4), Level("stride8", 5, 8)], 3))


@pytest.mark.parametrize("frozen", ["", "first", "all"])
def test_what_learns(frozen: str) -> None:
    whole = network()
    if frozen == "first":
        whole.encoder.get_submodule("first").requires_grad_(False)
    elif frozen == "all":
        whole.encoder.requires_grad_(False)
    logits = whole(torch.randn(2, 3, 16, 24), (16, 24))
    assert logits.shape == (2, 3, 16, 24)
    logits.square().mean().backward()
    encoder, decoder = whole.parts()
    assert len(encoder) == {"": 4, "first": 2, "all": 0}[frozen]
    learning = {id(one) for one in encoder + decoder}
    assert learning == {id(one) for one in whole.parameters() if one.grad is not None}
    assert all(one.grad.abs().sum() > 0 for one in encoder + decoder if one.grad is not None)


def test_swiftnet_with_a_resnet_18() -> None:
    """11.8 million weights without the 1000 classes of ImageNet (Oršić et al. 2019, table 1)."""
    torch.manual_seed(0)
    whole = swiftnet_rn18(19)
    assert numbers_of(whole) / 1e6 == pytest.approx(11.8, abs=0.05)
    encoder, decoder = whole.parts()
    in_resnet = sum(one.numel() for one in resnet18().parameters()) - 512 * 1000 - 1000
    assert sum(one.numel() for one in encoder) == in_resnet
    logits = whole(torch.randn(2, 3, 97, 65), (97, 65))
    assert logits.shape == (2, 19, 97, 65)
    logits.square().mean().backward()
    assert all(one.grad is not None for one in encoder + decoder)


def test_maps_are_those_before_the_last_relu_of_each_stage() -> None:
    """With a ReLU behind them they are torchvision's own."""
    torch.manual_seed(0)
    upstream = resnet18().eval()
    kept: list[Tensor] = []
    for stage in (upstream.layer1, upstream.layer2, upstream.layer3, upstream.layer4):
        stage.register_forward_hook(lambda _, __, given: kept.append(given))
    weights = {name: values for name, values in upstream.state_dict().items() if not name.startswith("fc.")}
    pixels = torch.randn(1, 3, 65, 97)
    with torch.inference_mode():
        upstream(pixels)
        maps = resnet_18(weights).eval()(pixels)
    assert [one.shape[1] for one in maps] == [one.channels for one in RESNET_18]
    assert [tuple(one.shape[-2:]) for one in maps] == [(17, 25), (9, 13), (5, 7), (3, 4)]
    assert all((one < 0).any() for one in maps)
    for one, wanted in zip(maps, kept, strict=True):
        torch.testing.assert_close(one.relu(), wanted)
