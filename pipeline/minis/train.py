"""Trains the three mini backbones: `python -m pipeline.minis.train all --out FOLDER`.

Each learns by its own family's objective from crops of generated scenes, of a seed that nothing is
evaluated on and without two of the classes (`crops.UNSEEN`). The same seed, precision and threads give the
same weights. Not here: how weights are written (`export`).
"""

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.minis import export, models
from pipeline.minis.crops import Crops, Views, normalise, training_crops
from pipeline.minis.objectives import clip_loss, dino_loss, ibot_loss, koleo_loss, siglip_loss, sinkhorn

Report = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a mini learns."""

    steps: int
    batch: int
    lr: float
    weight_decay: float = 0.05
    warmup: float = 0.08

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then a cosine to nearly nothing."""
        start = self.warmup * self.steps
        if step < start:
            return self.lr * (step + 1) / start
        return self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - start) / (self.steps - start))))


@dataclass(frozen=True)
class Run:
    """What every training needs besides its recipe.

    Attributes:
        seed: of weights, batches and views.
        bf16: forward passes in bfloat16.
        report: gets a line of progress now and then.
        device: where to train.
    """

    seed: int
    bf16: bool
    report: Report
    device: str = "cpu"
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.generator.manual_seed(self.seed)

    def autocast(self) -> torch.autocast:
        """The precision of forward passes; losses are always float32."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)


TEXT_RECIPE = Recipe(steps=1500, batch=128, lr=2e-3)
DINO_RECIPE = Recipe(steps=1000, batch=128, lr=1e-3)


@dataclass(frozen=True)
class Dino:
    """Settings of self-distillation (Caron et al. 2021; Oquab et al. 2023)."""

    n_local: int = 4
    local_px: int = 32
    n_prototypes: int = 1024
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.06)
    momentum: tuple[float, float] = (0.98, 1.0)
    masked_share: float = 0.3
    ibot_weight: float = 0.5
    koleo_weight: float = 0.1
    wide_area: tuple[float, float] = (0.6, 1.0)
    near_area: tuple[float, float] = (0.2, 0.6)
    colour: float = 0.4
    hue: float = 1.0
    grey: float = 0.25


class Optimiser:
    """Muon for the blocks' matrices, AdamW for all else (Jordan et al. 2024): small ViTs learn faster by it.

    Muon's steps are scaled to AdamW's (Liu et al. 2025), so that one learning rate serves both.
    """

    def __init__(self, modules: list[nn.Module], recipe: Recipe):
        named = [item for module in modules for item in module.named_parameters()]
        blocks = [p for name, p in named if p.ndim == 2 and "embed" not in name and "proto" not in name]
        chosen = {id(p) for p in blocks}
        rest = [p for _, p in named if id(p) not in chosen]
        self.weights = [*blocks, *rest]
        muon = torch.optim.Muon(
            blocks,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        )
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._parts = (muon, torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98)))

    def descend(self, loss: Tensor, lr: float) -> None:
        """One step down the loss's gradient."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)
            for group in part.param_groups:
                group["lr"] = lr
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        for part in self._parts:
            part.step()  # type: ignore[no-untyped-call]


def _batches(recipe: Recipe, n: int, run: Run) -> Iterator[tuple[int, Tensor]]:
    """(step, rows of its batch), epoch after epoch."""
    rows = torch.empty(0, dtype=torch.long)
    for step in range(recipe.steps):
        while len(rows) < recipe.batch:
            rows = torch.cat([rows, torch.randperm(n, generator=run.generator)])
        yield step, rows[: recipe.batch]
        rows = rows[recipe.batch :]


def _tell(run: Run, name: str, step: int, recipe: Recipe, loss: float, began_s: float) -> None:
    if step % 20 == 19 or step + 1 == recipe.steps:
        spent_s = time.monotonic() - began_s
        left_s = spent_s / (step + 1) * (recipe.steps - step - 1)
        rate = (step + 1) * recipe.batch / spent_s
        run.report(
            f"{name}: step {step + 1}/{recipe.steps}, loss {loss:.3f}, {rate:.0f} pictures/s, {left_s:.0f} s left"
        )


