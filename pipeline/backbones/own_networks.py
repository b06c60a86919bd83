"""Networks that timm lacks, in timm's registry once this module is imported: `timm.create_model("deponij_…")`.

Shape letters: n pictures, s their side in px, C classes, k channels of a map, q positions of a map (its height times its
width).
"""

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from deponij.store.errors import UsageError

_RESNET_18: dict[str, Any] = {"block": BasicBlock, "layers": (2, 2, 2, 2)}
# Of ResNet-18's conv2_x to conv5_x: input pixels a position.
_STRIDES = (4, 8, 16, 32)
_WIDTH, _HEADS, _MLP_RATIO = 256, 8, 4

# Found by `register_model`, by this name.
default_cfgs = generate_default_cfgs(
    {
        "deponij_resnet18_small": {"input_size": (3, 32, 32), "first_conv": "conv1", "classifier": "fc"},
        "deponij_atresnet18": {
            "input_size": (3, 224, 224),
            "fixed_input_size": True,
            "first_conv": "conv1",
            "classifier": "fc",
        },
    }
)


class SmallResNet18(ResNet):
    """forward(normalised pixels [n, 3, s, s]) -> logits [n, C]: a ResNet-18 for pictures of some 32 px.

    Its stem is a 3x3 convolution of every pixel, and nothing is pooled before the stages (He et al. 2016, section 4.2).

    Args:
        in_chans: of the pictures.
        kwargs: of timm's ResNet.
    """

    def __init__(self, in_chans: int = 3, **kwargs: Any) -> None:
        super().__init__(**_RESNET_18, in_chans=in_chans, **kwargs)
        conv1 = nn.Conv2d(in_chans, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv1.weight, mode="fan_out", nonlinearity="relu")
        self.add_module("conv1", conv1)
        self.add_module("maxpool", nn.Identity())
        for info, stride in zip(self.feature_info, (1, 1, 2, 4, 8), strict=True):
            info["reduction"] = stride


class AtResNet18(ResNet):
    """forward(normalised pixels [n, 3, s, s]) -> logits [n, C]: a ResNet-18 asked by a class token, not pooled.

    After each of the four stages an encoder lets one class token of 256 numbers ask the stage's map: its query is the
    class token alone, keys and values are made from the map's channels, each of which is a token whose features are the
    map's positions. So the network is tied to one size of pictures. The last class token goes through the only linear
    classifier; ResNet's pooling and its own classifier are not there.

    Unstated in Ćorić (2021), and chosen here: the norm comes before attention and before the MLP (and once at the end), as
    in ViT; the MLP is 4 times as wide, with GELU; channels have no encoding of their place, for which the weights stated
    there leave no room. At 224 px the encoders, the token and the last norm have 4,768,000 weights.

    Args:
        num_classes: C; 0 for the last class token, [n, 256].
        img_size: s, a multiple of 32.
        global_pool: is not there, and ignored.
        kwargs: of timm's ResNet.

    Raises:
        UsageError: the size is no multiple of 32.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        img_size: int | tuple[int, int] = 224,
        global_pool: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**_RESNET_18, num_classes=num_classes, **kwargs)
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else img_size
        height, width = self.img_size
        if min(self.img_size) < 32 or height % 32 or width % 32:
            raise UsageError(
                f"AtResNet-18 takes pictures whose sides are multiples of 32 px, not {height}x{width}"
            )
        del self.global_pool
        self.num_features = self.head_hidden_size = _WIDTH
        self.class_token = nn.Parameter(torch.empty(1, 1, _WIDTH))
        nn.init.trunc_normal_(self.class_token, std=0.02)
        self.encoders = nn.ModuleList(_Asking(height // one * (width // one)) for one in _STRIDES)
        self.norm = nn.LayerNorm(_WIDTH)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Another classifier; none for 0."""
        self.num_classes = num_classes
        self.fc = nn.Linear(_WIDTH, num_classes) if num_classes else nn.Identity()

    def set_input_size(self, img_size: tuple[int, int]) -> None:
        """Another size of pictures, which there cannot be.

        Raises:
            UsageError: it is another one.
        """
        if tuple(img_size) != tuple(self.img_size):
            made, came = (f"{height}x{width} px" for height, width in (self.img_size, img_size))
            raise UsageError(f"this AtResNet-18 is made for {made}, and pictures of {came} came")

    def forward_features(self, x: Tensor) -> Tensor:
        """The last class token, [n, 256].

        Raises:
            UsageError: the pictures have another size.
        """
        self.set_input_size((x.shape[2], x.shape[3]))
        maps: Any = self.forward_intermediates(x, indices=len(_STRIDES), intermediates_only=True)
        token = self.class_token.expand(len(x), -1, -1)
        for encoder, values in zip(self.encoders, maps, strict=True):
            token = encoder(token, values.flatten(2))
        pooled: Tensor = self.norm(token[:, 0])
        return pooled

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Class tokens [n, 256] to logits."""
        return x if pre_logits else self.fc(x)


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
        answer, _ = self.attention(self.norm1(token), channels, channels, need_weights=False)
        token = token + answer
        added: Tensor = token + self.mlp(self.norm2(token))
        return added


@register_model
def deponij_resnet18_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """See `SmallResNet18`."""
    model: nn.Module = build_model_with_cfg(SmallResNet18, "deponij_resnet18_small", pretrained, **kwargs)
    return model


@register_model
def deponij_atresnet18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """See `AtResNet18`."""
    model: nn.Module = build_model_with_cfg(AtResNet18, "deponij_atresnet18", pretrained, **kwargs)
    return model
