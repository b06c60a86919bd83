"""What every backbone keeps, run over a tiny model of each family in its real format, and a fake entry."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from torch import nn

from deponij.pipeline.backbones import (
    Backbone,
    Description,
    FeatureMap,
    as_batch,
    describe,
    load,
    packaged,
    registry,
    sources,
)
from deponij.pipeline.backbones.catalog import entries
from deponij.pipeline.backbones.contract import Location
from deponij.pipeline.backbones.kinds import Kind
from deponij.pipeline.backbones.records import from_open_clip
from deponij.store.errors import BackboneError, UsageError

FAKE = "fake"
# Real ones, where their packages are installed; each is asked for by the folder that is made of it.
PACKAGED = [one.name for one in entries().values() if one.packaged and packaged.installed(one.packaged)]
ENTRIES = [*tiny_models.MAKERS, FAKE, *PACKAGED]
MAGIC = "fake.txt"


class Fake(Backbone):
    """The smallest family: mean colour, and the same numbers as token and map."""

    library = "numpy"
    weights_names = (MAGIC,)

    @classmethod
    def claims(cls, folder: Path) -> bool:
        return (folder / MAGIC).is_file()

    @classmethod
    def describe(cls, location: Location, input_px: tuple[int, int] | None = None) -> Description:
        transform = from_open_clip({}, (16, 16))
        transform = transform.for_input(*input_px) if input_px else transform
        return Description(
            name=location.name,
            family=cls.family,
            architecture="fake:1",
            dim=3,
            text_dim=3,
            input_px=transform.input_px,
            patch_px=8,
            n_blocks=2,
            token_dim=3,
            has_class_token=True,
            transform=transform,
            weights_sha256="0" * 64,
            tokenizer_sha256="1" * 64,
            source=location.source,
            revision=location.revision,
            library=cls.library,
        )

    @classmethod
    def open(cls, location: Location, description: Description) -> "Fake":
        return cls(description, nn.AvgPool2d(8))

    def _embed_images(self, batch: torch.Tensor) -> torch.Tensor:
        return batch.mean(dim=(2, 3))

    def _embed_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[len(text), text.count("a"), 1.0] for text in texts])

    def _tokens(self, batch: torch.Tensor, blocks: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        patches = self.model(batch).flatten(2).transpose(1, 2)
        return [(batch.mean(dim=(2, 3)), patches)] * blocks

    def _dense(self, batch: torch.Tensor, blocks: int | None) -> list[FeatureMap]:
        return [FeatureMap(f"block{i}", 8, self.model(batch)) for i in range(blocks or 1)]


@pytest.fixture(scope="module", autouse=True)
def fake_family() -> Iterator[None]:
    torch.set_num_threads(1)
    registry.register(FAKE)(Fake)
    yield
    registry.unregister(FAKE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    shelf = tiny_models.Shelf(tmp_path_factory.mktemp("models"))
    made = {name: shelf[name] for name in tiny_models.MAKERS}
    made[FAKE] = tmp_path_factory.mktemp("fake_model")
    (made[FAKE] / MAGIC).write_text("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(tmp_path_factory.mktemp("packages")))
        for name in PACKAGED:
            made[name] = sources.locate(entries()[name]).folder or Path()
    return made


@pytest.fixture(scope="module", params=ENTRIES)
def backbone(
    request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backbone]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPONIJ_CACHE", str(tmp_path_factory.mktemp("module_cache")))
        yield load(str(folders[request.param]))


@pytest.fixture(scope="module")
def images() -> Sequence[Image.Image]:
    return list(tiny_models.pictures().values())


@pytest.fixture
def batch(backbone: Backbone, images: Sequence[Image.Image]) -> torch.Tensor:
    return as_batch([backbone.description.transform.apply(image) for image in images])


def is_float32_on_cpu(values: torch.Tensor) -> bool:
    return values.dtype == torch.float32 and values.device.type == "cpu" and not values.requires_grad


def test_description_says_what_the_model_is(backbone: Backbone, batch: torch.Tensor) -> None:
    told = backbone.description
    assert told.family in registry.families()
    assert batch.shape[1:] == (3, *told.input_px) == (3, *told.transform.input_px)
    assert told.has_text == (told.text_dim is not None) == (told.tokenizer_sha256 is not None)
    assert len(told.weights_sha256) == 64
    assert not told.has_class_token or told.token_dim
    assert Description.from_record(told.to_record()) == told


def test_embeddings(backbone: Backbone, batch: torch.Tensor) -> None:
    values = backbone.embed_images(batch)
    assert values.shape == (len(batch), backbone.description.dim)
    assert is_float32_on_cpu(values)
    assert values.isfinite().all()
    assert values.std(dim=0).max() > 1e-3  # different pictures, different rows
    assert torch.equal(values, backbone.embed_images(batch))  # nothing random in evaluation mode
    # Not normalised: rows of one length would mean that somebody normalised them.
    assert values.norm(dim=1).std() > 1e-4


def test_mixed_batch_equals_one_by_one(backbone: Backbone, batch: torch.Tensor) -> None:
    together = backbone.embed_images(batch)
    alone = torch.cat([backbone.embed_images(batch[i : i + 1]) for i in range(len(batch))])
    assert float((together - alone).abs().max()) <= 1e-5


def test_pixels_on_the_device_give_the_same_bits(backbone: Backbone, images: Sequence[Image.Image]) -> None:
    transform = backbone.description.transform
    pixels = torch.from_numpy(np.stack([transform.pixels(image) for image in images]))
    floats = as_batch([transform.apply(image) for image in images])
    assert torch.equal(backbone.normalise(pixels), floats)
    assert torch.equal(backbone.embed_pixels(pixels), backbone.embed_images(floats))


def test_texts(backbone: Backbone) -> None:
    if not backbone.description.has_text:
        with pytest.raises(BackboneError, match="no text tower"):
            backbone.embed_texts(["a can"])
        return
    values = backbone.embed_texts(["a can", "a plastic bottle", ""])
    assert values.shape == (3, backbone.description.text_dim)
    assert is_float32_on_cpu(values)
    assert not torch.allclose(values[0], values[1])
    assert backbone.embed_texts([]).shape == (0, backbone.description.text_dim)
    many = backbone.embed_texts(["a can" if i % 2 else "a plastic bottle" for i in range(300)])
    assert torch.allclose(many[0::2], values[1].expand(150, -1), atol=1e-5)
    assert torch.allclose(many[1::2], values[0].expand(150, -1), atol=1e-5)


def test_tokens(backbone: Backbone, batch: torch.Tensor) -> None:
    told = backbone.description
    if not told.has_class_token:
        with pytest.raises(BackboneError, match="no class token"):
            backbone.tokens(batch)
        return
    values = backbone.tokens(batch, blocks=2)
    assert values.shape == (len(batch), 2, 2, told.token_dim)
    assert is_float32_on_cpu(values)
    assert torch.equal(backbone.tokens(batch, blocks=1), values[:, 1:])
    with pytest.raises(BackboneError, match="the last 99 blocks"):
        backbone.tokens(batch, blocks=99)


def test_dense(backbone: Backbone, batch: torch.Tensor) -> None:
    told = backbone.description
    maps = backbone.dense(batch)
    for one in maps:
        sides = (told.input_px[0] // one.stride_px, told.input_px[1] // one.stride_px)
        assert one.values.shape[0] == len(batch) and one.values.shape[2:] == sides
        assert is_float32_on_cpu(one.values)
    assert [one.stride_px for one in maps] == sorted(one.stride_px for one in maps)
    two = backbone.dense(batch, blocks=2)
    assert len(two) == 2 and torch.equal(two[-1].values, maps[-1].values)
    if told.patch_px is not None:
        assert [one.stride_px for one in maps] == [told.patch_px]
    with pytest.raises(BackboneError, match="99"):
        backbone.dense(batch, blocks=99)


def test_pyramid(backbone: Backbone, batch: torch.Tensor) -> None:
    told = backbone.description
    maps = backbone.dense(batch, blocks=2)
    levels = Kind.parse("pyramid@2").compute(backbone, batch)
    if told.patch_px is None:
        assert list(levels) == [f"stride{one.stride_px}" for one in maps]
    else:
        assert list(levels) == [f"stride{told.patch_px}_{one.name}" for one in maps]
    *finer, last = levels.values()
    assert torch.equal(finer[0], maps[0].values)
    if told.has_text and backbone.can_project:
        assert last.shape[1] == told.text_dim and is_float32_on_cpu(last)
        assert torch.equal(last, backbone.project(maps[1].values))
    else:
        assert torch.equal(last, maps[1].values)


@pytest.mark.parametrize("kind", ["dense@2", "pyramid@2"])
def test_a_flip_is_of_the_mirrored_picture(backbone: Backbone, batch: torch.Tensor, kind: str) -> None:
    mirrored = torch.from_numpy(np.ascontiguousarray(batch.numpy()[:, :, :, ::-1]))
    levels = Kind.parse(f"{kind}+flip").compute(backbone, batch)
    expected = Kind.parse(kind).compute(backbone, mirrored)
    assert list(levels) == list(expected)
    assert all(torch.equal(levels[name], values) for name, values in expected.items())


def test_convnext_pools_before_its_norm(folders: dict[str, Path], images: Sequence[Image.Image]) -> None:
    """`encode_image` is open_clip's own: pooled, then norm, then projection, which is not the mean of projected cells."""
    backbone = load(str(folders["open_clip_convnext"]))
    batch = as_batch([backbone.description.transform.apply(image) for image in images])
    with torch.inference_mode():
        expected = backbone.model.encode_image(batch)
    last = backbone.dense(batch)[-1].values  # [n, C, h', w']
    pooled = backbone.project(last.mean(dim=(2, 3), keepdim=True))[:, :, 0, 0]
    assert (pooled - expected).abs().max() <= 1e-5
    projected = Kind.parse("pyramid@4").compute(backbone, batch)["stride32"]
    assert (projected.mean(dim=(2, 3)) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 32, 32), (3, 32, 32)])
