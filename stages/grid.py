"""What the learning stages do under DVC: one method and backbone over every split and label set.

Besides a results folder for each pair, two files for DVC: numbers (`dvc metrics show`) and the test
part's confusion under the first split and label set (`dvc plots show`). This is no stage.
"""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.metrics.evaluation import Evaluation
from stages.console import say
from stages.layout import Layout
from stages.results import CONFUSION_NAME
from store.atomic import write_bytes

# Learn and score one split and label set, writing to a folder.
RunOne = Callable[[Path, str, Path], Evaluation]


def run_grid(
    at: Layout, method: str, key: str, splits: Iterable[str], labels: Iterable[str], run_one: RunOne
) -> None:
    """Run `run_one(split table, label column, results folder)` for every pair and write DVC's two files."""
    root = at.result(method, key)
    shutil.rmtree(root, ignore_errors=True)
    metrics: dict[str, dict[str, object]] = {}
    pairs = [(split, column) for split in splits for column in labels]
    for split, column in pairs:
        result = run_one(at.split(split), column, root / f"{split}-{column}")
        metrics.setdefault(split, {})[column] = _numbers(result)
        test = result.parts.get("test")
        if test is not None:
            say(
                f"{method} {key} {split}/{column}: test top-1 {test.top1:.1%} of {test.n} (chance {result.chance:.1%})"
            )
    write_bytes(at.metrics(method, key), (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    first_split, first_labels = pairs[0]
    write_bytes(at.plot(method, key), _confusion(root / f"{first_split}-{first_labels}" / CONFUSION_NAME))


def _numbers(result: Evaluation) -> dict[str, dict[str, float]]:
    chosen = ("top1", "top2", "top3", "balanced_accuracy", "n")
    return {
        part: {name: round(getattr(s, name), 6) for name in chosen}
        for part, s in sorted(result.parts.items())
    }


def _confusion(path: Path) -> bytes:
    """DVC's confusion template wants at least one row."""
    rows = list(csv.DictReader(io.StringIO(path.read_text()))) if path.exists() else []
    out = io.StringIO()
    writer = csv.DictWriter(out, ["truth", "prediction"], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()
