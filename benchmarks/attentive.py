"""The attentive probe against probes on one vector a picture, on the same pictures: by how much, with interval.

    .venv/bin/python benchmarks/attentive.py [--shared ../shared] [--work FOLDER] [--train 5000] [--test 2000] [--json FILE]

Two backbones. EfficientNet-Lite0, which learnt from ImageNet, on pictures of CIFAR-10 (both from DEPONIJ_SHARED): its last
stage gives 7 x 7 tokens of 320 channels; its embedding is 1,280 wide, for a layer more stands behind the stage. And the
sample's mini DINOv2 on the sample's own crops: class token, mean token and patch tokens have one width.

Learned on train, chosen on validation (a tenth of what is not for testing, or the sample's own), judged once on test; all
differences are paired, item by item, against the first line of their table. Features are stored in FOLDER (3 minutes a
thousand pictures where the machine is busy, 350 MB for the whole); a second run takes them from there.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from figures import ROOT, Line, parser, report

from deponij.pipeline.data.splitting.strategies import SplitParams
from deponij.project.frame.settings import RunOptions, load
from deponij.project.learning import compare
from deponij.project.learning.learn import HeadParams, HeadResult, learn
from deponij.stages import extract, items, prepare, split
from deponij.store.texts import percent

CIFAR = Path("data/cifar10/plain_text")
LITE0 = Path("data/efficientnet_lite0")
GENTLE = {"crop": 0.6, "noise": 0.1}


@dataclass(frozen=True)
class Way:
    """One way to answer from features.

    Attributes:
        name: for people. head, arguments, token: as `HeadParams`.
        kinds: of the features, each a view.
    """

    name: str
    head: str
    kinds: tuple[str, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    token: str | None = None


LITE0_WAYS = (
    Way("logistic on the mean token", "logistic", ("dense@1",), token="mean"),
    Way("linear (AdamW) on the mean token", "linear", ("dense@1",), token="mean"),
    Way("attentive, 8 queries", "attentive", ("dense@1",)),
    Way("attentive, 32 queries", "attentive", ("dense@1",), {"n_queries": 32}),
    Way("attentive, 8 queries, value map", "attentive", ("dense@1",), {"value_dim": 320}),
    Way("attentive, 8 queries, crops and noise", "attentive", ("dense@1",), GENTLE),
    Way(
        "attentive, 8 queries, value map, crops and noise",
        "attentive",
        ("dense@1",),
        {"value_dim": 320, **GENTLE},
    ),
    Way(
        "attentive, 8 queries, value map, flips, crops and noise",
        "attentive",
        ("dense@1", "dense@1+flip"),
        {"value_dim": 320, "flip": True, **GENTLE},
    ),
    Way("logistic on the embedding", "logistic", ("embedding",)),
)
MINI_WAYS = (
    Way("logistic on the class token", "logistic", ("tokens@1",), token="class"),
    Way("logistic on the mean token", "logistic", ("tokens@1",), token="mean"),
    Way("attentive, 8 queries", "attentive", ("dense@1",)),
    Way("attentive, 8 queries, value map", "attentive", ("dense@1",), {"value_dim": 192}),
    Way("attentive, 8 queries, crops and noise", "attentive", ("dense@1",), GENTLE),
)


@dataclass(frozen=True)
class Bench:
    """A backbone, items with a split, and where features lie."""

    folder: Path
    backbone: str
    labels: str
    options: RunOptions

    @property
    def items(self) -> Path:
        return self.folder / "items"

    @property
    def split(self) -> Path:
        return self.folder / "split.parquet"

    def view(self, kind: str) -> Path:
        path = self.folder / f"{kind}.h5"
        params = extract.ExtractParams(kind=kind)
        if not path.is_file():
            extract.run(params, items=self.items, backbone=self.backbone, out=path, options=self.options)
        return path

    def learned(self, way: Way) -> tuple[HeadResult, Path, float]:
        views, out = (
            [self.view(kind) for kind in way.kinds],
            self.folder / "results" / way.name.replace(" ", "-"),
        )
        params = HeadParams(head=way.head, arguments=way.arguments, token=way.token)
        begin = time.perf_counter()
        inputs: dict[str, Any] = {"items": self.items, "split": self.split, "labels": self.labels}
        result = learn(params, features=views, out=out, depot=self.options.depot, **inputs)
        return result, out, time.perf_counter() - begin


def cifar(shared: Path, work: Path, n_train: int, n_test: int, options: RunOptions) -> Bench:
    """The first pictures of both files of CIFAR-10."""
    folder = work / "cifar"
    files = []
    for part, n in (("train", n_train), ("test", n_test)):
        files.append(folder / f"{part}.parquet")
        folder.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(shared / CIFAR / f"{part}-00000-of-00001.parquet").slice(0, n)
        pq.write_table(table, files[-1])
    bench = Bench(folder, str(shared / LITE0), "label", options)
    items.run("parquet", {"files": files}, out=bench.items, run_options=options)
    split.run(SplitParams(strategy="given", labels="label"), items=bench.items, out=bench.split)
    return bench


def sample(work: Path, options: RunOptions) -> Bench:
    """The sample's crops, as its profile makes and splits them."""
    bench, profile = (
        Bench(work / "sample", "mini-dinov2", "category", options),
        ROOT / "profiles" / "sample.yaml",
    )
    drawn, root = load(prepare.Params, profile).prepare.sample, bench.folder / "data"
    if drawn is not None:
        prepare.draw_sample(root, drawn.scenes, drawn.seed, options.n_workers)
    data = load(items.Params, profile).data
    places = {"annotations": root / "annotations.json", "images": root / "images"}
    items.run(data.adapter, {**data.options, **places}, out=bench.items, run_options=options)
    split.run(load(split.Params, profile).splits["group"], items=bench.items, out=bench.split)
    return bench


