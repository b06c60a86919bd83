"""New networks: how many weights they have, what is drawn, what they give as backbones, what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from deponij.pipeline.backbones import describe, load
from deponij.pipeline.backbones.access import locate
from deponij.pipeline.backbones.new import ALIASES
from deponij.pipeline.backbones.own_networks import AtResNet18, _Asking
from deponij.stages import weights
from deponij.store.errors import BackboneError, UsageError
from deponij.store.sealed import read_sealed

# Of timm's: made in no time, for its weights are few.
TINY = "new:test_vit@32"
RESNET_18 = 11_689_512  # torchvision's documentation, 1,000 classes
RESNET_BODY = RESNET_18 - 512 * 1000 - 1000


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One for all tests of this module."""
    folder = tmp_path_factory.getbasetemp() / "new-networks"
    monkeypatch.setenv("DEPONIJ_CACHE", str(folder))
    return folder


def network_of(name: str, **arguments: int) -> nn.Module:
    made: nn.Module = timm.create_model(ALIASES[name], **arguments)
    return made


def n_parameters(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


@pytest.mark.parametrize(
    ("name", "n_classes", "wanted"),
    [
        ("resnet-18", 1000, RESNET_18),
        # timm's results table: 5.72 and 5.91 million
        ("deit-ti", 1000, 5_717_416),
        ("deit-ti-distilled", 1000, 5_910_800),
        # two heads of 192 inputs and ten classes in the place of 1,000
        ("deit-ti-distilled", 10, 5_910_800 - 2 * 193 * 990),
        ("resnet-18", 10, RESNET_BODY + 5130),
        # the encoders' arithmetic is in the next test
        ("atresnet-18", 10, RESNET_BODY + 4_768_000 + 2570),
    ],
)
def test_weights_are_as_many_as_published(name: str, n_classes: int, wanted: int) -> None:
    assert n_parameters(network_of(name, num_classes=n_classes)) == wanted


def test_what_atresnet_adds() -> None:
    """4.77 million over a ResNet-18 of the same ten classes: keys and values of 56², 28², 14² and 7² positions."""
    positions = 56**2 + 28**2 + 14**2 + 7**2
    attention = 2 * 256 * positions + 4 * (
        2 * 256**2 + 4 * 256
    )  # keys and values; queries and outputs; biases
    mlps = 4 * (2 * 256 * 1024 + 1024 + 256)
    norms, token = (4 * 2 + 1) * 2 * 256, 256
    assert attention + mlps + norms + token == 4_768_000
    added = RESNET_BODY + 4_768_000 + 2570 - (RESNET_BODY + 5130)
    assert (added, round(added / 1e6, 2)) == (4_765_440, 4.77)


def test_the_token_asks_channels_as_a_plain_computation_does() -> None:
    """One query of the class token; a channel's key and value are linear in its positions; 8 heads of 32 numbers."""
    torch.manual_seed(0)
    asking = _Asking(9).eval()
    token, channels = torch.randn(2, 1, 256), torch.randn(2, 5, 9)
    own = asking.attention
    q_bias, k_bias, v_bias = own.in_proj_bias.chunk(3)
    q = asking.norm1(token) @ own.q_proj_weight.T + q_bias
    k, v = channels @ own.k_proj_weight.T + k_bias, channels @ own.v_proj_weight.T + v_bias

    def heads(values: Tensor) -> Tensor:
        return values.unflatten(2, (8, 32)).transpose(1, 2)

    weights = (heads(q) @ heads(k).transpose(2, 3) / 32**0.5).softmax(-1)  # [2, 8, 1, 5]
    found = token + own.out_proj((weights @ heads(v)).transpose(1, 2).flatten(2))
    wanted = found + asking.mlp(asking.norm2(found))
    torch.testing.assert_close(asking(token, channels), wanted, rtol=1e-4, atol=1e-5)


def test_atresnet_is_tied_to_its_size_and_learns_everywhere() -> None:
    network = network_of("atresnet-18", num_classes=3, img_size=32)
    logits = network(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert [name for name, one in network.named_parameters() if one.grad is None] == []
    assert not hasattr(network, "global_pool")
    with pytest.raises(UsageError, match="32x32 px, and pictures of 64x64"):
        network(torch.zeros(1, 3, 64, 64))
    with pytest.raises(UsageError, match="multiples of 32"):
        AtResNet18(3, 100)


def test_the_small_stem_shrinks_nothing() -> None:
    """3x3 and 7x7 kernels of 3 and 64 channels; the first stage sees 32 px and not 8."""
    small = network_of("resnet-18-small", num_classes=10).eval()
    assert n_parameters(small) == RESNET_BODY + 5130 - 3 * 64 * (49 - 9)
    seen: list[torch.Size] = []
    first = small.get_submodule("layer1")
    first.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert small(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert seen == [(1, 64, 32, 32)]


def test_the_small_resnet_is_a_backbone_with_maps() -> None:
    """Its stages halve from the second on, as in He et al. 2016; the embedding is the mean of the last map."""
    spec = "new:resnet-18-small@32"
    found = load(spec)
    assert (found.description.dim, found.description.input_px, found.description.source) == (
        512,
        (32, 32),
        spec,
    )
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = found.dense(pixels, 4)
    assert [(one.stride_px, tuple(one.values.shape[1:])) for one in maps] == [
        (1, (64, 32, 32)),
        (2, (128, 16, 16)),
        (4, (256, 8, 8)),
        (8, (512, 4, 4)),
    ]
    torch.testing.assert_close(found.embed_images(pixels), maps[-1].values.mean((2, 3)))
    assert load(spec, input_px=(48, 64)).embed_images(torch.zeros(1, 3, 48, 64)).shape == (1, 512)


def test_atresnet_is_a_backbone_whose_embedding_is_its_class_token() -> None:
    found = load("new:atresnet-18@32")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = network_of("atresnet-18", num_classes=0, img_size=32).eval()
    network.load_state_dict(found.model.state_dict())
    with torch.no_grad():
        wanted = network(pixels)
    assert found.description.dim == 256
    torch.testing.assert_close(found.embed_images(pixels), wanted)
    with pytest.raises(UsageError, match="made for 32x32 px, and pictures of 64x64"):
        load("new:atresnet-18@32", input_px=(64, 64))


def test_pictures_of_its_size_are_seen_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    transform = describe(TINY).transform
    assert np.array_equal(transform.pixels(Image.fromarray(pixels)), pixels)
    # ImageNet's moments, as torchvision's documentation has them
    assert (transform.mean, transform.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    wide = Image.fromarray(pixels).resize((64, 32))
    assert transform.pixels(wide).shape == (32, 32, 3)


def test_without_a_size_it_is_the_published_one() -> None:
    assert describe("new:resnet-18-small").input_px == (32, 32)
    assert describe("new:test_vit").input_px == (160, 160)  # timm's record


def test_a_seed_draws_the_same_bytes_whatever_was_drawn_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = weights_of(TINY), weights_of(f"{TINY}#1")
    monkeypatch.setenv("DEPONIJ_CACHE", str(tmp_path))
    torch.rand(7)
    assert weights_of(TINY) == one != other
    file = locate(TINY).folder_of("timm") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert weights_of(TINY) == one, "what is damaged is drawn anew"


def weights_of(spec: str) -> bytes:
    return (locate(spec).folder_of("timm") / "model.safetensors").read_bytes()


def test_it_is_drawn_as_its_library_draws_it() -> None:
    torch.manual_seed(0)
    wanted = timm.create_model("test_vit", num_classes=0, img_size=32).state_dict()
    found = load(TINY).model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], one) for name, one in wanted.items())


def test_a_profile_names_it_like_any_other(tmp_path: Path) -> None:
    found = weights.run({"vit": TINY}, tmp_path)["vit"]
    assert (found.source, found.revision, found.family) == (TINY, None, "timm")
    assert read_sealed(tmp_path / "vit.json", "")["spec"] == TINY


@pytest.mark.parametrize(
    ("spec", "kind", "told"),
    [
        ("new:resnet-81", UsageError, "Did you mean 'resnet-18'"),
        ("new:test_vit.r160_in1k", UsageError, "Did you mean 'test_vit'"),
        ("new:", UsageError, "nothing after new:"),
        ("new:resnet-18@", UsageError, "new:resnet-18-small@32"),
        ("new:resnet-18@0", UsageError, "new:resnet-18-small@32"),
        ("new:resnet-18@32x32", UsageError, "new:resnet-18-small@32"),
        ("new:atresnet-18@100", UsageError, "multiples of 32"),
        ("new:test_vit@33", UsageError, "no pictures of 33x33 px"),
        ("new:vgg11@8", UsageError, "takes no pictures of 8x8 px"),
        ("new:test_vit@100000", BackboneError, "allowed: 1 to 2,048"),
    ],
)
def test_what_cannot_be_is_told(spec: str, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        describe(spec)
