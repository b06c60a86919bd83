"""What twice the pictures would bring, by the backbone that comes first: from the learning curves of a run."""

from collections.abc import Sequence
from typing import Any

from deponij.pipeline.metrics.curves import CURVES
from deponij.pipeline.reports.table import ResultGroup, by_rank
from deponij.project.frame.layout import Layout


def twice_as_many(at: Layout, groups: Sequence[ResultGroup]) -> list[dict[str, Any]]:
    """A record for each label set and split: whose features and which head, what it brings now and with
    twice the pictures (`Twice`), and that in words.

    Of the classifiers in their order the first counts whose backbone has a curve; a question without curves is left out.

    Raises:
        StoreError: a file of curves is damaged.
    """
    outlooks = []
    for group in groups:
        for row in by_rank(group.rows):
            path = at.curves(row.backbone) if row.backbone else None
            if path is None or not path.is_file():
                continue
            question = group.labels, group.split
            points = CURVES.load(path.read_bytes(), str(path))
            last = [one for one in points if one.twice is not None and (one.labels, one.split) == question]
            if last:
                # The logistic regression comes first wherever it was asked for.
                shown = {"labels", "split", "backbone", "head", "top1", "twice"}
                outlooks.append(
                    last[0].model_dump(mode="json", include=shown) | {"told": last[0].twice_as_many}
                )
                break
    return outlooks
