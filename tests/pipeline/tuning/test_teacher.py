"""A teacher says the same before and after, and nothing of it changes."""

import hashlib

import pytest
import torch
from torch import nn

from deponij.pipeline.tuning.losses import DistillParams, distillation_loss
from deponij.pipeline.tuning.teacher import Renormalised, Teacher

PIXELS = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
    )


def digest(module: nn.Module) -> str:
    """Of all weights and running means."""
    told = b"".join(one.numpy().tobytes() for one in module.state_dict().values())
    return hashlib.sha256(told).hexdigest()


def test_a_student_learns_and_its_teacher_stays() -> None:
    own, student = network(), nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    teacher, before, of_student = Teacher(own), digest(own), digest(student)
    optimizer = torch.optim.SGD([*student.parameters(), *own.parameters()], lr=0.1)
    targets = torch.full((5, 3), 1 / 3)
    for kind in ("hard", "soft"):
        own.train()  # somebody else's doing
        params = DistillParams.model_validate({"kind": kind})
        distillation_loss(student(PIXELS), targets, teacher.says(PIXELS, torch.arange(5)), params).backward()
        optimizer.step()
    assert digest(own) == before and digest(student) != of_student
    assert not own.training and all(one.grad is None and not one.requires_grad for one in own.parameters())


def test_what_is_remembered_is_given_by_number() -> None:
    wanted = network().eval()(PIXELS).detach()
    looks = Teacher(network())
    torch.testing.assert_close(looks.says(PIXELS, torch.tensor([4, 4, 4, 4, 4])), wanted)  # of the pixels
    knows = Teacher(None, wanted)
    elsewhere = torch.zeros(3, 3, 8, 8)  # which it does not look at
    torch.testing.assert_close(knows.says(elsewhere, torch.tensor([3, 0, 3])), wanted[[3, 0, 3]])


def test_a_teacher_with_another_mean_sees_its_own() -> None:
    """The same picture of values 0..1, prepared both ways; resizing as torch does it."""
    raw = torch.rand(2, 3, 8, 8)
    own, theirs = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), ((0.48, 0.46, 0.41), (0.27, 0.26, 0.28))

    def prepared(pair: tuple[tuple[float, ...], tuple[float, ...]]) -> torch.Tensor:
        mean, std = (torch.tensor(one).view(3, 1, 1) for one in pair)
        return (raw - mean) / std

    seen = Renormalised(nn.Identity(), own, theirs)(prepared(own))
    torch.testing.assert_close(seen, prepared(theirs), rtol=1e-4, atol=1e-5)
    larger = Renormalised(nn.Identity(), own, theirs, size_px=(16, 16))(prepared(own))
    wanted = nn.functional.interpolate(prepared(theirs), (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(larger, wanted, rtol=1e-4, atol=1e-4)
    assert Renormalised(nn.Identity(), own, theirs).state_dict() == {}


def test_pictures_that_it_does_not_know_are_an_error() -> None:
    with pytest.raises(IndexError):
        Teacher(None, torch.zeros(5, 3)).says(PIXELS, torch.tensor([5]))


@pytest.mark.parametrize("asked", [(None, None), (nn.Identity(), torch.zeros(1, 2))])
def test_a_teacher_looks_or_knows(asked: tuple[nn.Module | None, torch.Tensor | None]) -> None:
    with pytest.raises(ValueError, match="a network, or"):
        Teacher(*asked)
