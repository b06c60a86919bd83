"""Networks by name: how many weights they have, what they give, what they refuse."""

import pytest
import torch
from torch import Tensor, nn

from deponij.pipeline.tuning.atresnet import AtResNet18, _Asking
from deponij.pipeline.tuning.models import NetworkParams, build_network, n_parameters
from deponij.store.errors import UsageError

# A network of timm's that is made in no time: its size is given, its weights are few.
SMALL = "mobilenetv3_small_050"
RESNET_18 = 11_689_512  # torchvision's documentation, 1,000 classes
RESNET_BODY = RESNET_18 - 512 * 1000 - 1000


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
    assert n_parameters(build_network(NetworkParams(name=name), n_classes)) == wanted


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
    network = build_network(NetworkParams(name="atresnet-18", size_px=32), 3)
    logits = network(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert [name for name, one in network.named_parameters() if one.grad is None] == []
    assert not hasattr(network, "avgpool")
    with pytest.raises(UsageError, match="32 px, and pictures of 64x64"):
        network(torch.zeros(1, 3, 64, 64))
    with pytest.raises(UsageError, match="multiple of 32"):
        AtResNet18(3, 100)


def test_the_small_stem_shrinks_nothing() -> None:
    """3x3 and 7x7 kernels of 3 and 64 channels; the first stage sees 32 px and not 8."""
    small = build_network(NetworkParams(name="resnet-18", stem="small"), 10).eval()
    assert n_parameters(small) == RESNET_BODY + 5130 - 3 * 64 * (49 - 9)
    seen: list[torch.Size] = []
    first = small.get_submodule("layer1")
    first.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert small(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert seen == [(1, 64, 32, 32)]


def test_two_heads_answer_in_training_and_their_mean_afterwards() -> None:
    """timm gives the mean in training too, unless it is told otherwise."""
    network = build_network(NetworkParams(name="deit-ti-distilled", size_px=32), 4)
    pixels = torch.randn(2, 3, 32, 32)
    both = network.train()(pixels)
    assert isinstance(both, tuple)
    torch.testing.assert_close(network.eval()(pixels), (both[0] + both[1]) / 2)
    assert not torch.equal(both[0], both[1])


def test_everything_else_is_timms() -> None:
    network = build_network(NetworkParams(name=SMALL, drop_path=0.1), 7)
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    for params, said in [
        (NetworkParams(name="resnet-81"), "resnet-18"),
        (NetworkParams(name=SMALL, size_px=64), "size_px"),
        (NetworkParams(name=SMALL, stem="small"), "stem"),
        (NetworkParams(name="resnet-18", drop_path=0.1), "drop_path"),
    ]:
        with pytest.raises(UsageError, match=said):
            build_network(params, 7)


def test_a_seed_draws_the_same_network_and_leaves_the_generator() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    one, same, other = (build_network(NetworkParams(name=SMALL), 2, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.rand(2), wanted)
    assert torch.equal(flat(one), flat(same)) and not torch.equal(flat(one), flat(other))


def test_weights_of_more_classes_fill_all_but_the_classifier() -> None:
    for name, classifier in (("resnet-18", "fc."), ("deit-ti-distilled", "head"), (SMALL, "classifier.")):
        params = NetworkParams(name=name)
        known = build_network(params, 9, seed=1).state_dict()
        filled = build_network(params, 3, known, seed=2).state_dict()
        drawn = build_network(params, 3, seed=2).state_dict()
        for key, one in filled.items():
            assert torch.equal(one, (drawn if key.startswith(classifier) else known)[key]), key
    of_resnet = build_network(NetworkParams(name="resnet-18"), 9, seed=1).state_dict()
    begun = build_network(NetworkParams(name="atresnet-18", size_px=32), 3, of_resnet, seed=2).state_dict()
    assert all(torch.equal(one, begun[key]) for key, one in of_resnet.items() if not key.startswith("fc."))


def test_weights_of_something_else_are_refused() -> None:
    known = build_network(NetworkParams(name="resnet-18"), 3).state_dict()
    del known["layer4.0.conv1.weight"]
    for name in ("resnet-18", "deit-ti", SMALL):
        with pytest.raises(UsageError, match=f"not those of {name}"):
            build_network(NetworkParams(name=name), 3, known)


def flat(network: nn.Module) -> Tensor:
    return torch.cat([one.flatten() for one in network.parameters()])
