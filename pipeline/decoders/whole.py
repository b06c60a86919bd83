"""Networks that see pictures: an encoder of any sort before a decoder. For references beside decoders of stored maps.

Shape letters: n pictures, C classes, h and w sides in pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deponij.pipeline.decoders.decoder import Level

# Of torchvision's and timm's ResNet-18.
RESNET_18 = (
    Level("stride4", 64, 4),
    Level("stride8", 128, 8),
    Level("stride16", 256, 16),
    Level("stride32", 512, 32),
)


class WholeNetwork(nn.Module):
    """forward(normalised pixels [n, 3, h, w], size_px) -> logits [n, C, *size_px].

    Args:
        encoder: pixels to maps, finest first. decoder: as `Decoder.build` makes it.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, pixels: Tensor, size_px: Sequence[int]) -> Tensor:
        """See the class. An encoder that does not learn keeps no graph."""
        learns = any(one.requires_grad for one in self.encoder.parameters())
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            maps = self.encoder(pixels)
        logits: Tensor = self.decoder(maps, tuple(size_px))
        return logits


def resnet_18(weights: dict[str, Tensor] | None = None) -> nn.Module:
    """A ResNet-18 that gives its four stages' maps, `RESNET_18`: SwiftNet's encoder (Oršić et al. 2019).

    Args:
        weights: of torchvision's ResNet-18 without its classifier; drawn from torch's generator by default.
    """
    from torchvision.models import resnet18

    made = _Stages(resnet18())
    if weights is not None:
        made.load_state_dict(weights)
    return made


class _Stages(nn.Module):
    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        parts = dict(resnet.named_children())
        self.conv1, self.bn1, self.maxpool = parts["conv1"], parts["bn1"], parts["maxpool"]
        self.layer1, self.layer2 = parts["layer1"], parts["layer2"]
        self.layer3, self.layer4 = parts["layer3"], parts["layer4"]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        values = self.maxpool(self.bn1(self.conv1(pixels)).relu())
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            values = stage(values)
            maps.append(values)
        return maps
