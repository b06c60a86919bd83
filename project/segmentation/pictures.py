"""Scenes whose pictures a network sees itself: for references, no part of any stage.

Shape letters: m pictures, h and w sides.
"""

from collections import OrderedDict
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.backbones.transform import Transform
from deponij.pipeline.pictures import Route, decode
from deponij.project.segmentation.drawing import Cut, Frame
from deponij.project.segmentation.sources import SceneSource
from deponij.store.scenes import Scenes

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

# Decoded pictures are kept up to here: an epoch of a few hundred small ones then decodes none again.
_KEPT_BYTES = 1 << 30


class PictureScenes(SceneSource):
    """Scenes whose pictures a network sees itself, as a backbone's transform makes them ready.

    Args:
        transform: to the input's size; nothing may be cropped.
        stride_px: of the network's coarsest level.
    """

    mirrors = True

    def __init__(
        self, scenes: Scenes, transform: Transform, stride_px: int, route: Route = Route.FULL
    ) -> None:
        self.scenes = scenes
        self.transform = transform
        self.route = route
        self.frame = Frame(transform.input_px, stride_px)
        self._kept: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._n_bytes = 0

    def has(self, item_id: str) -> bool:
        return self.scenes.items.keys[self.scenes.items.places[item_id]] is not None

    def picture(self, item_id: str) -> "Image.Image":
        """A picture as it was decoded, in its own size."""
        content = self.scenes.items.content(item_id)
        return decode(
            content, route=self.route, input_px=self.frame.input_px, keep_alpha=self.transform.keeps_alpha
        )

    def batches(self, plan: Iterable[Sequence[Cut]]) -> Generator[tuple[list[Cut], "Tensor"], None, None]:
        """Normalised pixels float32 [m, 3, h, w]."""
        import torch

        for batch in plan:
            rows = np.stack([self.transform.normalise(self._pixels(one)) for one in batch])
            yield list(batch), torch.from_numpy(rows).contiguous(memory_format=torch.channels_last)

    def _pixels(self, cut: Cut) -> NDArray[np.uint8]:
        pixels = self._whole(cut.item_id)
        return np.ascontiguousarray((pixels[:, ::-1] if cut.mirrored else pixels)[self.frame.slices(cut)])

    def _whole(self, item_id: str) -> NDArray[np.uint8]:
        if item_id in self._kept:
            self._kept.move_to_end(item_id)
            return self._kept[item_id]
        pixels = self.transform.pixels(self.picture(item_id))
        self._kept[item_id] = pixels
        self._n_bytes += pixels.nbytes
        while self._n_bytes > _KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._n_bytes -= oldest.nbytes
        return pixels
