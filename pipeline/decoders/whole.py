"""Networks that see pictures: an encoder of any sort before a decoder. For references beside decoders of stored maps.

Shape letters: n pictures, C classes, h and w sides in pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deponij.pipeline.decoders.decoder import Level
from deponij.pipeline.decoders.swiftnet import SwiftNet

# Of torchvision's and timm's ResNet-18.
RESNET_18 = (
    Level("stride4", 64, 4),
    Level("stride8", 128, 8),
    Level("stride16", 256, 16),
    Level("stride32", 512, 32),
)


def swiftnet_rn18(n_classes: int, weights: dict[str, Tensor] | None = None) -> "WholeNetwork":
    """SwiftNet, single scale, with a ResNet-18: 11.8 million weights. They are drawn from torch's generator.

    As `resnet_single_scale.py` with `configs/rn18_single_scale.py`: 128 channels, grids of 8, 4 and 2 rows with a third
    of them each. Its running means of batch norms are slower in the pooling (momentum 0.005); ours are not, for they
    would not settle in a short training.

    Args:
        weights: of the encoder, as `resnet_18` takes them.
    """
    settings = SwiftNet(width=128, pooled=128, level_width=128 // 3, grids=(8, 4, 2))
    decoder = settings.build(RESNET_18, n_classes)
    for one in decoder.modules():
        if isinstance(one, nn.Conv2d):
            nn.init.kaiming_normal_(one.weight, mode="fan_out", nonlinearity="relu")
    return WholeNetwork(resnet_18(weights), decoder)


class WholeNetwork(nn.Module):
    """forward(normalised pixels [n, 3, h, w], size_px) -> logits [n, C, *size_px].

    Args:
        encoder: pixels to maps, finest first.
        decoder: as `Decoder.build` makes it.
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

    def parts(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """What learns of the encoder and of the decoder, for learning rates of their own."""
        encoder, decoder = (
            [one for one in part.parameters() if one.requires_grad] for part in (self.encoder, self.decoder)
        )
        return encoder, decoder


def resnet_18(weights: dict[str, Tensor] | None = None) -> nn.Module:
    """A ResNet-18 that gives its four stages' maps, `RESNET_18`: SwiftNet's encoder (Oršić et al. 2019).

    The maps are those before a stage's last ReLU, as SwiftNet takes them: its units begin with one of their own.

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
            *others, last = stage.children()
            for block in others:
                values = block(values)
            maps.append(_without_relu(last, values))
            values = maps[-1].relu()
        return maps


def _without_relu(block: nn.Module, values: Tensor) -> Tensor:
    """A basic block that does not shrink, up to its last ReLU."""
    conv1, bn1, conv2, bn2 = (block.get_submodule(name) for name in ("conv1", "bn1", "conv2", "bn2"))
    added: Tensor = bn2(conv2(bn1(conv1(values)).relu())) + values
    return added