def test_other_shapes_are_refused(backbone: Backbone, shape: tuple[int, ...]) -> None:
    with pytest.raises(BackboneError, match=r"allowed: \[n, 3, "):
        backbone.embed_images(torch.zeros(shape))


def test_narrow_precision_stays_close(
    backbone: Backbone, batch: torch.Tensor, images: Sequence[Image.Image], folders: dict[str, Path]
) -> None:
    exact = backbone.embed_images(batch)
    folder = next(path for path in folders.values() if path.name == backbone.description.name)
    narrow = load(str(folder), precision="bf16")
    values = narrow.embed_images(batch)
    assert is_float32_on_cpu(values)
    cosine = nn.functional.cosine_similarity(values, exact)
    # A line of pixels drawn out to a square is no picture: EfficientNet-Lite0's bfloat16 gives 0.92 there, and
    # 0.994 and more on photographs.
    assert cosine[[min(image.size) > 1 for image in images]].min() > 0.98
    with pytest.raises(UsageError, match="load it again"):
        narrow.to("cpu", "fp32")


def test_describe_equals_the_loaded_description(backbone: Backbone, folders: dict[str, Path]) -> None:
    folder = next(path for path in folders.values() if path.name == backbone.description.name)
    assert describe(str(folder)) == backbone.description
    assert describe(str(folder)) == backbone.description  # and again, now remembered


