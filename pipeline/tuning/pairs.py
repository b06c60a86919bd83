"""A two-tower backbone that learns from pairs of pictures and texts.

Shape letters: n pairs, m texts, d width of the embedding, h and w sides of the input.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deponij.pipeline.backbones.contract import Backbone, Description
from deponij.pipeline.backbones.registry import families
from deponij.pipeline.backbones.trainable import reached, whole_modules
from deponij.pipeline.tuning.losses import clip_loss, siglip_loss
from deponij.pipeline.tuning.tower import Tower
from deponij.store.errors import UsageError

_HIGHEST_SCALE = 100.0  # Radford et al. 2021, section 2.5


class Pairs(nn.Module):
    """forward(normalised pixels float32 [n, 3, h, w]) -> embeddings of pictures [n, d] of length 1.

    Of the vision tower learns what `learning.let_learn` said. The temperature learns and, where the model has one, the
    bias of its logits; both begin as the backbone has them. The scale is held between 1 and 100, as CLIP's, or at the
    backbone's own where that lies beyond (published SigLIPs begin at 117).

    Args:
        tower: of a backbone with a text tower.
        text_learns: whether all of the text tower that has a part in its embedding learns.

    Raises:
        UsageError: the backbone has no text tower.
    """

    def __init__(self, tower: Tower, *, text_learns: bool = False) -> None:
        super().__init__()
        require_text(tower.backbone.description)
        self.model: nn.Module = tower.backbone.model
        self._tower = [tower]  # in a list, for its vision is a part of the model already
        own = float(self._scale.detach())
        self._bounds = min(0.0, own), max(math.log(_HIGHEST_SCALE), own)
        text = self._of_text() if text_learns else []
        self.learning_beside = (*text, self._scale, *([] if self._bias is None else [self._bias]))
        """What learns beside the vision tower."""
        for one in self.learning_beside:
            one.requires_grad_(True)
        self.n_text_weights = sum(one.numel() for one in text)
        self._modules_that_learn = list(whole_modules(self.model, {id(one) for one in text}))
        self.train(self.training)

    @property
    def tower(self) -> Tower:
        """Which looks at pictures."""
        return self._tower[0]

    @property
    def text_learns(self) -> bool:
        """Whether texts have other embeddings after each step."""
        return self.n_text_weights > 0

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return F.normalize(self.tower(pixels).float(), dim=-1)

    def token_ids(self, texts: list[str]) -> Tensor:
        """Integers [m, tokens], as `embed_token_ids` takes them; what is longer than the tower's context is cut."""
        return self.tower.backbone._token_ids(texts)

    def embed_token_ids(self, token_ids: Tensor) -> Tensor:
        """Embeddings of texts [m, d] of length 1, with gradients where the text tower learns."""
        return F.normalize(self.tower.backbone._embed_token_ids(token_ids).float(), dim=-1)

    def contrast(self, image: Tensor, text: Tensor, captions: Tensor) -> Tensor:
        """The family's own loss: sigmoid where the model has a bias (SigLIP), softmax where it has none (CLIP).

        Args:
            image, text: [n, d] of length 1.
            captions: int64 [n], equal where captions are.
        """
        self.hold_scale()
        with torch.autocast(image.device.type, enabled=False):
            image, text, scale = image.float(), text.float(), self._scale.exp()
            if self._bias is None:
                return clip_loss(image, text, scale, captions)
            return siglip_loss(image, text, scale, self._bias, captions)

    def hold_scale(self) -> None:
        """Bring the temperature back to its bounds, which a step may have left. Its gradient does not end there."""
        with torch.no_grad():
            self._scale.clamp_(*self._bounds)

    def train(self, mode: bool = True) -> "Pairs":
        """Training mode for modules of which all weights learn; the others stay in evaluation mode."""
        super().train(False)
        self.training = mode
        self.tower.train(mode)
        for one in self._modules_that_learn:
            one.train(mode)
        return self

    @property
    def _scale(self) -> nn.Parameter:
        """The logarithm of what cosines are multiplied by."""
        return self.model.get_parameter("logit_scale")

    @property
    def _bias(self) -> nn.Parameter | None:
        bias: nn.Parameter | None = getattr(self.model, "logit_bias", None)
        return bias

    def _of_text(self) -> list[nn.Parameter]:
        """Weights that the text embedding is made with: asked of autograd, whatever the family."""
        own = {id(one) for one in self.tower.vision.parameters()}
        others = [one for one in self.model.parameters() if id(one) not in own]
        for one in others:
            one.requires_grad_(True)
        with torch.enable_grad():
            reached_ids = reached([self.embed_token_ids(self.token_ids(["a"]).to(self._scale.device))])
        for one in others:
            one.requires_grad_(False)
        return [one for one in others if id(one) in reached_ids]


def require_text(known: Description) -> None:
    """Refuse a backbone without a text tower.

    Raises:
        UsageError: it has none; the families that can have one are named.
    """
    able = [name for name, one in families().items() if one._embed_token_ids is not Backbone._embed_token_ids]
    if not known.has_text or known.family not in able:
        raise UsageError(
            f"{known.name} (family {known.family}) has no text tower that captions could be learned with; families that "
            f"have one: {', '.join(sorted(able))}"
        )
