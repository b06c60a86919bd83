"""One backbone on this machine, and the features that it makes. This is no stage.

Which backbone it is, is the business of `found_backbones`; where rows are kept, that of whoever asks for them.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from deponij.pipeline.backbones.contract import Description
from deponij.pipeline.backbones.extraction import AUTO_BATCH, Picture, Progress, Rows, extract
from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.pictures import Route
from deponij.project.extraction.devices import load_backbone
from deponij.project.frame.device import pick_device
from deponij.project.frame.settings import RunOptions
from deponij.store.errors import StoreError, exhaustion_told
from deponij.store.identity import Identity
from deponij.store.items import Items

if TYPE_CHECKING:
    from deponij.pipeline.backbones.contract import Backbone

# Maps of a batch are in memory several times until they are a shard: 5 MB each of a ConvNeXt-B at 360 x 480 px.
MAPS_BATCH = 16


@dataclass(frozen=True, slots=True)
class FoundBackbone:
    """A backbone on this machine, and how it makes features of one identity.

    Attributes:
        name: what its features are called after.
        spec: by which it is loaded.
        input_px: (height, width) other than the published one, or None.
    """

    name: str
    spec: str
    description: Description
    identity: Identity
    kind: Kind
    route: Route
    input_px: tuple[int, int] | None


def pictures_of(items: Items, keys: Iterable[str]) -> Iterator[Picture]:
    """One picture for each key, in item order; one whose file is gone or has changed carries that as its failure."""
    yield from pictures_at(items, first_rows(items.keys, keys))


def first_rows(of_items: Iterable[str | None], keys: Iterable[str]) -> dict[int, str]:
    """Row -> key, of the first item of each key, in item order; nothing is held of other items."""
    wanted, key_of = set(keys), dict[int, str]()
    for row, key in enumerate(of_items):
        if key in wanted:
            key_of[row] = key
            wanted.discard(key)
    return key_of


def pictures_at(items: Items, key_of: Mapping[int, str]) -> Iterator[Picture]:
    """The pictures of rows with their keys; as `pictures_of`."""
    for row, found in items.found(list(key_of)):
        if isinstance(found, StoreError):
            yield Picture(key_of[row], b"", str(found))
        else:
            yield Picture(key_of[row], found)


@dataclass(frozen=True)
class FeatureMaker:
    """Makes the features of one backbone; the model is loaded when it is first needed.

    Attributes:
        lender: has the same model, which is not loaded twice.
    """

    backbone: FoundBackbone
    options: RunOptions
    lender: "FeatureMaker | None" = None

    @cached_property
    def device(self) -> str:
        """On which it runs.

        Raises:
            UsageError: the one that was asked for is not there.
        """
        return pick_device(self.options.device)

    @cached_property
    def model(self) -> "Backbone":
        """The model on its device."""
        if self.lender is not None:
            return self.lender.model
        backbone = self.backbone
        precision, n_threads = backbone.identity.precision, self.options.n_threads
        with exhaustion_told():  # a worker would blame the pictures that it was given first
            return load_backbone(backbone.spec, self.device, precision, n_threads, backbone.input_px)

    def progress(self) -> Progress:
        """Of an extraction to come, with the device's batch size where none was asked for."""
        size = AUTO_BATCH[self.device.partition(":")[0]]
        if not self.backbone.kind.in_view:
            size = min(size, MAPS_BATCH)
        return Progress(self.options.n_workers, self.options.batch_size or size)

    def rows(self, pictures: Iterable[Picture], progress: Progress) -> Iterator[Rows]:
        """Batches of features; see `deponij.pipeline.backbones.extraction.extract`."""

        def load() -> "Backbone":
            begin = time.perf_counter()
            model = self.model
            progress.load_s = time.perf_counter() - begin
            return model

        return extract(
            pictures,
            load,
            transform=self.backbone.description.transform,
            kind=self.backbone.kind,
            route=self.backbone.route,
            stored=self.backbone.identity.stored,
            progress=progress,
        )
