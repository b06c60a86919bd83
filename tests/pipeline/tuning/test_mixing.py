"""CutMix and Mixup: what is in the pictures is what the targets say."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from deponij.pipeline.tuning.mixing import Mixer, MixParams, smoothed
from deponij.store.errors import DataError, UsageError

LABELS = torch.tensor([0, 1, 2, 3])
# Each picture is its own number everywhere, so that its mean says what is in it.
PIXELS = LABELS.float().view(4, 1, 1, 1).expand(4, 3, 8, 10).clone()


def test_cutmix_targets_are_the_kept_area_exactly() -> None:
    """Counted from the pixels: those that are the picture's own, and those of the one before it in the batch."""
    mixer, areas = Mixer(MixParams(cutmix=1.0), 4, seed=0), set()
    for number in range(40):
        pixels, targets = mixer(PIXELS, LABELS, 0, number)
        for own, before, picture, target in zip(LABELS, LABELS.roll(1), pixels, targets, strict=True):
            n_own, n_before = int((picture[0] == own).sum()), int((picture[0] == before).sum())
            assert n_own + n_before == 80
            wanted = torch.zeros(4)
            wanted[own], wanted[before] = n_own / 80, 1 - n_own / 80
            torch.testing.assert_close(target, wanted, rtol=0, atol=1e-6)
            areas.add(n_own)
    assert len(areas) > 10


def test_mixup_targets_are_the_shares_of_both_pictures() -> None:
    shares = set()
    for number in range(10):
        pixels, targets = Mixer(MixParams(mixup=0.8), 4)(PIXELS, LABELS, 2, number)
        # the mean of the classes' numbers, by what the targets say
        torch.testing.assert_close(pixels[:, 0, 0, 0], targets @ LABELS.float())
        assert pixels.std(dim=(1, 2, 3)).max() < 1e-6
        shares.add(float(targets[0, 0]))
    assert len(shares) == 10


def test_smoothing_is_torchs() -> None:
    logits, targets = torch.randn(4, 5), F.one_hot(LABELS, 5).float()
    wanted = F.cross_entropy(logits, LABELS, label_smoothing=0.1)
    torch.testing.assert_close(F.cross_entropy(logits, smoothed(targets, 0.1)), wanted)
    _, found = Mixer(MixParams(smoothing=0.1), 5)(PIXELS, LABELS, 0, 0)
    # 0.9 + 0.1 / 5, and 0.1 / 5
    torch.testing.assert_close(found[0], torch.tensor([0.92, 0.02, 0.02, 0.02, 0.02]))


def test_draws_belong_to_the_batch_and_leave_the_generator() -> None:
    mixer = Mixer(MixParams(mixup=0.8, cutmix=1.0, smoothing=0.1), 4, seed=7)
    torch.manual_seed(1)
    wanted = torch.rand(2)
    torch.manual_seed(1)
    first = [mixer(PIXELS, LABELS, 1, number) for number in range(6)]
    assert torch.equal(torch.rand(2), wanted)
    again = [mixer(PIXELS, LABELS, 1, number) for number in reversed(range(6))][::-1]
    assert all(
        torch.equal(a, b)
        for one, other in zip(first, again, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    others = [Mixer(mixer.params, 4, seed=8)(PIXELS, LABELS, 1, 0), mixer(PIXELS, LABELS, 2, 0)]
    assert not any(torch.equal(first[0][1], one[1]) for one in others)
    assert all(float(targets.sum()) == pytest.approx(4) for _, targets in first)


def test_both_kinds_and_unmixed_batches_come_as_often_as_asked() -> None:
    """Of 400 batches a quarter is left alone, half of the rest is Mixup: 100, 150, 150, each give or take 3 deviations."""
    mixer = Mixer(MixParams(mixup=1.0, cutmix=1.0, probability=0.75), 4)
    n_same = n_mixup = 0
    for number in range(400):
        pixels, targets = mixer(PIXELS, LABELS, 0, number)
        is_same = torch.equal(pixels, PIXELS)
        n_same += is_same and torch.equal(targets, F.one_hot(LABELS, 4).float())
        n_mixup += not is_same and not torch.equal(pixels, pixels.round())
    # a box of no area is CutMix too, so unmixed pictures may be a few more
    assert 74 <= n_same <= 140 and 120 <= n_mixup <= 180


def test_what_cannot_be_mixed() -> None:
    with pytest.raises(DataError, match="3; there are 3 classes"):
        Mixer(MixParams(), 3)(PIXELS, LABELS, 0, 0)
    with pytest.raises(UsageError, match="2 classes"):
        Mixer(MixParams(), 1)
    with pytest.raises(ValidationError):
        MixParams.model_validate({"mixup": 0})
    assert not MixParams(smoothing=0.1).draws and MixParams(mixup=0.8).draws