def lines(bench: Bench, ways: Sequence[Way]) -> Iterator[Line]:
    """Each way judged and compared with the first."""
    first: Path | None = None
    for way in ways:
        result, out, seconds = bench.learned(way)
        val, test = result.parts["val"], result.parts["test"]
        weights = result.learned.get("n_weights", result.n_classes * (result.dim + 1))
        said = f"val {percent(val.top1)}, {weights:,} weights, {seconds:.0f} s"
        if first is not None:
            apart = compare.run(out, first).difference
            low, high = (100 * one for one in apart.interval or (float("nan"),) * 2)
            said += f"; {100 * apart.value:+.1f} [{low:+.1f}, {high:+.1f}], p = {apart.p:.3g}"
        first = first or out
        print(f"    {way.name}: {result.protocol}\n    {said}", flush=True)
        yield Line(f"{way.name} (n = {test.n:,})", 100 * test.top1, "percent")


def main() -> int:
    flags = parser(__doc__ or "")
    shared = Path(os.environ.get("DEPONIJ_SHARED", ROOT.parent / "shared"))
    flags.add_argument("--shared", type=Path, default=shared)
    flags.add_argument("--work", type=Path)
    flags.add_argument("--train", type=int, default=5000)
    flags.add_argument("--test", type=int, default=2000)
    flags.add_argument("--only", choices=("cifar", "sample"))
    asked = flags.parse_args()
    shared, work = asked.shared.resolve(), (asked.work or Path(tempfile.mkdtemp())).resolve()
    options = RunOptions(depot=str(work / "depot"), threads=1, workers=1)
    missed = 0
    if asked.only != "sample":
        if (shared / CIFAR).is_dir() and (shared / LITE0).is_dir():
            bench = cifar(shared, work, asked.train, asked.test, options)
            missed |= report(
                lines(bench, LITE0_WAYS), asked.json, backbone="EfficientNet-Lite0", data="CIFAR-10"
            )
        else:
            print(f"no CIFAR-10 and EfficientNet-Lite0 in {shared}; name the folder with --shared")
    if asked.only != "cifar":
        missed |= report(
            lines(sample(work, options), MINI_WAYS), None, backbone="mini-dinov2", data="the sample"
        )
    return missed


if __name__ == "__main__":
    sys.exit(main())
