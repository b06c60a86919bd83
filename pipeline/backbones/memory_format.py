"""In which order a tower's numbers lie in memory: which towers compute faster channels-last on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def is_convolutional(vision: nn.Module) -> bool:
    """Whether convolutions, patch embeddings left out, hold most of a tower's weights, with batch norms between.

    So it is with EfficientNets, MobileNets, RegNets and ResNets, which compute 1.7, 1.4, 1.2 and 1.06 times as
    fast channels-last on a CPU. Transformers and ConvNeXts spend their time in linear layers and layer norms,
    which have the channels last in any case: they gain nothing (ConvNeXt-T 0.97, an Atto 0.85 to 0.9).
    """
    from torch import nn

    if not any(isinstance(module, nn.BatchNorm2d) for module in vision.modules()):
        return False
    convolutions = [module for module in vision.modules() if isinstance(module, nn.Conv2d)]
    n_convolved = sum(one.weight.numel() for one in convolutions if not _embeds_patches(one))
    return 2 * n_convolved > sum(weight.numel() for weight in vision.parameters())


def _embeds_patches(convolution: nn.Conv2d) -> bool:
    return convolution.in_channels == 3 and convolution.kernel_size == convolution.stride
