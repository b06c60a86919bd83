"""Tokens and dense maps of timm models, whether they stand alone or as an open_clip vision tower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deponij.pipeline.backbones.contract import FeatureMap, TowerFacts, block_maps
from deponij.store.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor


def facts(trunk: Any) -> TowerFacts:
    """The facts of a timm model, read off the model itself."""
    embed = getattr(trunk, "patch_embed", None)
    patch = getattr(embed, "patch_size", None)
    blocks = getattr(trunk, "blocks", None)
    # Only plain transformers keep one grid of tokens throughout: hierarchical ones have stages.
    if patch is None or blocks is None or not hasattr(trunk, "num_prefix_tokens"):
        return TowerFacts()
    if patch[0] != patch[1]:
        raise BackboneError(f"patch of {patch[0]}x{patch[1]} px: square patches are needed")
    has_class_token = getattr(trunk, "cls_token", None) is not None
    return TowerFacts(int(patch[0]), len(blocks), int(trunk.embed_dim), has_class_token)


def tokens(trunk: Any, batch: Tensor, blocks: int) -> list[tuple[Tensor, Tensor]]:
    """Class token [n, t] and patch tokens [n, patches, t] of the last blocks, final norm applied."""
    states = trunk.forward_intermediates(
        batch, indices=blocks, norm=True, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
    )
    return [(prefix[:, 0], patches) for patches, prefix in states]


def dense(trunk: Any, batch: Tensor, blocks: int | None) -> list[FeatureMap]:
    """Maps of the last blocks of a transformer (1 when None), or of the last stages (all when None).

    Raises:
        BackboneError: the model gives no intermediate maps, or fewer than asked for.
    """
    if not hasattr(trunk, "forward_intermediates"):
        raise BackboneError(f"timm's {type(trunk).__name__} gives no intermediate maps, so no dense features")
    known = facts(trunk)
    if known.n_blocks is not None and known.patch_px is not None:
        maps = trunk.forward_intermediates(batch, indices=blocks or 1, norm=True, intermediates_only=True)
        return block_maps(maps, known.n_blocks, known.patch_px)
    maps = trunk.forward_intermediates(batch, intermediates_only=True)
    known_strides = [int(info["reduction"]) for info in getattr(trunk, "feature_info", [])]
    measured = [round(batch.shape[2] / one.shape[2]) for one in maps]  # wrong by rounding on odd inputs
    strides = known_strides if len(known_strides) == len(maps) else measured
    named = zip(strides, maps, strict=True)
    return last([FeatureMap(f"stage{i + 1}", stride, one) for i, (stride, one) in enumerate(named)], blocks)


def last(maps: list[FeatureMap], count: int | None) -> list[FeatureMap]:
    """The last `count` maps, all when None.

    Raises:
        BackboneError: there are fewer.
    """
    if count is not None and count > len(maps):
        raise BackboneError(f"the last {count} stages were asked for; the model has {len(maps)}")
    return maps[-count:] if count else maps