def train_openclip(crops: Crops, tokens: Tensor, recipe: Recipe, run: Run) -> nn.Module:
    """Softmax contrast of crops and captions.

    Args:
        crops: the pictures; `centred` is used, as OpenCLIP's transform does.
        tokens: int64 [n, 32], the captions.
    """
    model = models.openclip_mini().to(run.device)
    optimiser, views = Optimiser([model], recipe), Views(models.IMAGE_PX, (0.75, 1.0), 0.2)
    pictures, began_s = torch.from_numpy(crops.centred).to(run.device), time.monotonic()
    for step, rows in _batches(recipe, len(pictures), run):
        batch = normalise(views.cut(pictures[rows], run.generator), models.CLIP_MEAN, models.CLIP_STD)
        with run.autocast():
            image, text = model.encode_image(batch), model.encode_text(tokens[rows].to(run.device))  # type: ignore[operator]
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        loss = clip_loss(image, text, model.logit_scale.exp())  # type: ignore[operator]
        optimiser.descend(loss, recipe.rate(step))
        with torch.no_grad():  # CLIP clips the inverse temperature at 100
            model.logit_scale.clamp_(0, math.log(100))  # type: ignore[operator]
        _tell(run, "openclip", step, recipe, loss.item(), began_s)
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
    optimiser, views = Optimiser([model], recipe), Views(models.IMAGE_PX, (0.75, 1.0), 0.2)
    pictures, began_s = torch.from_numpy(crops.squashed).to(run.device), time.monotonic()
    for step, rows in _batches(recipe, len(pictures), run):
        batch = normalise(views.cut(pictures[rows], run.generator), models.HALF, models.HALF)
        with run.autocast():
            image = model.get_image_features(pixel_values=batch).pooler_output  # type: ignore[operator]
            text = model.get_text_features(input_ids=tokens[rows].to(run.device)).pooler_output  # type: ignore[operator]
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        loss = siglip_loss(image, text, model.logit_scale.exp(), model.logit_bias)  # type: ignore[operator, arg-type]
        optimiser.descend(loss, recipe.rate(step))
        _tell(run, "siglip", step, recipe, loss.item(), began_s)
    return model.cpu().eval()


