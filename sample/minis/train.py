"""Trains the mini backbones: `python -m deponij.sample.minis.train all --out FOLDER`.

Each learns by its own family's objective from crops of generated scenes, of a seed that nothing is
evaluated on and without two of the classes (`crops.UNSEEN`). The same seed, precision and threads give the
same weights. Not here: how weights are written (`export`); the one that sees whole scenes (`train_dense`).
"""

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deponij.pipeline.tuning.losses import clip_loss, siglip_loss
from deponij.sample.minis import export, models
from deponij.sample.minis.crops import Crops, Views, normalise, training_crops
from deponij.sample.minis.objectives import (
    dino_loss,
    ibot_loss,
    koleo_loss,
    moco_loss,
    sinkhorn,
)
from deponij.sample.minis.scenes import Seen, training_scenes
from deponij.sample.minis.steps import Optimiser, Recipe, Report, Run, batches, tell
from deponij.sample.minis.train_dense import DENSE_RECIPE, train_convnext

TEXT_RECIPE = Recipe(steps=800, batch=128, lr=2e-3)
DINO_RECIPE = Recipe(steps=800, batch=128, lr=2e-3)

DENSE = "convnext"  # learns from scenes, the others from crops

# Most of the training sees little of each picture, which is cheap; the rest sees it as users will
# (small views: Touvron et al. 2019; dropped patches: Li et al. 2023).
WHOLE_FROM = 0.85
SMALL_PX = 40
DROPPED_PATCHES = 0.5


@dataclass(frozen=True)
class Dino:
    """Settings of self-distillation (Caron et al. 2021; Oquab et al. 2023; Chen et al. 2021)."""

    n_prototypes: int = 1024
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.06)
    contrast_temperature: float = 0.15
    momentum: tuple[float, float] = (0.95, 1.0)
    masked_share: float = 0.3
    dino_weight: float = 0.3
    ibot_weight: float = 0.3
    koleo_weight: float = 0.05
    area: tuple[float, float] = (0.6, 1.0)
    colour: float = 0.3
    hue: float = 0.3
    grey: float = 0.1


def train_openclip(crops: Crops, tokens: Tensor, recipe: Recipe, run: Run) -> nn.Module:
    """Softmax contrast of crops and captions.

    Args:
        crops: the pictures; `centred` is used, as OpenCLIP's transform does.
        tokens: int64 [n, 32], the captions.
    """
    from open_clip.transformer import PatchDropout

    model = models.openclip_mini().to(run.device)
    optimiser, views = Optimiser([model], recipe), Views(models.IMAGE_PX, (0.75, 1.0), 0.2)
    model.visual.patch_dropout = dropout = PatchDropout(DROPPED_PATCHES)  # type: ignore[union-attr]
    pictures, began_s = torch.from_numpy(crops.centred).to(run.device), time.monotonic()
    for step, rows in batches(recipe, len(pictures), run):
        if step >= WHOLE_FROM * recipe.steps:
            dropout.prob = 0.0
        batch = normalise(views.cut(pictures[rows], run.generator), models.CLIP_MEAN, models.CLIP_STD)
        with run.autocast():
            image, text = model.encode_image(batch), model.encode_text(tokens[rows].to(run.device))  # type: ignore[operator]
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        loss = clip_loss(image, text, model.logit_scale.exp())  # type: ignore[operator]
        optimiser.descend(loss, recipe.rate(step))
        with torch.no_grad():  # CLIP clips the inverse temperature at 100
            model.logit_scale.clamp_(0, math.log(100))  # type: ignore[operator]
        tell(run, "openclip", step, recipe, loss.item(), began_s)
    return model.cpu().eval()


def train_siglip(crops: Crops, tokens: Tensor, vocabulary: int, recipe: Recipe, run: Run) -> nn.Module:
    """Pairwise sigmoid loss of crops and captions.

    Args:
        crops: the pictures; `squashed` is used, as SigLIP's transform does.
        tokens: int64 [n, 24], the captions, padded.
        vocabulary: number of the tokenizer's pieces.
    """
    model = models.siglip_mini(vocabulary).to(run.device)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(10))  # type: ignore[operator]
        model.logit_bias.fill_(-math.log(recipe.batch))  # type: ignore[operator]
    optimiser, views = Optimiser([model], recipe), Views(SMALL_PX, (0.75, 1.0), 0.2)
    pictures, began_s = torch.from_numpy(crops.squashed).to(run.device), time.monotonic()
    for step, rows in batches(recipe, len(pictures), run):
        if step >= WHOLE_FROM * recipe.steps:
            views = replace(views, size_px=models.IMAGE_PX)
        batch = normalise(views.cut(pictures[rows], run.generator), models.HALF, models.HALF)
        with run.autocast():
            image = model.get_image_features(  # type: ignore[operator]
                pixel_values=batch, interpolate_pos_encoding=True
            ).pooler_output
            text = model.get_text_features(input_ids=tokens[rows].to(run.device)).pooler_output  # type: ignore[operator]
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        loss = siglip_loss(image, text, model.logit_scale.exp(), model.logit_bias)  # type: ignore[operator, arg-type]
        optimiser.descend(loss, recipe.rate(step))
        tell(run, "siglip", step, recipe, loss.item(), began_s)
    return model.cpu().eval()


