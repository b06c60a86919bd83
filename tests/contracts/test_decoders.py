"""What every decoder of the registry keeps: sizes, what learns, seeds, saving, refusals."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from resealing import rewrite
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from deponij.pipeline.cards import FeatureSource
from deponij.pipeline.decoders.decoder import Decoder, Level, numbers_of
from deponij.pipeline.decoders.losses import cross_entropy
from deponij.pipeline.decoders.registry import decoder_class, kinds
from deponij.pipeline.decoders.saved import DECODERS, Applied, decoder_files, load_decoder
from deponij.store.errors import IdentityError, StoreError, UsageError
from deponij.store.sealed import sha256_of

N_CLASSES = 3
CHANNELS = (6, 8, 10, 12)
WORDS_DIM = 12  # of the last level, as where it is projected
SOURCE = FeatureSource(
    backbone="tiny", fingerprint="f" * 20, labels="scenes", identity={"kind": "pyramid@4", "weights": "abc"}
)
PYRAMID = tuple(
    Level(f"stride{stride}", n, stride) for n, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)
)
# A picture of 360x480 px: towers that round down, as ConvNeXt, and up, as EfficientNet. One of 97x65 px.
SIZES = {
    "down": [(90, 120), (45, 60), (22, 30), (11, 15)],
    "up": [(90, 120), (45, 60), (23, 30), (12, 15)],
    "odd": [(25, 17), (13, 9), (7, 5), (4, 3)],
    "one cell": [(2, 2), (1, 1), (1, 1), (1, 1)],
}
ENTRIES = [
    (kind, words)
    for kind in kinds()
    for words in (False, True)
    if words or not decoder_class(kind).needs_words
]
LEARNING = [(kind, words) for kind, words in ENTRIES if decoder_class(kind).learns]


def vectors(dim: int = WORDS_DIM) -> Tensor:
    """Words of the classes, of unit length."""
    return normalize(torch.randn(N_CLASSES, dim, generator=torch.Generator().manual_seed(7)), dim=1)


def built(kind: str, words: bool, levels: Sequence[Level] = PYRAMID, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return decoder_class(kind)().build(levels, N_CLASSES, vectors(levels[-1].channels) if words else None)


def maps_of(sizes: Sequence[tuple[int, int]], n: int = 2, seed: int = 1) -> list[Tensor]:
    made = torch.Generator().manual_seed(seed)
    return [torch.randn(n, c, *size, generator=made) for c, size in zip(CHANNELS, sizes, strict=True)]


def toy(n: int = 4) -> tuple[list[Tensor], Tensor]:
    """Maps of 64x96 px in which each class has a direction of its own at every level, and the classes [n, 64, 96]."""
    made = torch.Generator().manual_seed(3)
    coarse = torch.randint(0, N_CLASSES, (n, 2, 3), generator=made)
    maps = []
    for channels, level in zip(CHANNELS, PYRAMID, strict=True):
        directions = torch.randn(N_CLASSES, channels, generator=made)
        clean = directions[_enlarged(coarse, 32 // level.stride_px)].permute(0, 3, 1, 2)
        maps.append(clean + 0.1 * torch.randn(clean.shape, generator=made))
    truth = _enlarged(coarse, 32)
    truth[:, :2, :2] = 255
    return maps, truth


def _enlarged(cells: Tensor, by: int) -> Tensor:
    return cells.repeat_interleave(by, 1).repeat_interleave(by, 2)


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("size_px", [(360, 480), (97, 65), (90, 120), (33, 7)])
def test_logits_have_the_size_that_was_asked_for(
    kind: str, words: bool, sizes: str, size_px: tuple[int, int]
) -> None:
    with torch.inference_mode():
        logits = built(kind, words).eval()(maps_of(SIZES[sizes], n=1), size_px)
    assert logits.shape == (1, N_CLASSES, *size_px)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
@pytest.mark.parametrize(
    "levels",
    [
        PYRAMID[-1:],
        (Level("stride2", 4, 2), *PYRAMID),
        tuple(Level(f"stride14_block{block}", WORDS_DIM, 14) for block in (2, 5, 8, 11)),
    ],
    ids=["one level", "strides 2 to 32", "blocks of a plain ViT"],
)
def test_works_on_other_levels(kind: str, words: bool, levels: tuple[Level, ...]) -> None:
    made = torch.Generator().manual_seed(2)
    maps = [
        torch.randn(2, one.channels, -(-56 // one.stride_px), -(-70 // one.stride_px), generator=made)
        for one in levels
    ]
    logits = built(kind, words, levels)(maps, (56, 70))
    assert logits.shape == (2, N_CLASSES, 56, 70)


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
def test_what_learns_gets_a_gradient_and_words_get_none(kind: str, words: bool) -> None:
    module = built(kind, words).train()
    kept = {name: values.clone() for name, values in module.named_buffers() if name.endswith("vectors")}
    assert bool(kept) == (words and decoder_class(kind).uses_words)
    assert (numbers_of(module) > 0) == decoder_class(kind).learns
    maps, truth = toy()
    maps = [one.requires_grad_() for one in maps]
    cross_entropy(module(maps, truth.shape[-2:]), truth).backward()
    for name, weights in module.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.isfinite().all(), name
        assert weights.grad.abs().sum() > 0, name
    assert maps[-1].grad is not None
    for name, values in kept.items():
        assert torch.equal(dict(module.named_buffers())[name], values)


def test_where_nothing_is_learned_there_is_nothing_to_learn() -> None:
    for kind in kinds():
        for words in (False, True):
            if words or not decoder_class(kind).needs_words:
                assert decoder_class(kind).learns == (numbers_of(built(kind, words)) > 0)


@pytest.mark.parametrize(("kind", "words"), LEARNING)
def test_learns_what_is_easy(kind: str, words: bool) -> None:
    """In twenty steps the loss falls below half of what it was, and most pixels are answered with their class."""
    module = built(kind, words).train()
    maps, truth = toy()
    optimizer = torch.optim.Adam([one for one in module.parameters() if one.requires_grad], lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = cross_entropy(module(maps, truth.shape[-2:]), truth)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    said = truth != 255
    assert (module(maps, truth.shape[-2:]).argmax(1) == truth)[said].float().mean() > 0.7


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
def test_seeds(kind: str, words: bool) -> None:
    maps = maps_of(SIZES["odd"])
    first, again, other = (built(kind, words, seed=seed)(maps, (30, 30)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != decoder_class(kind).learns


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
def test_pictures_are_answered_one_by_one(kind: str, words: bool) -> None:
    """In evaluation the others of a batch change nothing beyond rounding; one alone is answered too."""
    module = taught(kind, words)
    maps = maps_of(SIZES["odd"], n=3)
    with torch.inference_mode():
        together = module(maps, (50, 40))
        alone = [module([one[place : place + 1] for one in maps], (50, 40)) for place in range(3)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
def test_maps_are_left_as_they_were(kind: str, words: bool) -> None:
    maps = maps_of(SIZES["odd"])
    kept = [one.clone() for one in maps]
    built(kind, words)(maps, (50, 40))
    assert all(map(torch.equal, maps, kept))


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
def test_maps_as_they_are_stored(kind: str, words: bool) -> None:
    """Float16 maps are answered as the same numbers in float32."""
    module = taught(kind, words)
    stored = [one.half() for one in maps_of(SIZES["odd"])]
    with torch.inference_mode():
        assert torch.equal(module(stored, (50, 40)), module([one.float() for one in stored], (50, 40)))


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
def test_refuses_maps_of_other_levels(kind: str, words: bool) -> None:
    module = built(kind, words)
    maps = maps_of(SIZES["odd"])
    for wrong in (maps[::-1], maps[1:], [*maps, maps[-1]], [maps[0][:, :3], *maps[1:]], []):
        with pytest.raises(UsageError, match=r"\[6, 8, 10, 12\]"):
            module(wrong, (30, 30))


@pytest.mark.parametrize("kind", kinds())
def test_refuses_what_it_cannot_be_built_of(kind: str) -> None:
    made = decoder_class(kind)()
    fine = vectors()
    for levels, n_classes, words, said in (
        ((), N_CLASSES, fine, "no maps"),
        (PYRAMID[::-1], N_CLASSES, fine, "finest first"),
        (PYRAMID, 0, None, "class"),
        (PYRAMID, N_CLASSES + 1, fine, "class vectors"),
        (PYRAMID, N_CLASSES, fine[0], "class vectors"),
        (PYRAMID, N_CLASSES, fine * float("nan"), "class vectors"),
        (PYRAMID, N_CLASSES, fine * 2, "unit length"),
    ):
        with pytest.raises(UsageError, match=said):
            made.build(levels, n_classes, words)
    if made.needs_words:
        with pytest.raises(UsageError, match="text tower"):
            made.build(PYRAMID, N_CLASSES, None)


def taught(kind: str, words: bool) -> nn.Module:
    """A decoder whose batch norms have seen something, in evaluation mode."""
    module = built(kind, words)
    module.train()(maps_of(SIZES["odd"], n=3, seed=5), (20, 20))
    return module.eval()


def save(kind: str, words: bool, module: nn.Module, folder: Path, **params: Any) -> Path:
    decoder: Decoder = decoder_class(kind)(**params)
    applied = Applied(
        levels=PYRAMID,
        classes=["road", "car", "sky"],
        colours=[(0, 0, 0), (1, 2, 3), (255, 255, 255)],
        source=SOURCE,
        input_px=(97, 65),
        protocol="made up",
    )
    DECODERS.write(folder, decoder_files(decoder, module, vectors() if words else None, applied))
    return folder


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
def test_what_is_saved_answers_as_before(kind: str, words: bool, tmp_path: Path) -> None:
    """The same logits to the byte; the same decoder gives the same files."""
    module = taught(kind, words)
    folder = save(kind, words, module, tmp_path / "a")
    state = torch.random.get_rng_state()
    card, again = load_decoder(folder)
    assert torch.equal(torch.random.get_rng_state(), state), (
        "to load draws nothing from the caller's generator"
    )
    maps = maps_of(SIZES["odd"])
    with torch.inference_mode():
        assert torch.equal(again(maps, (50, 40)), module(maps, (50, 40)))
    assert not again.training
    assert (card.kind, card.levels, card.classes) == (kind, PYRAMID, ("road", "car", "sky"))
    save(kind, words, again, tmp_path / "b")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(("kind", "words"), ENTRIES)
def test_a_card_that_does_not_fit_is_refused(kind: str, words: bool, tmp_path: Path) -> None:
    folder = save(kind, words, taught(kind, words), tmp_path / "decoder")
    card = folder / DECODERS.card_name
    right = json.loads(card.read_bytes())
    wrong: list[dict[str, Any]] = [
        {**right, "params": {**right["params"], "unheard_of": 1}},
        {**right, "format": 2},
        {**right, "classes": right["classes"][:2]},
        {**right, "levels": right["levels"][:-1]},
        {name: value for name, value in right.items() if name != "source"},
    ]
    wrong += [
        {**right, "params": {k: v for k, v in right["params"].items() if k != name}}
        for name in right["params"]
    ]
    for other in wrong:
        rewrite(card, lambda _, other=other: other)
        with pytest.raises(StoreError):
            load_decoder(folder)


@pytest.mark.parametrize(("kind", "words"), LEARNING)
def test_tensors_that_do_not_fit_are_refused(kind: str, words: bool, tmp_path: Path) -> None:
    module = taught(kind, words)
    folder = save(kind, words, module, tmp_path / "decoder")
    tensors = load_file(folder / DECODERS.tensors_name)
    name = next(iter(dict(module.named_parameters())))
    others = {
        "all finite": {**tensors, name: tensors[name] * float("nan")},
        "missing": {one: values for one, values in tensors.items() if one != name},
        "unknown": {**tensors, "more": torch.ones(1)},
        name: {**tensors, name: tensors[name].flatten()[:-1].clone()},
    }
    for said, other in others.items():
        save_file(other, folder / DECODERS.tensors_name)
        digest = sha256_of((folder / DECODERS.tensors_name).read_bytes())
        rewrite(folder / DECODERS.card_name, lambda card, digest=digest: {**card, "tensors_sha256": digest})
        with pytest.raises(StoreError, match=said):
            load_decoder(folder)


@pytest.mark.parametrize("kind", kinds()[:1])
def test_other_features_are_refused(kind: str, tmp_path: Path) -> None:
    card, _ = load_decoder(save(kind, True, taught(kind, True), tmp_path / "decoder"))
    card.source.require(SOURCE.fingerprint, SOURCE.identity, "the view", "the decoder")
    with pytest.raises(IdentityError, match="the decoder was .* weights: abc against xyz"):
        card.source.require("0" * 20, {**SOURCE.identity, "weights": "xyz"}, "the view", "the decoder")


@pytest.mark.parametrize("kind", kinds())
def test_parameters_out_of_range_are_refused(kind: str) -> None:
    made = decoder_class(kind)
    for name, value in made().get_params().items():
        wrong: Any = {float: -1.0, int: -1, tuple: (0,)}.get(type(value), -1)
        if not isinstance(value, (bool, str)):
            with pytest.raises(UsageError, match=name):
                made(**{name: wrong}).build(PYRAMID, N_CLASSES, vectors())
