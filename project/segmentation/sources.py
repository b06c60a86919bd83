"""Where a network that segments has its inputs from: maps that a frozen backbone stored, or the pictures themselves.

Shape letters: m pictures, C channels, h and w sides.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deponij.project.segmentation.drawing import Cut, Frame
from deponij.store.errors import DataError, UsageError
from deponij.store.reading import MapLevel, MapReader
from deponij.store.scenes import Scenes
from deponij.store.view import View

if TYPE_CHECKING:
    from torch import Tensor


class SceneSource(ABC):
    """Scenes, and what a network sees of them.

    Attributes:
        scenes: with their label maps.
        frame: the pixels in which they are seen.
        mirrors: whether mirrored pictures can be had.
    """

    scenes: Scenes
    frame: Frame
    mirrors: bool

    @abstractmethod
    def has(self, item_id: str) -> bool:
        """Whether a picture can be seen."""

    @abstractmethod
    def batches(self, plan: Iterable[Sequence[Cut]]) -> Generator[tuple[list[Cut], Any], None, None]:
        """Batches read ahead: what was wanted in the order in which it comes, and the network's first argument."""

    def ids(self, parts: Iterable[str]) -> list[str]:
        """Pictures of these parts that can be seen, in the scenes' order.

        Raises:
            DataError: there are none.
        """
        parts = list(parts)
        ids = [one for part in parts for one in self.scenes.ids(part) if self.has(one)]
        if not ids:
            raise DataError(
                f"no picture of the part {' or '.join(parts)} has features and a label map; see how the scenes are split"
            )
        return ids

    def left_out(self, parts: Iterable[str]) -> list[str]:
        """Pictures of these parts that cannot be seen, whose reasons are in the view's failure table."""
        return [one for part in parts for one in self.scenes.ids(part) if not self.has(one)]


class StoredScenes(SceneSource):
    """Scenes with maps that lie in a depot.

    Args:
        plain: maps of the pictures.
        mirrored: of the mirrored ones, where they are stored.
    """

    def __init__(self, scenes: Scenes, plain: MapReader, mirrored: MapReader | None) -> None:
        self.scenes = scenes
        self.plain = plain
        self.mirrored = mirrored
        self.frame = Frame(plain.input_px, plain.levels[-1].stride_px)
        self.mirrors = mirrored is not None

    @classmethod
    def open(cls, scenes: Path, view: Path, flipped: Path | None, depot: str) -> "StoredScenes":
        """Open all of it.

        Args:
            flipped: view of the mirrored pictures; None, or one without rows, where they are not stored.

        Raises:
            StoreError: something is missing or damaged, or maps are not of these pictures; the message says how they
                are had.
            UsageError: the maps are those of the mirrored pictures, or there are none.
            IdentityError: those of the mirrored pictures were not made as the others were.
        """
        plain = View(view)
        mirrored = None if flipped is None else View(flipped)
        _check_kinds(plain, mirrored)
        opened, stored = Scenes(scenes), [plain, mirrored] if mirrored else [plain]
        for one in stored:
            one.require_pictures_of(opened.items)
            one.open_depot(depot)
        return cls(opened, MapReader(plain), MapReader(mirrored) if mirrored else None)

    @property
    def view(self) -> View:
        """Of the pictures that are not mirrored."""
        return self.plain.view

    @property
    def levels(self) -> tuple[MapLevel, ...]:
        """Finest first."""
        return self.plain.levels

    @cached_property
    def _there(self) -> frozenset[str]:
        there = frozenset(self.view.ids.tolist())
        return there if self.mirrored is None else there & frozenset(self.mirrored.view.ids.tolist())

    def has(self, item_id: str) -> bool:
        return item_id in self._there

    def batches(
        self, plan: Iterable[Sequence[Cut]]
    ) -> Generator[tuple[list[Cut], "list[Tensor]"], None, None]:
        """Maps as float32 tensors [m, C, h, w], finest first; pictures come before mirrored ones."""
        ordered = [sorted(batch, key=lambda one: one.mirrored) for batch in plan]
        readers = [self.plain] if self.mirrored is None else [self.plain, self.mirrored]
        with ExitStack() as stack:
            parts = [
                stack.enter_context(closing(reader.batches([_asked(batch, bool(way)) for batch in ordered])))
                for way, reader in enumerate(readers)
            ]
            for batch, *pieces in zip(ordered, *parts, strict=True):
                full = [one for one in pieces if len(next(iter(one.values())))]
                yield batch, [_tensor([one[level.name] for one in full]) for level in self.levels]


def _check_kinds(plain: View, mirrored: View | None) -> None:
    if plain.identity.is_mirrored:
        raise UsageError(
            f"{plain.path} holds maps of mirrored pictures ({plain.kind}): name it with --flipped, and the maps of the "
            "pictures as they are with --maps"
        )
    if not plain:
        raise UsageError(f"{plain.path} holds no maps; `deponij extract --kind {plain.kind}` makes them")
    if mirrored:
        plain.identity.mirrored().require_equal(mirrored.identity, str(mirrored.path))


def _asked(batch: Sequence[Cut], mirrored: bool) -> tuple[list[str], list[Any] | None]:
    mine = [one for one in batch if one.mirrored == mirrored]
    windows = [one.window for one in mine if one.window is not None]
    return [one.item_id for one in mine], windows or None


def _tensor(parts: Sequence[NDArray[np.floating]]) -> "Tensor":
    import torch

    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return torch.from_numpy(joined).to(torch.float32, memory_format=torch.channels_last)
