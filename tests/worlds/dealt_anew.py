"""A world whose test labels are dealt anew, and what of a results folder that may not change: whatever was learned,
chosen, or answered. Only figures of the test part may move.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from learning_world import World, picture, write_items

from deponij.store.atomic import read_table

# Written from what was learned and from the items' features; nothing of them knows a label of the test part.
_BYTES = ("head.json", "head.safetensors", "ensemble.json", "ensemble.safetensors", "logits.npy")


def dealt_anew(world: World, root: Path) -> World:
    """The same items, features and split; the labels of the test part are dealt among its labelled items."""
    rows = [
        i
        for i, (part, label) in enumerate(zip(world.parts, world.labels, strict=True))
        if label and part == "test"
    ]
    labels = list(world.labels)
    for i, j in zip(rows, np.random.default_rng(1).permutation(rows), strict=True):
        labels[i] = world.labels[j]
    contents = [None if i == 12 else picture(i) for i in range(len(world.ids))]
    write_items(root / "items", list(zip(world.ids, contents, labels, strict=True)))
    return replace(world, items=root / "items", labels=tuple(labels))


def choices(folder: Path) -> dict[str, Any]:
    """What of a results folder no label of the test part may touch."""
    record = json.loads((folder / "result.json").read_text())
    test = record["parts"].pop("test")
    assert test["n"] > 0
    told = record.pop("calibration")
    for one in record.get("learned", {}).get("every_k", []):
        one["parts"].pop("test")
    for one in record.get("learned", {}).get("few_shot", []):
        for figure in ("top1", "top1_std", "balanced_accuracy"):
            one.pop(figure)
    answers = read_table(folder / "predictions.parquet").drop_columns(["truth"]).to_pylist()
    files = {name: (folder / name).read_bytes() for name in _BYTES if (folder / name).is_file()}
    return {"record": record, "temperature": told["temperature"], "answers": answers, "files": files}


def top1_of_test(folder: Path) -> float:
    """The figure that must move, else nothing is shown."""
    return float(json.loads((folder / "result.json").read_text())["parts"]["test"]["top1"])
