"""Wall time of every table at TACO's size: 4,779 items, both label sets, five seeds, from views alone.

    python benchmarks/tables.py [--seeds 5] [--splits taco56] [--all] [--threads 0]

The features are Gaussian clusters of the backbones' widths (512 and 768, side by side 1280; with
`--all` a second 768 and all together 2048), the labels have TACO's counts, the learning rates are
the profile's: stated for two backbones, chosen on validation for what is joined. Seconds are those
of the whole stage, from opening the views to the written tables and heads.
"""

import csv
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from clusters import TACO56, Clusters
from figures import Line, parser, report

from deponij.pipeline.data.adapters.label_maps import BUILT_IN
from deponij.pipeline.data.splitting.strategies import SplitParams, make_split
from deponij.project.tables import cells as table_cells
from deponij.project.tables.plan import Inputs, TablesParams
from deponij.stages import tables
from deponij.store.atomic import write_table
from deponij.store.identity import Identity
from deponij.store.items import ItemWriter
from deponij.store.keys import key_of_bytes, key_of_text
from deponij.store.shard import row_checksums
from deponij.store.view import write_view

WIDTHS = {"openclip-vit-b-16": 512, "siglip-base-16": 768, "dinov2-base": 768}
WITH_TEXTS = ("openclip-vit-b-16", "siglip-base-16")
RATES = {"openclip-vit-b-16": 1e-3, "dinov2-base": 1e-4}
TEMPLATES = ("{}", "a photo of a {}")
PHOTOGRAPHS = 1500


def make_inputs(root: Path, backbones: list[str], splits: list[str], distance: float = 6.0) -> Inputs:
    """A made-up TACO: items without pictures, splits, views of features and of texts."""
    rng = np.random.default_rng(0)
    names = sorted(TACO56)
    codes = rng.permutation(np.repeat(np.arange(len(names)), [TACO56[name] for name in names]))
    with BUILT_IN["taco10"].open(encoding="utf-8", newline="") as file:
        ten = dict(row for row in csv.reader(file))
    labels = {
        "taco56": [names[code] for code in codes],
        "taco10": [ten[names[code]] for code in codes],
    }
    ids = [f"{number:05d}" for number in range(len(codes))]
    photographs = [f"{photo}" for photo in rng.integers(PHOTOGRAPHS, size=len(codes))]
    _write_items(root / "items", ids, photographs, labels)
    for split in splits:
        columns = {"item_id": ids, "image_id": photographs, **labels}
        parts = make_split(columns, SplitParams(strategy=split, labels="taco56")).parts.tolist()
        write_table(
            root / f"{split}.parquet", pa.table({"item_id": ids, "part": pa.array(parts, pa.string())})
        )
    for seed, backbone in enumerate(backbones):
        clusters = Clusters.made(np.bincount(codes), WIDTHS[backbone], distance, seed)
        _write_features(root / f"{backbone}.h5", backbone, ids, clusters.features(codes, 100 + seed))
        if backbone in WITH_TEXTS:
            _write_texts(root / f"{backbone}-texts.h5", backbone, names, sorted(set(ten.values())), clusters)
    return Inputs(
        features=tuple(root / f"{backbone}.h5" for backbone in backbones),
        texts=tuple(root / f"{backbone}-texts.h5" for backbone in backbones if backbone in WITH_TEXTS),
        items=root / "items",
        splits=tuple(root / f"{split}.parquet" for split in splits),
        labels=("taco10", "taco56"),
    )


def _write_items(path: Path, ids: list[str], photographs: list[str], labels: dict[str, list[str]]) -> None:
    with ItemWriter(path, pa.schema([(name, pa.string()) for name in labels])) as writer:
        for row, item_id in enumerate(ids):
            content = item_id.encode()
            writer.add(
                item_id=item_id,
                key=key_of_bytes(content),
                image_id=photographs[row],
                content=content,
                metadata={name: values[row] for name, values in labels.items()},
            )