def test_only_one_family_claims_a_folder(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        claiming = [one for one in registry.families().values() if one.claims(folder)]
        assert len(claiming) == 1, folder


def test_other_weights_other_hash_same_architecture(tmp_path: Path) -> None:
    first = describe(str(tiny_models.dinov2(tmp_path / "a", seed=0)))
    second = describe(str(tiny_models.dinov2(tmp_path / "b", seed=1)))
    assert first.architecture == second.architecture
    assert first.weights_sha256 != second.weights_sha256
    assert replace(second, name="a", source="folder:a", weights_sha256=first.weights_sha256) == first


def test_registry_refuses_duplicates_and_unknown_names() -> None:
    with pytest.raises(ValueError, match="is taken by"):
        registry.register(FAKE)(type("Other", (Fake,), {}))
    with pytest.raises(UsageError, match=r"Did you mean 'siglip'\?.*Known: .*dinov2"):
        registry.family("siglipp")


def test_input_sides_must_be_multiples_of_the_patch(folders: dict[str, Path]) -> None:
    for name, message in (
        ("dinov2", "14 px"),
        ("open_clip_vit", "8 px"),
        ("siglip", "8 px"),
        ("timm_vit", "16 px"),
    ):
        with pytest.raises(BackboneError, match=f"multiples of the patch, {message}"):
            load(str(folders[name]), input_px=(33, 50))


def test_unknown_precision(folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="allowed: fp32, bf16, fp16"):
        load(str(folders["dinov2"]), precision="fp8")


def test_family_without_a_method_names_it(folders: dict[str, Path]) -> None:
    values: Any = load(str(folders["dinov2"]))
    with pytest.raises(BackboneError, match=r"dinov2 \(family dinov2\) has no projection"):
        values.project(torch.zeros(1, 32, 2, 2))


def test_batch_at_an_odd_address_gives_the_same_bits(backbone: Backbone, batch: torch.Tensor) -> None:
    shifted = torch.empty(batch.numel() + 1)[1:].view(batch.shape).copy_(batch)
    aligned = batch.clone()
    assert shifted.data_ptr() % 64 and not aligned.data_ptr() % 64
    assert torch.equal(backbone.embed_images(shifted), backbone.embed_images(aligned))


def test_changed_files_are_described_anew(tmp_path: Path) -> None:
    folder = tiny_models.dinov2(tmp_path / "model", seed=0)
    before = describe(str(folder))
    record = folder / "preprocessor_config.json"
    record.write_text(record.read_text().replace("0.485", "0.486"))
    after = describe(str(folder))
    assert after.transform.mean[0] == 0.486
    assert replace(after, transform=before.transform) == before
    weights = folder / "model.safetensors"
    weights.write_bytes((tiny_models.dinov2(tmp_path / "other", seed=1) / "model.safetensors").read_bytes())
    assert describe(str(folder)).weights_sha256 != before.weights_sha256
