"""The same models on a CUDA device: the same values, but for rounding."""

import numpy as np
import pytest
import tiny_models
import torch

from deponij.pipeline.backbones import as_batch, load

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.mark.parametrize("maker", sorted(tiny_models.MAKERS))
def test_device_agrees_with_cpu(maker: str, shelf: tiny_models.Shelf) -> None:
    here, there = load(str(shelf[maker])), load(str(shelf[maker]), device="cuda")
    narrow = load(str(shelf[maker]), device="cuda", precision="bf16")
    pictures = tiny_models.pictures().values()
    transform = here.description.transform
    pixels = torch.from_numpy(np.stack([transform.pixels(image) for image in pictures]))
    batch = as_batch([transform.apply(image) for image in pictures])
    assert torch.equal(there.normalise(pixels).cpu(), batch)
    expected = here.embed_images(batch)
    values = there.embed_pixels(pixels)
    assert values.device.type == "cuda" and values.dtype == torch.float32
    scale = expected.abs().max()
    assert float((values.cpu() - expected).abs().max() / scale) < 1e-5  # TF32 would miss by 1e-3
    assert torch.nn.functional.cosine_similarity(narrow.embed_images(batch).cpu(), expected).min() > 0.98
    if here.description.has_text:
        texts = ["a can", "a plastic bottle"]
        assert torch.allclose(there.embed_texts(texts).cpu(), here.embed_texts(texts), atol=1e-4)
    for ours, theirs in zip(there.dense(batch), here.dense(batch), strict=True):
        assert float((ours.values.cpu() - theirs.values).abs().max() / theirs.values.abs().max()) < 1e-5
