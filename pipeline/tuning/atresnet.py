"""AtResNet-18: a ResNet-18 whose maps are asked by a class token, in the place of pooling.

Shape letters: n pictures, C classes, k channels of a map, q positions of a map (its height times its width).
"""

import torch
from torch import Tensor, nn

from deponij.pipeline.backbones.lean_imports import without_compiler
from deponij.store.errors import UsageError

# Of ResNet-18's conv2_x to conv5_x: input pixels a position.
_STRIDES = (4, 8, 16, 32)
_WIDTH, _HEADS, _MLP_RATIO = 256, 8, 4


class AtResNet18(nn.Module):
    """forward(normalised pixels [n, 3, s, s]) -> logits [n, C].

    After each of the four stages an encoder lets one class token of 256 numbers ask the stage's map: its query is the
    class token alone, keys and values are made from the map's channels, each of which is a token whose features are the
    map's positions. So the network is tied to one size of pictures. The last class token goes through the only linear
    classifier; ResNet's pooling and its own classifier are not there.

    Unstated in the thesis, and chosen here: the norm comes before attention and before the MLP (and once at the end), as
    in ViT; the MLP is 4 times as wide, with GELU; channels have no encoding of their place, for which the weights that the
    thesis states leave no room. At 224 px the encoders, the token and the last norm have 4,768,000 weights.

    Args:
        n_classes: C. size_px: s, a multiple of 32.
        resnet: a ResNet-18 of torchvision's with the stages' maps at 4, 8, 16 and 32 px a position; drawn from torch's
            generator by default.

    Raises:
        UsageError: the size is no multiple of 32.
    """

    def __init__(self, n_classes: int, size_px: int = 224, resnet: nn.Module | None = None) -> None:
        super().__init__()
        if size_px < 32 or size_px % 32:
            raise UsageError(f"AtResNet-18 takes pictures whose side is a multiple of 32 px, not {size_px}")
        if resnet is None:
            with without_compiler():
                from torchvision.models import resnet18
            resnet = resnet18()
        parts = dict(resnet.named_children())
        self.size_px = size_px
        self.conv1, self.bn1, self.maxpool = parts["conv1"], parts["bn1"], parts["maxpool"]
        self.layer1, self.layer2 = parts["layer1"], parts["layer2"]
        self.layer3, self.layer4 = parts["layer3"], parts["layer4"]
        self.class_token = nn.Parameter(torch.empty(1, 1, _WIDTH))
        nn.init.trunc_normal_(self.class_token, std=0.02)
        self.encoders = nn.ModuleList(_Asking((size_px // stride) ** 2) for stride in _STRIDES)
        self.norm = nn.LayerNorm(_WIDTH)
        self.fc = nn.Linear(_WIDTH, n_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class.

        Raises:
            UsageError: the pictures have another size.
        """
        if pixels.shape[2:] != (self.size_px, self.size_px):
            height, width = pixels.shape[2:]
            raise UsageError(
                f"this AtResNet-18 is made for {self.size_px} px, and pictures of {height}x{width} px came"
            )
        values = self.maxpool(self.bn1(self.conv1(pixels)).relu())
        token = self.class_token.expand(len(pixels), -1, -1)
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        for stage, encoder in zip(stages, self.encoders, strict=True):
            values = stage(values)
            token = encoder(token, values.flatten(2))
        logits: Tensor = self.fc(self.norm(token[:, 0]))
        return logits


class _Asking(nn.Module):
    """forward(class token [n, 1, 256], channels [n, k, q]) -> class token [n, 1, 256]."""

    def __init__(self, n_positions: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.attention = nn.MultiheadAttention(
            _WIDTH, _HEADS, kdim=n_positions, vdim=n_positions, batch_first=True
        )
        self.mlp = nn.Sequential(
            nn.Linear(_WIDTH, _MLP_RATIO * _WIDTH), nn.GELU(), nn.Linear(_MLP_RATIO * _WIDTH, _WIDTH)
        )

    def forward(self, token: Tensor, channels: Tensor) -> Tensor:
        found, _ = self.attention(self.norm1(token), channels, channels, need_weights=False)
        token = token + found
        added: Tensor = token + self.mlp(self.norm2(token))
        return added
