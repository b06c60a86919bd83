"""Training a backbone: the loop's steps a second against a bare loop's, and the memory of LoRA against learning all.

    python benchmarks/tuning.py [--threads 1] [--steps 6] [--rounds 5] [--only loop,memory]

Networks are timm's with random weights, pictures random numbers of 224 px that lie on the device already. Loop: the
project's training loop (`pipeline.training.loop.train`), of which an epoch has so many steps, against forward, backward and
a step of the same AdamW on the same numbers, in turns, so that what else the machine does weighs on both; the loop's own
beginning and end are in its time. A ratio is one of its round, the figure their median.

Memory: ViT-B/16, eight pictures, float32, in a process of its own for each, which does nothing else, by what is resident at
the peak of two steps beyond the freshly loaded model; once with each array mapped by itself, so that it is what lives, and
once with glibc's heap as every process of Deponij has it, whose gaps add to that, most of all to LoRA's. LoRA: rank 8 on the
attention's matrices, by peft.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from deponij.project.frame.allocator import keep_pages

keep_pages()

import timm  # noqa: E402
import torch  # noqa: E402
from figures import Line, below, parser, reaching, report, timed  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from deponij.pipeline.training.costs import PeakMemory  # noqa: E402
from deponij.pipeline.training.loop import train  # noqa: E402
from deponij.pipeline.training.params import TrainingParams  # noqa: E402
from deponij.pipeline.training.task import ParameterGroup  # noqa: E402
from deponij.pipeline.training.weights import optimizer_of  # noqa: E402
from deponij.project.frame.device import pick_device  # noqa: E402

VIT, RESNET = "vit_base_patch16_224", "resnet18"
PX, BATCH, N_CLASSES, RANK = 224, 8, 10, 8
# Of glibc: what is resident is then what lives.
APART = {"MALLOC_MMAP_THRESHOLD_": "65536"}
LEAST_RATIO, MOST_MEMORY = 0.95, 0.5
PARAMS = TrainingParams(
    epochs=1, batch_size=BATCH, lr=1e-5, schedule="constant", optimizer="adamw", keep="last"
)


class Classify:
    """A network that learns to classify random numbers.

    Args:
        rank: of LoRA on the attention; None: all learns.
    """

    def __init__(self, name: str, device: str, n_steps: int, rank: int | None = None) -> None:
        torch.manual_seed(0)
        sized = {"img_size": PX} if "vit" in name else {}
        model: nn.Module = timm.create_model(name, num_classes=N_CLASSES, **sized)
        if rank is not None:
            from peft import LoraConfig, inject_adapter_in_model

            matrices = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=r".*\.attn\.(qkv|proj)")
            model = inject_adapter_in_model(matrices, model)
        self.model = model.to(device)
        self.identity = name
        self._n_steps = n_steps
        self.given = [
            torch.randn(BATCH, 3, PX, PX, device=device),
            torch.randint(N_CLASSES, (BATCH,), device=device),
        ]

    def groups(self) -> list[ParameterGroup]:
        """All that learns."""
        return [ParameterGroup([one for one in self.model.parameters() if one.requires_grad])]

    def n_batches(self) -> int:
        """Steps."""
        return self._n_steps

    def batches(self, epoch: int, first: int = 0) -> Iterator[Any]:
        """The same batch again and again."""
        for _ in range(first, self._n_steps):
            yield self.given

    def loss(self, batch: Any) -> Tensor:
        """Cross-entropy."""
        pictures, labels = batch
        return nn.functional.cross_entropy(self.model(pictures), labels)

    def counts(self, batch: Any) -> float:
        """Its pictures."""
        return len(batch[0])

    def validate(self) -> dict[str, float]:
        """Nothing to choose on."""
        return {}


def bare(task: Classify) -> None:
    """Steps as anybody writes them; the loss is looked at once, at the end."""
    task.model.train()
    optimizer = optimizer_of(task.groups(), PARAMS)
    for batch in task.batches(0):
        loss = task.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    float(loss.detach())


def against_bare(name: str, args: argparse.Namespace) -> Iterator[Line]:
    """The loop's steps a second over the bare ones'."""
    device = pick_device(args.device)
    task, few = Classify(name, device, args.steps), Classify(name, device, 1)
    few.model = task.model

    def ours(one: Classify) -> None:
        train(one, PARAMS, device=device, n_threads=args.threads)

    for way in (bare, ours):
        way(few)
    rounds: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for number in range(args.rounds):
        # Who is first changes, too.
        ways = (bare, ours) if number % 2 == 0 else (ours, bare)
        seconds = {way: spent(way, task) for way in ways}
        rounds.append((seconds[bare], seconds[ours]))
    yield Line(f"{name}: bare", args.steps / statistics.median(one[0] for one, _ in rounds), "steps/s")
    yield Line(f"{name}: the loop", args.steps / statistics.median(one[0] for _, one in rounds), "steps/s")
    if device == "cpu":
        ratio = statistics.median(of_bare[1] / of_loop[1] for of_bare, of_loop in rounds)
        yield Line(f"{name}: the loop over bare, by processor time", ratio)
    ratios = [of_bare[0] / of_loop[0] for of_bare, of_loop in rounds]
    yield Line(f"{name}: the loop over bare, least of the rounds", min(ratios))
    yield Line(f"{name}: the loop over bare, most of the rounds", max(ratios))
    yield reaching(f"{name}: the loop over bare", statistics.median(ratios), "", LEAST_RATIO)


def spent(way: Callable[[Classify], None], task: Classify) -> tuple[float, float]:
    """Seconds, and those of the processor, which say more where others use it too."""
    begin = time.process_time()
    seconds, _ = timed(way, task)
    return seconds, time.process_time() - begin


def memory(args: argparse.Namespace) -> Iterator[Line]:
    """LoRA's peak over that of learning all."""
    heaps = (
        {"": {}} if args.device != "cpu" else {", each array mapped by itself": APART, ", glibc's heap": {}}
    )
    for heap, settings in heaps.items():
        peaks = {}
        for what in ("all", "lora"):
            command = [sys.executable, __file__, "--measure", what, "--device", args.device]
            command += ["--threads", str(args.threads)]
            environment = {**os.environ, **settings}
            ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            told = json.loads(ended.stdout)
            peaks[what] = told["peak"] / 1e9
            yield Line(f"{what}: weights that learn", told["learning"] / 1e6, "M")
            yield Line(f"{what}: peak beyond the model{heap}", peaks[what], "GB")
        ratio = peaks["lora"] / peaks["all"]
        name = f"LoRA over all{heap}"
        yield below(name, ratio, "", MOST_MEMORY) if settings or not heap else Line(name, ratio)


