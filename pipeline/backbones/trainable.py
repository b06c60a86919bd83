"""A backbone's maps as a module that learns: whole, its last stage alone, or not at all.

Frozen backbones run under inference mode and remember what they saw; this one is for training what comes before a decoder
too, and for frozen maps of windows that are encoded as windows.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from deponij.pipeline.backbones.contract import Backbone

Learns = Literal["all", "last", "none"]


class TrainablePyramid(nn.Module):
    """forward(normalised pixels [n, 3, h, w] of any size that the family takes) -> maps [n, c, h', w'], finest first.

    Its maps are those of `pyramid@K`: the last one projected where the family has words.

    Args:
        backbone: in float32; its weights are the module's own from now on.
        levels: number of last stages, K.
        learns: `all`, the `last` stage alone (with what comes behind it), or `none`.
        fixed_norms: batch norms keep what they have learned of means and variances.
    """

    def __init__(
        self, backbone: "Backbone", levels: int = 4, learns: Learns = "all", *, fixed_norms: bool = False
    ) -> None:
        super().__init__()
        self.vision: nn.Module = backbone.vision
        self._backbone = [backbone]  # in a list, for a backbone is no module and must not become one
        self._levels = levels
        self._fixed_norms = fixed_norms
        self._head = backbone._head() if backbone.description.has_text else None
        self.vision.requires_grad_(learns == "all")
        self._learning: list[nn.Module] = [self.vision] if learns == "all" else []
        if learns == "last":
            self._learning = list(_last_stage(backbone))
            for one in self._learning:
                one.requires_grad_(True)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """See the class."""
        (backbone,) = self._backbone
        maps = [one.values for one in backbone._dense(pixels, self._levels)]
        if self._head is not None:
            maps[-1] = self._head(maps[-1])
        return maps

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


def _last_stage(backbone: "Backbone") -> Iterator[nn.Module]:
    """Modules of the last stage of a convolutional tower, or the last block of a transformer.

    Raises:
        BackboneError: the tower does not say where its stages are.
    """
    tower = getattr(backbone.vision, "trunk", backbone.vision)
    for name in ("stages", "blocks", "layers"):
        stages = getattr(tower, name, None)
        if isinstance(stages, nn.ModuleList | nn.Sequential) and len(stages):
            yield stages[-1]
            return
    layer = getattr(tower, "layer4", None)
    if not isinstance(layer, nn.Module):
        raise BackboneError(
            f"{backbone.description.name}: where its last stage begins is not known; train all of it, or none"
        )
    yield layer
