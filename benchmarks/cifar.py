"""What tuning buys on few pictures: EfficientNet-Lite0 on 5,000 of CIFAR-10, frozen, by adapters and as a whole.

    python benchmarks/cifar.py --shared ../shared --out /tmp/cifar [--px 128] [--epochs 6] [--learn 5000] [--test 2000]

As many pictures of each class, drawn by seed 0 from CIFAR-10's own parts: a tenth of those to learn from chooses the epoch,
the others are learned from; those to test are of its test part. It is `deponij run --tune lora --tune full` on folders, all
of it at the same size of input, so that the figures are those of the page's ledger, which is printed. What a run has
finished is not done again.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--px", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learn", type=int, default=5000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--recipes", default="lora,full")
    given = parser.parse_args()
    pictures = given.out / "pictures"
    if not pictures.is_dir():
        draw(given.shared / "data" / "cifar10" / "plain_text", pictures, given.learn, given.test)
    recipes = [one for name in given.recipes.split(",") for one in ("--tune", name)]
    parts = [one for part in ("train", "val", "test") for one in ("--treat", f"{part}={part}")]
    size = [str(given.px)] * 2
    begin = time.perf_counter()
    asked = ["--backbone", given.shared / "data" / "efficientnet_lite0", "--input-px", *size, *recipes]
    asked += ["--tune-set", f"training.epochs={given.epochs}", "--tune-set", "augment=light"]
    places = ["--out", given.out / "run", "--depot", given.out / "depot"]
    run = [sys.executable, "-m", "deponij.cli", "run", "--folder", pictures, *parts]
    subprocess.run([*run, *asked, *places], check=True)
    print(f"{time.perf_counter() - begin:.0f} s")
    told = next((given.out / "run").rglob("results.md")).read_text()
    print(told[told.index("## Tuning") :].split("\n## ", 2)[0])


def draw(parquet: Path, pictures: Path, n_learn: int, n_test: int) -> None:
    """Class folders within the folders of three parts."""
    rng = np.random.default_rng(0)
    for name, n, parts in (("train", n_learn, {"val": 0.1, "train": 0.9}), ("test", n_test, {"test": 1.0})):
        table = pq.read_table(next(parquet.glob(f"{name}-*.parquet")))
        labels = table["label"].to_numpy()
        for number, label in enumerate(CLASSES):
            rows = rng.permutation(np.flatnonzero(labels == number))[: n // len(CLASSES)].tolist()
            for part, share in parts.items():
                n_part = round(share * n / len(CLASSES))
                folder = pictures / part / label
                folder.mkdir(parents=True)
                for row in rows[:n_part]:
                    (folder / f"{row:05}.jpg").write_bytes(table["img"][row].as_py()["bytes"])
                rows = rows[n_part:]


if __name__ == "__main__":
    main()