def measure(what: str, args: argparse.Namespace) -> dict[str, int | None]:
    """Bytes at the peak of two steps beyond the loaded model, in this process."""
    device = pick_device(args.device)
    torch.set_num_threads(args.threads)
    rank = RANK if what == "lora" else None
    # A small network brings the libraries into memory.
    bare(Classify("test_vit", device, 1, rank))
    task = Classify(VIT, device, 2, rank)
    with PeakMemory(device) as peak:
        bare(task)
    return {"peak": peak.n_bytes, "learning": sum(one.numel() for one in task.groups()[0].parameters)}


def all_parts(args: argparse.Namespace) -> Iterator[Line]:
    """What was asked for."""
    if "loop" in args.only:
        for name in (VIT, RESNET):
            yield from against_bare(name, args)
    if "memory" in args.only:
        yield from memory(args)


def main() -> int:
    flags = parser(__doc__)
    flags.add_argument("--only", default="loop,memory")
    flags.add_argument("--steps", type=int, default=6)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--threads", type=int, default=1)
    flags.add_argument("--measure", choices=("all", "lora"), help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.measure is not None:
        print(json.dumps(measure(args.measure, args)))
        return 0
    torch.set_num_threads(args.threads)
    facts = {name: getattr(args, name) for name in ("steps", "rounds", "device", "threads")}
    return report(all_parts(args), args.json, **facts)


if __name__ == "__main__":
    raise SystemExit(main())