def _identity(backbone: str, kind: str) -> Identity:
    return Identity(f"made:{backbone}", backbone.ljust(64, "0"), kind, "none", "", "fp32", "float32")


def _write_features(path: Path, backbone: str, ids: list[str], embedding: np.ndarray) -> None:
    arrays = {"embedding": embedding}
    write_view(
        path,
        identity=_identity(backbone, "embedding"),
        backbone=backbone,
        ids=ids,
        keys=[key_of_bytes(item_id.encode()) for item_id in ids],
        checksums=row_checksums(arrays, len(ids)),
        arrays=arrays,
    )


def _write_texts(path: Path, backbone: str, names: list[str], ten: list[str], clusters: Clusters) -> None:
    """Text vectors near the classes' centres; those of the ten classes lie anywhere."""
    rng = np.random.default_rng(7)
    centre = dict(zip(names, clusters.centres, strict=True))
    groups = sorted({*names, *ten})
    rows = [(group, template) for group in groups for template in TEMPLATES]
    vectors = np.array([centre.get(group, rng.normal(size=clusters.centres.shape[1])) for group, _ in rows])
    arrays = {"embedding": (vectors + 0.1 * rng.normal(size=vectors.shape)).astype(np.float32)}
    texts = [template.replace("{}", group) for group, template in rows]
    write_view(
        path,
        identity=_identity(backbone, "text"),
        backbone=backbone,
        ids=[f"{number}" for number in range(len(rows))],
        keys=[key_of_text(text) for text in texts],
        checksums=row_checksums(arrays, len(rows)),
        arrays=arrays,
        columns={
            "text": texts,
            "group": [group for group, _ in rows],
            "template": [template for _, template in rows],
        },
    )


def adding(seconds: dict[str, float], module: Any, name: str, what: str) -> None:
    """Let a function of a module add its wall time to `seconds`."""
    function: Callable[..., Any] = getattr(module, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[what] = seconds.get(what, 0.0) + time.perf_counter() - start

    setattr(module, name, wrapped)


def main() -> int:
    """Run, and print the parts' seconds."""
    flags = parser(__doc__)
    flags.add_argument("--seeds", type=int, default=5)
    flags.add_argument("--splits", default="taco56", help="of taco56, group, random; comma-separated")
    flags.add_argument("--all", action="store_true", help="three backbones instead of two")
    flags.add_argument("--threads", type=int, default=0, help="0: one per core")
    flags.add_argument("--show", action="store_true", help="print the tables too")
    args = flags.parse_args()
    backbones = [name for name in WIDTHS if args.all or name != "siglip-base-16"]
    seconds: dict[str, float] = {}
    adding(seconds, table_cells, "read_shared_examples", "reading")
    adding(seconds, table_cells, "_learn", "learning")
    adding(seconds, table_cells, "_write", "results folders")
    adding(seconds, table_cells, "measured_cell", "scores and intervals")
    with tempfile.TemporaryDirectory(prefix="deponij-bench-") as folder:
        root = Path(folder)
        inputs = make_inputs(root, backbones, args.splits.split(","))
        params = TablesParams(
            seeds=args.seeds, lrs={name: RATES[name] for name in backbones if name in RATES}
        )
        start, cpu_start = time.perf_counter(), time.process_time()
        cells = tables.run(
            params, inputs, threads=args.threads, out=root / "out", results=root / "out" / "results"
        )
        total, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    if args.show:
        from deponij.commands.show.cells import print_cells

        print_cells(cells)
    # On a busy machine the processor time says more: what the stage needed, whoever else was running.
    parts = {**seconds, "other": total - sum(seconds.values()), "all": total, "processor time": cpu}
    lines = [Line("cells", len(cells)), *(Line(what, spent, "s") for what, spent in parts.items())]
    return report(lines, args.json, backbones=len(backbones), splits=args.splits, threads=args.threads)


if __name__ == "__main__":
    raise SystemExit(main())
