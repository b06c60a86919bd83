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
_BYTES = ("head.json", "head.safetensors", "ensemble.safetensors", "logits.npy")
# Of a few-shot record; the rest are figures of the test part.
_OF_THE_DRAW = ("per_class", "n_train", "n_test", "tries", "k", "chosen", "n_groups")


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
        for figure in [name for name in one if name not in _OF_THE_DRAW]:
            one.pop(figure)
    answers = read_table(folder / "predictions.parquet").drop_columns(["truth"]).to_pylist()
    files: dict[str, Any] = {
        name: (folder / name).read_bytes() for name in _BYTES if (folder / name).is_file()
    }
    for of_ensemble in (record, files.setdefault("ensemble.json", _card(folder / "ensemble.json"))):
        for member in of_ensemble.get("members", []):
            # A digest of all that the member's folder holds, its test figures too.
            member.pop("sha256")
    return {"record": record, "temperature": told["temperature"], "answers": answers, "files": files}


def _card(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def top1_of_test(folder: Path) -> float:
    """The figure that must move, else nothing is shown."""
    return float(json.loads((folder / "result.json").read_text())["parts"]["test"]["top1"])