class Prototypes(nn.Module):
    """DINO's head: an MLP to a short normalised vector, compared with prototypes of length 1."""

    def __init__(self, width: int, n_prototypes: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 64))
        self.prototypes = nn.Parameter(0.02 * torch.randn(n_prototypes, 64))

    def project(self, x: Tensor) -> Tensor:
        """[..., width] -> unit vectors [..., 64]."""
        return F.normalize(self.mlp(x).float(), dim=-1)

    def compare(self, z: Tensor) -> Tensor:
        """[..., 64] -> logits [..., k]."""
        return z @ F.normalize(self.prototypes, dim=-1).T


class Distilled(nn.Module):
    """A body with the head that is thrown away after the training."""

    body: nn.Module
    head: Prototypes

    def __init__(self, body: nn.Module, head: Prototypes):
        super().__init__()
        self.body, self.head = body, head


def train_dinov2(crops: Crops, recipe: Recipe, run: Run, settings: Dino | None = None) -> nn.Module:
    """Self-distillation without labels or captions; the two views are two photographs of one object.

    To DINO's, iBOT's and KoLeo's losses comes a contrast between the student's view and the teacher's other
    view (MoCo v3), because in so few steps prototypes alone hardly begin to tell objects apart.

    Returns:
        The teacher, which is what DINOv2 publishes.
    """
    s = settings or Dino()
    student = Distilled(models.dinov2_mini(), Prototypes(models.WIDTH, s.n_prototypes)).to(run.device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimiser = Optimiser([student], recipe)
    views = Views(SMALL_PX, s.area, s.colour, turn=0.3, grey=s.grey, hue=s.hue, blur=0.2)
    pictures, began_s = torch.from_numpy(crops.centred[crops.twins]).to(run.device), time.monotonic()
    for step, rows in batches(recipe, len(pictures), run):
        done = step / recipe.steps
        if done >= WHOLE_FROM:
            views = replace(views, size_px=models.IMAGE_PX)
        cut = torch.cat([views.cut(pictures[rows, k], run.generator) for k in (0, 1)])
        batch = normalise(cut, models.IMAGENET_MEAN, models.IMAGENET_STD)  # [2 n, 3, h, w]
        loss = _dino_step(student, teacher, batch, _ramp(s.teacher_temperature, min(1, 3 * done)), s, run)
        optimiser.descend(loss, recipe.rate(step))
        momentum = _ramp(s.momentum, 0.5 - 0.5 * math.cos(math.pi * done))
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - momentum)
        tell(run, "dinov2", step, recipe, loss.item(), began_s)
    return teacher.body.requires_grad_(True).cpu().eval()


