"""How well pictures and captions find each other, and what tuning changed of it.

In a part's pictures and its different captions each picture asks for its caption and each picture's caption for its
pictures. All pictures of one caption are right answers to it; of equal cosines the wrong ones come first.

Shape letters: n pictures, m captions, d width of the embedding, K measures.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deponij.pipeline.metrics.intervals import Interval
from deponij.pipeline.metrics.resampling import Draws, Floats, sums_by_group
from deponij.pipeline.metrics.retrieval import Task
from deponij.pipeline.retrieval.evaluation import Side, judge_rankings, recall_at
from deponij.project.tuning.record import Recall

KS = (1, 5, 10)
MEASURES = tuple(recall_at(k) for k in KS)
WAYS: tuple[Task, ...] = ("image-to-text", "text-to-image")


@dataclass(frozen=True, slots=True)
class Hits:
    """Whether each picture finds its caption, and its caption one of its pictures, among the first k.

    Attributes:
        is_hit: way -> 0 or 1 [n, K].
        chance: way -> what a random order reaches on average [K].
    """

    is_hit: Mapping[Task, Floats]
    chance: Mapping[Task, Floats]

    @property
    def recall_at_1(self) -> dict[Task, float]:
        """Mean over the pictures, by way."""
        return {way: float(one[:, 0].mean()) for way, one in self.is_hit.items()}


def hits(pictures: NDArray[np.float32], words: NDArray[np.float32], captions: NDArray[np.int64]) -> Hits:
    """Of one part.

    Args:
        pictures: [n, d].
        words: [m, d], of all captions.
        captions: [n], which of them each picture has.
    """
    told, own = np.unique(captions, return_inverse=True)
    images, texts = Side(pictures, captions), Side(words[told], told)
    by_image, by_text = judge_rankings(images, texts, KS), judge_rankings(texts, images, KS)
    return Hits(
        {"image-to-text": _columns(by_image.values), "text-to-image": _columns(by_text.values)[own]},
        {
            "image-to-text": _columns(by_image.chance).mean(axis=0),
            "text-to-image": _columns(by_text.chance)[own].mean(axis=0),
        },
    )


def brought(before: Hits, after: Hits, groups: NDArray[np.str_]) -> dict[Task, dict[str, Recall]]:
    """Recalls before and after tuning, by way and measure, with 95 % by a bootstrap over groups of pictures.

    Args:
        groups: [n]; pictures of one (crops of one photograph) are drawn together.
    """
    return {way: _of_way(before, after, way, groups) for way in WAYS}


def _of_way(before: Hits, after: Hits, way: Task, groups: NDArray[np.str_]) -> dict[str, Recall]:
    n_measures = len(MEASURES)
    both = np.column_stack([before.is_hit[way], after.is_hit[way], np.ones(len(groups))]).astype(np.int64)
    draws = Draws.of(sums_by_group(both, groups))

    def shares(sums: Floats) -> Floats:
        return sums[..., :-1] / sums[..., -1:]

    def interval(weights: Floats) -> Interval | None:
        return draws.interval(lambda sums: shares(sums) @ weights)

    whole, one = shares(draws.whole), np.eye(2 * n_measures)
    return {
        name: Recall(
            before=float(whole[k]),
            after=float(whole[n_measures + k]),
            before_interval=interval(one[k]),
            after_interval=interval(one[n_measures + k]),
            gain_interval=interval(one[n_measures + k] - one[k]),
            chance=float(after.chance[way][k]),
        )
        for k, name in enumerate(MEASURES)
    }


def _columns(values: Mapping[str, Floats]) -> Floats:
    return np.column_stack([values[name] for name in MEASURES])
