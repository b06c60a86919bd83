"""What the learning stages do under DVC: one method and backbone over every split and label set.

Besides a results folder for each pair, three files for DVC: numbers (`dvc metrics show`), and the test
part's confusion and reliability under the first split and label set (`dvc plots show`). This is no stage.
"""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.frame.console import say
from deponij.project.frame.layout import Layout
from deponij.project.learning.results import CONFUSION_NAME, metrics_of
from deponij.store.atomic import write_bytes

# Learn and score one split and label set, writing to a folder.
RunOne = Callable[[Path, str, Path], Evaluation]


def run_grid(
    at: Layout, method: str, key: str, splits: Iterable[str], labels: Iterable[str], run_one: RunOne
) -> None:
    """Run `run_one(split table, label column, results folder)` for every pair and write DVC's three files."""
    root = at.result(method, key)
    shutil.rmtree(root, ignore_errors=True)
    metrics: dict[str, dict[str, object]] = {}
    results: list[Evaluation] = []
    pairs = [(split, column) for split in splits for column in labels]
    for split, column in pairs:
        result = run_one(at.split(split), column, root / f"{split}-{column}")
        results.append(result)
        metrics.setdefault(split, {})[column] = metrics_of(result)
        test = result.parts.get("test")
        if test is not None:
            say(
                f"{method} {key} {split}/{column}: test top-1 {test.top1:.1%} of {test.n} (chance {result.chance:.1%})"
            )
    write_bytes(at.metrics(method, key), (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    first_split, first_labels = pairs[0]
    write_bytes(at.plot(method, key), _confusion(root / f"{first_split}-{first_labels}" / CONFUSION_NAME))
    write_bytes(at.reliability(method, key), _reliability(results[0]))


def _confusion(path: Path) -> bytes:
    """DVC's confusion template wants at least one row."""
    rows = list(csv.DictReader(io.StringIO(path.read_text()))) if path.exists() else []
    out = io.StringIO()
    writer = csv.DictWriter(out, ["truth", "prediction"], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _reliability(result: Evaluation) -> bytes:
    """Confidence, accuracy and number of items of each bin that has some."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["confidence", "accuracy", "n"])
    for one in result.calibration.bins if result.calibration is not None else ():
        if one.confidence is not None and one.accuracy is not None:
            writer.writerow([round(one.confidence, 6), round(one.accuracy, 6), one.n])
    return out.getvalue().encode()