def _ramp(ends: tuple[float, float], done: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * done


def _dino_step(
    student: Distilled, teacher: Distilled, batch: Tensor, temperature: float, s: Dino, run: Run
) -> Tensor:
    n_patches = (batch.shape[-1] // models.PATCH_PX) ** 2
    hidden = torch.rand(len(batch), n_patches, generator=run.generator) < s.masked_share
    hidden &= torch.rand(len(batch), 1, generator=run.generator) < 0.5  # half of the pictures stay whole
    hidden = hidden.to(run.device)
    with torch.no_grad(), run.autocast():
        tokens = teacher.body(pixel_values=batch).last_hidden_state  # [2 n, 1 + t, width]
        target = teacher.head.project(tokens[:, 0])
        assigned = sinkhorn(teacher.head.compare(target).float(), temperature)
    with run.autocast():
        tokens_seen = student.body(pixel_values=batch, bool_masked_pos=hidden).last_hidden_state
        projected = student.head.project(tokens_seen[:, 0])
        logits = student.head.compare(projected).float()
    first, second = projected.chunk(2)
    scale = torch.tensor(1 / s.contrast_temperature)
    loss = (moco_loss(first, target.chunk(2)[1], scale) + moco_loss(second, target.chunk(2)[0], scale)) / 2
    loss = loss + s.dino_weight * dino_loss(
        list(logits.chunk(2)), list(assigned.chunk(2)), s.student_temperature, n_global=2
    )
    for view in tokens_seen[:, 0].float().chunk(2):
        loss = loss + s.koleo_weight * koleo_loss(view) / 2
    if hidden.any():
        loss = loss + s.ibot_weight * _ibot(student, teacher, tokens_seen, tokens, hidden, temperature, s)
    return loss


def _ibot(
    student: Distilled,
    teacher: Distilled,
    seen: Tensor,
    whole: Tensor,
    hidden: Tensor,
    temperature: float,
    s: Dino,
) -> Tensor:
    """The loss of masked patches; only they pass through the heads."""
    with torch.no_grad():
        projected = teacher.head.project(whole[:, 1:][hidden])
        assigned = sinkhorn(teacher.head.compare(projected).float(), temperature)
    logits = student.head.compare(student.head.project(seen[:, 1:][hidden])).float()
    return ibot_loss(logits, assigned, hidden, s.student_temperature)


def main(arguments: list[str] | None = None) -> None:
    """The command: render, train, write."""
    parser = argparse.ArgumentParser(description="Train the mini backbones of the sample profile.")
    parser.add_argument("which", nargs="*", default=["all"], help="openclip, siglip, dinov2, convnext or all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--seed", type=int, default=1_000_003, help="of the scenes and of the training")
    parser.add_argument("--scenes", type=int, default=1500, help="each is photographed twice")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument(
        "--device", default="cpu", help="cpu or cuda; a GPU's weights differ in the last digits"
    )
    parser.add_argument(
        "--speed-up", type=float, default=1.0, help="divide the number of steps, for a try-out"
    )
    options = parser.parse_args(arguments)
    names = list(export.WRITERS) if "all" in options.which else options.which
    if unknown := sorted(set(names) - set(export.WRITERS)):
        parser.error(f"unknown {unknown}; there are {[*export.WRITERS, 'all']}")
    torch.set_num_threads(options.threads)
    report: Report = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731, T201
    progress: Callable[[int, int], None] = lambda done, n: (  # noqa: E731
        report(f"photographs: {done}/{n}") if done % 200 == 0 or done == n else None
    )
    scenes = (options.seed, options.scenes, options.threads, progress)
    crops = training_crops(*scenes) if set(names) - {DENSE} else None
    for name in names:
        run = Run(options.seed, options.precision == "bf16", report, options.device)
        folder = options.out / name
        if crops is None or name == DENSE:
            write_convnext_of(training_scenes(*scenes), folder, run, options.speed_up)
        else:
            train_and_write(name, crops, folder, run, options.speed_up)


def write_convnext_of(seen: list[Seen], folder: Path, run: Run, speed_up: float = 1.0) -> None:
    """Train the mini that sees whole scenes and write it; arguments as of `train_and_write`."""
    recipe = replace(DENSE_RECIPE, steps=max(1, round(DENSE_RECIPE.steps / speed_up)))
    folder.mkdir(parents=True, exist_ok=True)
    export.write_openclip_config(folder, models.CONVNEXT_CONFIG)
    tokenise = partial(export.openclip_tokens, folder)
    export.WRITERS[DENSE](folder, train_convnext(seen, tokenise, recipe, run))


def train_and_write(name: str, crops: Crops, folder: Path, run: Run, speed_up: float = 1.0) -> None:
    """Train one mini and write it in its family's format.

    Args:
        name: a key of `export.WRITERS`, but for `convnext`.
        crops: what to learn from.
        folder: where the weights go.
        run: seed, precision, progress.
        speed_up: the number of steps is divided by it.
    """
    base = DINO_RECIPE if name == "dinov2" else TEXT_RECIPE
    recipe = replace(base, steps=max(1, round(base.steps / speed_up)))
    folder.mkdir(parents=True, exist_ok=True)
    if name == "openclip":
        export.write_openclip_config(folder, models.OPENCLIP_CONFIG)
        tokens = export.openclip_tokens(folder, crops.captions)
        model = train_openclip(crops, tokens, recipe, run)
    elif name == "siglip":
        vocabulary = export.write_siglip_tokenizer(folder, crops.captions)
        tokens = export.siglip_tokens(folder, crops.captions)
        model = train_siglip(crops, tokens, vocabulary, recipe, run)
    else:
        model = train_dinov2(crops, recipe, run)
    export.WRITERS[name](folder, model)


if __name__ == "__main__":
    main()
