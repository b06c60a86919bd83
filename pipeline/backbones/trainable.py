"""A backbone's maps as a module that learns: whole, its last stage alone, or not at all.

Frozen backbones run under inference mode and remember what they saw; this one is for training what comes before a decoder
too, and for frozen maps of windows that are encoded as windows.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from deponij.pipeline.backbones.contract import Backbone

Learns = Literal["all", "last", "none"]


class TrainablePyramid(nn.Module):
    """forward(normalised pixels [n, 3, h, w]) -> maps [n, c, h', w'], finest first.

    Its maps are those of `pyramid@K`: the last one projected where the family has words. Convolutional towers take
    pictures of any size, plain ViTs those of the backbone's own.

    Args:
        backbone: in float32; its weights are the module's own from now on.
        levels: number of last stages, K.
        learns: `all` that has a part in these maps, or the `last` stage alone (what the last map has for itself, its
            projection included), or `none`.
        fixed_norms: batch norms keep what they have learned of means and variances; those of stages that do not learn
            always do.

    Raises:
        BackboneError: it is not in float32, or has no such maps.
    """

    def __init__(
        self, backbone: "Backbone", levels: int = 4, learns: Learns = "all", *, fixed_norms: bool = False
    ) -> None:
        super().__init__()
        if backbone.precision != "fp32":
            raise BackboneError(
                f"{backbone.description.name} computes in {backbone.precision}; load it in fp32 to train it"
            )
        self.vision: nn.Module = backbone.vision
        self._backbone = [backbone]  # in a list, for a backbone is no module and must not become one
        self._levels = levels
        self._fixed_norms = fixed_norms
        self._head = backbone._head() if backbone.description.has_text else None
        learning = self._having_a_part(learns)
        self.vision.requires_grad_(False)
        for parameter in learning:
            parameter.requires_grad_(True)
        self._learning = list(whole_modules(self.vision, {id(one) for one in learning}))
        if learns == "all":
            self._learning = [self.vision]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See the class.

        Raises:
            BackboneError: a plain ViT, and the pictures have another size.
        """
        (backbone,) = self._backbone
        known, size_px = backbone.description, tuple(pixels.shape[2:])
        if known.patch_px is not None and size_px != known.input_px:
            raise BackboneError(
                f"{known.name}: pictures of {size_px[0]}x{size_px[1]} px; its patches are laid for "
                f"{known.input_px[0]}x{known.input_px[1]}. Other sizes: load it with input_px=(height, width)"
            )
        return self._maps(pixels, self._levels)

    def train(self, mode: bool = True) -> "TrainablePyramid":
        """Training mode for what learns alone."""
        super().train(False)
        self.training = mode
        for one in self._learning:
            one.train(mode)
            for part in one.modules():
                if self._fixed_norms and isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()
        return self

    def _maps(self, pixels: Tensor, levels: int) -> list[Tensor]:
        (backbone,) = self._backbone
        maps = [one.values for one in backbone._dense(pixels, levels)]
        if self._head is not None:
            maps[-1] = self._head(maps[-1])
        return maps

    def _having_a_part(self, learns: Learns) -> list[nn.Parameter]:
        """Parameters that the maps, or the last one alone, are made with: asked of autograd, whatever the family."""
        if learns == "none":
            return []
        self.vision.requires_grad_(True)
        own = next(self.vision.parameters())
        pixels = torch.zeros(1, 3, *self._backbone[0].description.input_px, device=own.device)
        with torch.enable_grad():
            maps = self._maps(pixels, max(self._levels, 2) if learns == "last" else self._levels)
        reached_ids = reached(maps)
        if learns == "last":
            reached_ids -= reached(maps[:-1])
        return [one for one in self.vision.parameters() if id(one) in reached_ids]


def reached(maps: list[Tensor]) -> set[int]:
    """Ids of the parameters in the graph of these tensors."""
    seen: set[Any] = set()
    waiting: list[Any] = [one.grad_fn for one in maps]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [one for one, _ in node.next_functions]
    return {id(one.variable) for one in seen if hasattr(one, "variable")}


def whole_modules(module: nn.Module, learning: set[int]) -> Iterator[nn.Module]:
    """The largest modules all of whose parameters learn."""
    parameters = list(module.parameters())
    if parameters and all(id(one) in learning for one in parameters):
        yield module
    elif parameters:
        for child in module.children():
            yield from whole_modules(child, learning)
