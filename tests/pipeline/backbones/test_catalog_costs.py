"""The catalog's figures of what a picture costs, against the architectures themselves and against published figures."""

import pytest

from benchmarks.backbone_costs import ARCHITECTURES, cost_of
from deponij.pipeline.backbones.catalog import entries


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_catalog_says_what_the_architecture_costs(name: str) -> None:
    """Built by the model's own library, without weights; three digits stand in the catalog."""
    entry, cost = entries()[name], cost_of(name)
    assert entry.n_params == cost.n_params
    assert entry.gflops == pytest.approx(cost.gflops, rel=5e-3)
    assert entry.activations_mb == pytest.approx(cost.activations_mb, rel=5e-3)


def test_every_entry_has_figures() -> None:
    minis = {name for name, entry in entries().items() if entry.package_folder}
    assert set(ARCHITECTURES) == set(entries()) - minis
    assert all(entry.n_params and entry.gflops and entry.activations_mb for entry in entries().values())


def test_a_transformer_costs_what_a_hand_counts() -> None:
    """ViT-B/16 at 224 px: 197 tokens of width 768, 12 blocks; a block has 12 matrices of width^2, and attention."""
    tokens, width, blocks = 197, 768, 12
    a_block = 2 * tokens * 12 * width**2 + 2 * (2 * tokens**2 * width)
    patches = 2 * 196 * (3 * 16 * 16) * width
    assert entries()["timm-vit-b-16"].gflops == pytest.approx((blocks * a_block + patches) / 1e9, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "millions"),
    # The sizes of the table in DINOv2's own README.
    [("dinov2-small", 21), ("dinov2-base", 86), ("dinov2-large", 300), ("dinov2-giant", 1100)],
)
def test_parameters_are_those_that_are_published(name: str, millions: int) -> None:
    n_params = entries()[name].n_params
    assert n_params is not None
    assert n_params / 1e6 == pytest.approx(millions, rel=0.06)


def test_memory_is_weights_and_a_batch_and_half_of_it_in_half_precision() -> None:
    entry = entries()["timm-resnet50"].model_copy(update={"n_params": 1_000_000, "activations_mb": 10.0})
    assert entry.weights_bytes == 4_000_000
    assert entry.memory_bytes(32, "fp32") == 4_000_000 + 320_000_000
    assert entry.memory_bytes(32, "bf16") == 162_000_000
    assert entry.model_copy(update={"n_params": None}).memory_bytes(32, "fp32") is None
