"""Networks that start from nothing, on 5,000 pictures of CIFAR-10, and what a teacher gives to one of them.

    python benchmarks/from_nothing.py --cifar /tmp/cifar --out /tmp/from_nothing [--px 64] [--only resnet-18,deit-ti]

Items, split and teacher are those of `benchmarks/cifar.py --out CIFAR`: EfficientNet-Lite0, tuned as a whole. Each network
is learned by `deponij tune` with labels alone, DeiT-Ti with its distillation token a second time beside the teacher's hard
answers (Touvron et al. 2021, equation 3). Top-1 of the networks' own classifiers on the pictures of the test part, with the
intervals and paired differences of `deponij compare`. What a run has finished is not learned again.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deponij.store.atomic import write_bytes

_RESNET = ("training.optimizer=sgd", "training.lr=0.05", "training.weight_decay=5e-4")
_DEIT = ("training.lr=1e-3", "training.warmup_epochs=3")


@dataclass(frozen=True)
class Network:
    """One training.

    Attributes:
        spec: without its size.
        epochs: as many as take about a quarter of an hour.
        settings: of the recipe.
        is_taught: by the teacher, beside the labels.
    """

    spec: str
    epochs: int
    settings: tuple[str, ...]
    is_taught: bool = False


NETWORKS = {
    "resnet-18": Network("new:resnet-18", 15, _RESNET),
    "atresnet-18": Network("new:atresnet-18", 15, _RESNET),
    "deit-ti": Network("new:deit-ti-distilled", 16, _DEIT),
    "deit-ti-taught": Network("new:deit-ti-distilled", 16, _DEIT, is_taught=True),
}
PAIRS = (("deit-ti-taught", "deit-ti"), ("atresnet-18", "resnet-18"))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--px", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default=",".join(NETWORKS))
    given = parser.parse_args()
    names = given.only.split(",")
    for name in names:
        print(told(name, learn(name, given)), flush=True)
    for one, other in PAIRS:
        if {one, other} <= set(names):
            folders = [str(given.out / "results" / name) for name in (one, other)]
            print(_deponij("compare", *folders).stdout)


def learn(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """What `deponij tune` says of one network."""
    network, said = NETWORKS[name], given.out / f"{name}.json"
    if said.is_file():
        found: dict[str, Any] = json.loads(said.read_text())
        return found
    run = given.cifar / "run"
    asked = ["--items", run / "items", "--split", run / "splits" / "given.parquet", "--labels", "label"]
    asked += ["--backbone", f"{network.spec}@{given.px}", "--recipe", "full", "--epochs", network.epochs]
    if network.is_taught:
        asked += ["--teacher", run / "tuned" / "efficientnet_lite0-full"]
    asked += ["--batch", 64, "--threads", given.threads, "--depot", given.cifar / "depot"]
    for setting in (*network.settings, "augment=light", "mix.smoothing=0.1"):
        asked += ["--set", setting]
    asked += ["--out", given.out / "tuned" / name, "--results", given.out / "results" / name, "--json"]
    answer = _deponij("tune", *map(str, asked)).stdout
    write_bytes(said, answer.encode())
    found = json.loads(answer)
    return found


def told(name: str, record: dict[str, Any]) -> str:
    """A line."""
    parts = ", ".join(f"{part} {top1:.1%}" for part, top1 in record["top1"].items())
    return f"{name}: {record['n_weights']:,} weights, {record['seconds'] / 60:.1f} min, top-1: {parts}"


def _deponij(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deponij.cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
