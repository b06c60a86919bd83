"""A backbone's image embedding as a module that learns.

What learns is told by `learning`; a tower that was just made learns nothing. Its dense maps for decoders are
`deponij.pipeline.backbones.trainable`.

Shape letters: n pictures, h and w the input's sides in px, d the embedding's width.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from deponij.pipeline.backbones.contract import Backbone, Description
from deponij.pipeline.backbones.trainable import reached, whole_modules
from deponij.store.errors import BackboneError


class Tower(nn.Module):
    """forward(normalised pixels float32 [n, 3, h, w]) -> embeddings [n, d], as published: not normalised.

    In evaluation mode they are those of `backbone.embed_images`, with gradients. The text tower, where there is one, is
    no part of the module.

    Args:
        backbone: in float32, of any input size (`load(input_px=...)`); its weights are the module's own from now on.
        checkpointing: blocks are computed again on the way back in place of being kept, by the model library's own
            switch: about a third more time for far less memory. Batch norms that learn then see each batch twice.

    Attributes:
        vision: the module that looks at pictures.

    Raises:
        BackboneError: it is not in float32, or checkpointing is asked for and its library has none for it.
    """

    def __init__(self, backbone: Backbone, *, checkpointing: bool = False) -> None:
        super().__init__()
        if backbone.precision != "fp32":
            raise BackboneError(
                f"{backbone.description.name} computes in {backbone.precision}; load it in fp32 to train it"
            )
        self.vision: nn.Module = backbone.vision
        self._backbone = [backbone]  # in a list, for a backbone is no module and must not become one
        self._modules_that_learn: list[nn.Module] = []
        self._keeps_moments = False
        self._checkpointed = _checkpointed(self.vision, backbone.description) if checkpointing else []
        self._peft: list[Any] = []  # in a list too: it holds the backbone's whole model
        self._part = self._having_a_part()
        self.eval()

    @property
    def backbone(self) -> Backbone:
        """What it was made of; it computes with the very same weights. Where the tower was moved to another device, its
        own `embed_images` needs `backbone.to(DEVICE)` first.
        """
        return self._backbone[0]

    @property
    def peft(self) -> Any | None:
        """peft's `PeftModel` of its adapters; None without."""
        return self._peft[0] if self._peft else None

    def adapted(self, peft_model: Any) -> None:
        """Say that modules of it have been wrapped."""
        self._peft = [peft_model]

    def parts(self) -> dict[str, nn.Parameter]:
        """Weights by their names in `vision` that have a part in the embedding; of adapters, all."""
        return {
            name: one
            for name, one in self.vision.named_parameters()
            if id(one) in self._part or ".lora_" in name
        }

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class.

        Raises:
            BackboneError: the pictures have another size than the backbone's input.
        """
        known, size_px = self.backbone.description, tuple(pixels.shape[2:])
        if size_px != known.input_px:
            raise BackboneError(
                f"{known.name}: pictures of {size_px[0]}x{size_px[1]} px; it was loaded for "
                f"{known.input_px[0]}x{known.input_px[1]}. Other sizes: load it with input_px=(height, width)"
            )
        return self.backbone._embed_images(pixels)

    @property
    def has_distillation_token(self) -> bool:
        """Whether its embedding is the mean of a class token and a distillation token (timm's distilled DeiT)."""
        return hasattr(self.vision, "set_distilled_training")

    def both_tokens(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Class token and distillation token [n, d] of what has both; their mean is the embedding."""
        tokens: Tensor = self.vision.forward_features(pixels)  # type: ignore[operator]
        return tokens[:, 0], tokens[:, 1]

    def learn(
        self,
        parameters: Iterable[nn.Parameter],
        also: Iterable[nn.Module] = (),
        *,
        keeps_moments: bool = False,
    ) -> None:
        """Let these weights learn and no others.

        Args:
            also: modules that are in training mode with what learns though weights in them do not (dropout of adapters).
            keeps_moments: batch norms go on with the means and variances that they have, and do not follow batches.
        """
        learning = {id(one): one for one in parameters}
        self.vision.requires_grad_(False)
        for parameter in learning.values():
            parameter.requires_grad_(True)
        everything = {id(one) for one in self.parts().values()} <= set(learning)
        whole = [self.vision] if everything else list(whole_modules(self.vision, set(learning)))
        self._modules_that_learn = [*whole, *also]
        self._keeps_moments = keeps_moments
        self.train(self.training)

    def train(self, mode: bool = True) -> "Tower":
        """Training mode for modules of which all weights learn; the others stay in evaluation mode."""
        super().train(False)
        self.training = mode
        for one in self._modules_that_learn:
            one.train(mode)
        if self._keeps_moments:
            for one in self.vision.modules():
                if isinstance(one, nn.modules.batchnorm._BatchNorm):
                    one.train(False)
        for one in self._checkpointed:  # transformers heeds its switch in training mode alone
            one.training = mode
        return self

    def _having_a_part(self) -> set[int]:
        """Ids of the weights that the embedding is made with: asked of autograd, whatever the family."""
        self.vision.requires_grad_(True)
        own = next(self.vision.parameters())
        pixels = torch.zeros(1, 3, *self.backbone.description.input_px, device=own.device)
        with torch.enable_grad():
            reached_ids = reached([self(pixels)])
        self.vision.requires_grad_(False)
        return reached_ids


def _checkpointed(vision: Any, known: Description) -> list[nn.Module]:
    """Switch checkpointing on; the blocks that must be in training mode for it."""
    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):
        if hasattr(vision, name):
            getattr(vision, name)({"use_reentrant": False})
            return [one for one in vision.modules() if getattr(one, "gradient_checkpointing", False)]
    with suppress(AttributeError, AssertionError):
        getattr(vision, "trunk", vision).set_grad_checkpointing(True)
    if not any(getattr(one, "grad_checkpointing", False) for one in vision.modules()):
        raise BackboneError(
            f"{known.name}: {known.library} has no gradient checkpointing for it; train it without, in smaller batches"
        )
    return []
