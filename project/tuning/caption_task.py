"""Learning from captions of pictures, as `pipeline.training` wants it: batches, loss, validation.

Shape letters: n pictures, m captions, d width of the embedding, h and w sides of the input.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.training.params import TrainingParams
from deponij.project.extraction.feature_maker import FoundBackbone
from deponij.project.tuning.data import ToldItems
from deponij.project.tuning.params import Recipe
from deponij.project.tuning.pictures import Pictures
from deponij.project.tuning.recalls import hits
from deponij.project.tuning.task import PictureTask, shared_parts

if TYPE_CHECKING:
    from torch import Tensor

    from deponij.pipeline.tuning.pairs import Pairs

_ASKED = 256  # texts a forward pass
_TEXTS = 4  # in validation, for each picture


@dataclass(kw_only=True)
class CaptionTask(PictureTask):
    """A two-tower model that learns which caption each picture of a batch has.

    Pictures of one caption are no negatives of each other: with the sigmoid loss all their pairs are positive, with the
    softmax loss the target is spread evenly over them.

    Attributes:
        model: gives embeddings of pictures [n, d] of length 1.
        texts: of all m captions what goes into a batch: embeddings [m, d] where the text tower is frozen, computed once,
            else token ids [m, tokens].
    """

    # Negatives are those of the batch: a smaller one has another loss.
    accumulates: ClassVar[bool] = False

    model: "Pairs"
    texts: "Tensor"

    @property
    def chooses(self) -> bool:
        """As in `PictureTask`; where all have one caption, every picture finds it."""
        return len(np.unique(self.val_targets)) > 1

    def _batch(self, pixels: "Tensor", places: list[int], epoch: int, number: int) -> "tuple[Tensor, ...]":
        """Pixels float32 [n, 3, h, w], captions int64 [n], and `texts` of these."""
        import torch

        captions = torch.from_numpy(self.targets[places])
        return pixels, captions, self.texts[captions]

    def loss(self, batch: "tuple[Tensor, ...]") -> "Tensor":
        """Of one batch."""
        pixels, captions, texts = batch
        words = self.model.embed_token_ids(texts) if self.model.text_learns else texts
        return self.model.contrast(self.model(pixels), words, captions)

    def stand_in(self, n: int) -> "tuple[Tensor, ...]":
        """As in `PictureTask`."""
        import torch

        captions = torch.arange(n) % len(self.texts)
        return torch.zeros(n, 3, *self.transform.input_px), captions, self.texts[captions]

    def validate(self) -> dict[str, float]:
        """Recall@1 of the pictures to choose on, which are seen as they are: the mean of both ways, and each."""
        if not self.chooses:
            return {}
        recalls = hits(self.outputs(self.val_rows), self.words(), self.val_targets).recall_at_1
        return {"recall@1": float(np.mean(list(recalls.values())))} | {
            f"{way} recall@1": one for way, one in recalls.items()
        }

    def words(self) -> NDArray[np.float32]:
        """Embeddings of all captions as they are now, float32 [m, d]."""
        texts = (
            embedded(self.model, self.texts, _TEXTS * self.asked) if self.model.text_learns else self.texts
        )
        return texts.cpu().numpy()


def caption_task(
    recipe: Recipe,
    training: TrainingParams,
    network: "Pairs",
    backbone: FoundBackbone,
    data: ToldItems,
    pictures: Pictures,
    workers: int = 0,
) -> CaptionTask:
    """What a recipe trains on captions.

    Args:
        network: on the device that it learns on.
        workers: processes that augment.

    Raises:
        DataError: nothing is left to learn from.
    """
    from torch import nn

    from deponij.pipeline.tuning.learning import groups

    token_ids = network.token_ids(data.names.tolist())
    return CaptionTask(
        **shared_parts(recipe, training, backbone, data, pictures),
        model=network,
        texts=token_ids if network.text_learns else embedded(network, token_ids),
        parts=groups(
            network.tower,
            nn.ParameterList(network.learning_beside),
            lr_decay=recipe.layer_decay,
            head_lr_factor=recipe.head_lr,
        ),
        workers=workers,
    )


def embedded(network: "Pairs", token_ids: "Tensor", asked: int = _ASKED) -> "Tensor":
    """Embeddings of texts [m, d] of length 1, without gradients, on the CPU; so many are asked for at once."""
    import torch

    device = next(network.parameters()).device
    with torch.no_grad():
        chunks = torch.split(token_ids, asked)
        return torch.cat([network.embed_token_ids(one.to(device)).cpu() for one in chunks])
