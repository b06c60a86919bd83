"""Augmentation, mixing, a teacher and a student in one training, interrupted and not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from training_toy import same

from deponij.pipeline.training.loop import train
from deponij.pipeline.training.params import TrainingParams
from deponij.pipeline.training.task import ParameterGroup
from deponij.pipeline.tuning.augmenting import Augmenter, preset
from deponij.pipeline.tuning.loading import augmented_batches
from deponij.pipeline.tuning.losses import DistillParams, distillation_loss
from deponij.pipeline.tuning.mixing import Mixer, MixParams
from deponij.pipeline.tuning.sampling import epoch_indices
from deponij.pipeline.tuning.teacher import Teacher

N, BATCH, SIZE_PX = 16, 4, 32
LABELS = np.arange(N) % 2
STUDENT = "mobilenetv3_small_050"  # made in no time: its weights are few
PARAMS = TrainingParams(epochs=2, batch_size=BATCH, lr=1e-3, average=0.9, clip_norm=1.0, keep="last")


class Student:
    """Bright and dark pictures, told apart by what a teacher and the labels say."""

    identity = "bright and dark"

    def __init__(self, seed: int = 0, fail_at: tuple[int, int] | None = None) -> None:
        torch.manual_seed(seed)
        self.model: nn.Module = timm.create_model(STUDENT, num_classes=2, drop_path_rate=0.2)
        torch.manual_seed(1)
        self.teacher_network = nn.Sequential(nn.Conv2d(3, 2, SIZE_PX), nn.Flatten())
        self.teacher = Teacher(self.teacher_network)
        self.augmenter = Augmenter(preset("heavy"), SIZE_PX, mean=(0.5,) * 3, std=(0.5,) * 3, seed=3)
        self.mixer = Mixer(MixParams(mixup=0.8, cutmix=1.0, smoothing=0.1), 2, seed=3)
        self.fail_at = fail_at

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(list(self.model.parameters()))]

    def n_batches(self) -> int:
        return N // BATCH

    def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
        plan = epoch_indices(LABELS, seed=3, epoch=epoch).reshape(-1, BATCH)[first:].tolist()
        made = augmented_batches(self.decode, self.augmenter, plan, epoch)
        for number, (numbers, pixels) in enumerate(made, first):
            if self.fail_at == (epoch, number):
                raise RuntimeError("pulled the plug")
            labels = torch.from_numpy(LABELS[numbers.numpy()])
            yield [*self.mixer(pixels, labels, epoch, number), numbers]

    def decode(self, number: int) -> Any:
        rng = np.random.default_rng(number)
        return rng.integers(128 * LABELS[number], 128 * (1 + LABELS[number]), (40, 40, 3), dtype=np.uint8)

    def loss(self, batch: Any) -> Tensor:
        pixels, targets, numbers = batch
        said = self.teacher.says(pixels, numbers)
        return distillation_loss(self.model(pixels), targets, said, DistillParams(kind="soft", temperature=2))

    def counts(self, batch: Any) -> float:
        return len(batch[0])

    def validate(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize("at", [(0, 2), (1, 1)])
def test_an_interrupted_distillation_comes_to_the_same_bytes(tmp_path: Path, at: tuple[int, int]) -> None:
    whole = Student()
    of_teacher = [one.clone() for one in whole.teacher_network.state_dict().values()]
    told = train(whole, PARAMS)
    with pytest.raises(RuntimeError, match="plug"):
        train(Student(fail_at=at), PARAMS, checkpoint=tmp_path / "c", checkpoint_s=0)
    again = Student(seed=9)
    after = train(again, PARAMS, checkpoint=tmp_path / "c", checkpoint_s=1e6)
    assert after.resumed_at == at[0] * N // BATCH + at[1] and after.history == told.history
    wanted, found = (list(one.model.state_dict().values()) for one in (whole, again))
    assert same(wanted, found)
    assert same(of_teacher, list(whole.teacher_network.state_dict().values()))
