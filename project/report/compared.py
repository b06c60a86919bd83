"""The few numbers by which experiments are compared: each is a column of `dvc metrics show` and `dvc exp show`.

Everything else is in the files of results. This is no stage.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deponij.pipeline.reports.multilabel import MultilabelRow
from deponij.pipeline.reports.table import ResultGroup
from deponij.project.frame.layout import Layout
from deponij.project.learning.result_files import read_result

# Of each backbone the classifier that every profile has unless it says otherwise, and that changes least by chance.
_PROBE = "logistic"


def compared(group: ResultGroup, probes: Sequence[tuple[str, Path]]) -> dict[str, Any]:
    """Top-1 in percent, with one decimal: of the chosen classifier (as it may be told) and on validation, of each probe.

    Args:
        group: the first question of the profile, as plots show it: one label set on one split.
        probes: backbone and results folder.

    Returns:
        Names and numbers; what there is not (no validation part, no probe) is left out.

    Raises:
        StoreError: a folder holds no results, or damaged ones.
    """
    numbers: dict[str, Any] = {}
    if group.chosen is not None:
        numbers[group.chosen.part] = _percent(group.chosen.worth[0])
    if group.chosen is not None and group.chosen.val_top1 is not None:
        numbers["val"] = _percent(group.chosen.val_top1)
    of_probes = {name: read_result(folder)[0] for name, folder in probes}
    part = group.rows[0].part
    probed = {name: _percent(one.parts[part].top1) for name, one in of_probes.items() if part in one.parts}
    return numbers | ({"probe": probed} if probed else {})


def compared_sets(rows: Sequence[MultilabelRow]) -> dict[str, Any]:
    """Of several labels an item: macro mAP in percent of the chosen classifier, as it may be told and on validation."""
    chosen = next((row for row in rows if row.is_chosen), None)
    if chosen is None:
        return {}
    told = {chosen.part: _percent(chosen.map_macro)}
    return {"map": told | ({} if chosen.val_map is None else {"val": _percent(chosen.val_map)})}


def probes_of(at: Layout, backbones: Sequence[str], group: ResultGroup) -> list[tuple[str, Path]]:
    """The probe's results of each backbone that has one."""
    folders = [(name, at.result(_PROBE, name) / f"{group.split}-{group.labels}") for name in backbones]
    return [(name, folder) for name, folder in folders if folder.is_dir()]


def metrics_bytes(numbers: dict[str, Any]) -> bytes:
    """As DVC reads them; equal numbers give equal bytes."""
    return (json.dumps(numbers, indent=1) + "\n").encode()


def _percent(share: float) -> float:
    return round(100 * share, 1)