class Prototypes(nn.Module):
    """DINO's head: an MLP to a short normalised vector, compared with prototypes of length 1."""

    def __init__(self, width: int, n_prototypes: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 64)
        )
        self.prototypes = nn.Parameter(torch.randn(n_prototypes, 64))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> logits [..., k]."""
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def train_dinov2(crops: Crops, recipe: Recipe, run: Run, settings: Dino | None = None) -> nn.Module:
    """Self-distillation without labels or captions: DINO over views, iBOT over masked patches, KoLeo.

    Returns:
        The teacher, which is what DINOv2 publishes.
    """
    s = settings or Dino()
    student = nn.ModuleDict({"body": models.dinov2_mini(), "head": Prototypes(models.WIDTH, s.n_prototypes)})
    student.to(run.device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimiser = Optimiser([student], recipe)
    wide = Views(models.IMAGE_PX, s.wide_area, s.colour, turn=0.3, grey=s.grey, hue=s.hue, blur=0.2)
    near = Views(s.local_px, s.near_area, s.colour, turn=0.3, grey=s.grey, hue=s.hue, blur=0.2)
    pictures, began_s = torch.from_numpy(crops.centred).to(run.device), time.monotonic()
    for step, rows in _batches(recipe, len(pictures), run):
        done = step / recipe.steps
        temperature = s.teacher_temperature[0] + (s.teacher_temperature[1] - s.teacher_temperature[0]) * min(
            1, 3 * done
        )
        globals_ = _prepared(wide, pictures[rows], 2, run)
        locals_ = _prepared(near, pictures[rows], s.n_local, run)
        loss = _dino_step(student, teacher, globals_, locals_, temperature, s, run)
        optimiser.descend(loss, recipe.rate(step))
        momentum = s.momentum[1] - (s.momentum[1] - s.momentum[0]) * 0.5 * (1 + math.cos(math.pi * done))
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - momentum)
        _tell(run, "dinov2", step, recipe, loss.item(), began_s)
    return teacher["body"].requires_grad_(True).cpu().eval()


def _prepared(views: Views, pictures: Tensor, n_views: int, run: Run) -> Tensor:
    cut = torch.cat([views.cut(pictures, run.generator) for _ in range(n_views)])
    return normalise(cut, models.IMAGENET_MEAN, models.IMAGENET_STD)  # [v n, 3, h, w]


def _dino_step(
    student: nn.ModuleDict,
    teacher: nn.ModuleDict,
    wide: Tensor,
    near: Tensor,
    temperature: float,
    s: Dino,
    run: Run,
) -> Tensor:
    n_patches = (models.IMAGE_PX // models.PATCH_PX) ** 2
    hidden = torch.rand(len(wide), n_patches, generator=run.generator) < s.masked_share
    hidden &= torch.rand(len(wide), 1, generator=run.generator) < 0.5  # half of the pictures stay whole
    hidden = hidden.to(run.device)
    with torch.no_grad(), run.autocast():
        target = teacher["head"](
            teacher["body"](pixel_values=wide).last_hidden_state
        ).float()  # [2 n, 1 + t, k]
    probs = list(sinkhorn(target[:, 0], temperature).chunk(2))
    with run.autocast():
        tokens = student["body"](pixel_values=wide, bool_masked_pos=hidden).last_hidden_state
        wide_logits = student["head"](tokens).float()
        near_logits = student["head"](student["body"](pixel_values=near).last_hidden_state[:, 0]).float()
    logits = [*wide_logits[:, 0].chunk(2), *near_logits.chunk(s.n_local)]
    loss = dino_loss(logits, probs, s.student_temperature, n_global=2)
    for view in tokens[:, 0].float().chunk(2):
        loss = loss + s.koleo_weight * koleo_loss(view) / 2
    if hidden.any():
        whole = torch.zeros_like(target[:, 1:])
        whole[hidden] = sinkhorn(target[:, 1:][hidden], temperature)
        loss = loss + s.ibot_weight * ibot_loss(wide_logits[:, 1:], whole, hidden, s.student_temperature)
    return loss


def main(arguments: list[str] | None = None) -> None:
    """The command: render, train, write."""
    parser = argparse.ArgumentParser(description="Train the mini backbones of the sample profile.")
    parser.add_argument("which", nargs="*", default=["all"], help="openclip, siglip, dinov2 or all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--seed", type=int, default=1_000_003, help="of the scenes and of the training")
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
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
    crops = training_crops(
        options.seed,
        options.scenes,
        options.threads,
        lambda done, n: report(f"scenes: {done}/{n}") if done % 200 == 0 or done == n else None,
    )
    for name in names:
        run = Run(options.seed, options.precision == "bf16", report, options.device)
        train_and_write(name, crops, options.out / name, run, options.speed_up)


def train_and_write(name: str, crops: Crops, folder: Path, run: Run, speed_up: float = 1.0) -> None:
    """Train one mini and write it in its family's format.

    Args:
        name: a key of `export.WRITERS`.
        crops: what to learn from.
        folder: where the weights go.
        run: seed, precision, progress.
        speed_up: the number of steps is divided by it.
    """
    base = DINO_RECIPE if name == "dinov2" else TEXT_RECIPE
    recipe = replace(base, steps=max(1, round(base.steps / speed_up)))
    folder.mkdir(parents=True, exist_ok=True)
    if name == "openclip":
        export.write_openclip_config(folder)
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
