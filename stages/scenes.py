"""Stage `scenes`: pictures with label maps in, a folder of scenes out, each in its part of a split.

python -m deponij.stages.scenes
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field

from deponij.pipeline.data.adapters.registry import Progress
from deponij.pipeline.data.item import Item, ToAct
from deponij.pipeline.data.parallel import Workers
from deponij.pipeline.data.scenes.registry import SCENE_COLUMNS, SceneSource, open_scenes
from deponij.pipeline.data.splitting.strategies import SplitParams, make_split
from deponij.pipeline.data.try_out import part_told
from deponij.pipeline.metrics.evaluation import PARTS
from deponij.project.frame.cluster import workers_of
from deponij.project.frame.console import bar, note, say, warn
from deponij.project.frame.harness import run_stage, write_metrics
from deponij.project.frame.lacking import Needed
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section
from deponij.store.errors import DataError, UsageError
from deponij.store.label_maps import VOID, pixel_counts
from deponij.store.scenes import SceneRow, write_scenes
from deponij.store.texts import in_percent

GROUP = "group"
_NO_PART = "outside"
_SHOWN = 5
_COLUMNS = ("item_id", "given", "image_id", "phash", "key", GROUP, "label")


class ScenesParams(Section):
    """Which pictures with label maps.

    Attributes:
        adapter: `label-maps` or `coco-masks`.
        root: folder below which everything lies that the adapter reads; DVC watches it.
        options: the adapter's own parameters, checked by it (`deponij.pipeline.data.scenes.registry`).
        split: how pictures are divided; none: as the data set gives it, else by groups.
    """

    adapter: str
    root: Path
    options: dict[str, Any] = Field(default_factory=dict)
    split: SplitParams | None = None


def _named(said: Any) -> Any:
    """None where only `root` is said, which DVC wants in any case."""
    return None if not said or (isinstance(said, dict) and set(said) <= {"root"}) else said


NeededScenes = Annotated[
    ScenesParams | None,
    BeforeValidator(_named),
    Needed("no pictures with label maps are named (`scenes: {root: …}` alone)"),
]


class Params(Section):
    """The sections of params.yaml that this stage reads; `scenes: {root: …}` alone is none."""

    scenes: NeededScenes = None


class ClassShare(BaseModel):
    """How much of the pictures a class takes up, as shares of what is not void, by part."""

    name: str
    words: str
    shares: dict[str, float | None]


class ScenesResult(BaseModel):
    """What was made.

    Attributes:
        n: pictures with a label map by part, and `outside` of all.
        void: share of all pixels of which nothing is said, by part.
        failures: reasons of pictures that are left out, the first few by id.
    """

    n: dict[str, int]
    n_groups: int
    n_failed: int
    failures: dict[str, str]
    classes: list[ClassShare]
    void: dict[str, float | None]
    notes: list[str]
    seconds: float


class _Passing:
    """What is kept of scenes as they stream by."""

    def __init__(self, source: SceneSource) -> None:
        self.source = source
        self.columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self.counts: list[np.ndarray[Any, np.dtype[np.int64]]] = []  # [C + 1] pixels each, void last
        self.failures: dict[str, str] = {}
        self.parts: dict[str, str | None] = {}
        self.notes: list[str] = []

    def rows(self, workers: Workers, progress: Progress) -> Iterator[SceneRow]:
        """Scenes as they are written."""
        n_classes = len(self.source.classes)
        for scene in self.source.scenes(workers=workers, progress=progress):
            item = scene.item
            if scene.labels is None:
                self.failures[item.item_id] = item.failure or ""
            else:
                values = {**_core(item), **item.metadata}
                for name, column in self.columns.items():
                    column.append(values[name])
                counts = pixel_counts(scene.labels)
                self.counts.append(np.append(counts[:n_classes], counts[VOID]))
            group = item.metadata[GROUP]
            yield SceneRow(
                _core(item), item.content, scene.labels, None if group is None else str(group), item.metadata
            )

    def divide(self, params: SplitParams | None) -> dict[str, str | None]:
        """Parts of those that have label maps.

        Raises:
            DataError: there is none. UsageError: a split that scenes cannot have.
        """
        if not self.counts:
            why = f"; the first reason: {next(iter(self.failures.values()))}" if self.failures else ""
            raise DataError(f"not one of {len(self.failures)} pictures has a label map that can be used{why}")
        if params is None:
            strategy = "given" if any(self.columns["given"]) else "group"
            params = SplitParams(strategy=strategy, group_by=GROUP)
            if strategy == "group":
                self.notes.append("the data set brings no split, so pictures are divided by groups (`split`)")
        split = make_split(self.columns, params)
        if split.folds is not None:
            raise UsageError(
                "scenes are divided into train, val and test; the strategy `folds` tests all of them"
            )
        self.notes += split.notes
        parts = [None if part is None else str(part) for part in split.parts]
        self.parts = dict(zip(self.columns["item_id"], parts, strict=True))
        return self.parts


def run(
    adapter: str,
    options: Mapping[str, Any],
    *,
    out: Path,
    run_options: RunOptions,
    split: SplitParams | None = None,
) -> ScenesResult:
    """Turn a data set into scenes.

    Args:
        split: see `ScenesParams`.

    Raises:
        DataError: the data set cannot be used at all, or not one picture of it. Single pictures that cannot be used
            become rows with a reason.
        UsageError: the adapter is unknown, or its options or the split are wrong.
    """
    start = time.perf_counter()
    source = open_scenes(adapter, options)
    for told in source.notes:
        (warn if isinstance(told, ToAct) else note)(told)
    passing = _Passing(source)
    with workers_of(run_options) as workers, bar("scenes", source.n_scenes, "pictures") as advance:
        write_scenes(
            out,
            source.classes,
            passing.rows(workers, advance),
            metadata_schema=SCENE_COLUMNS,
            parts=lambda: passing.divide(split),
            part=part_told(source.notes),
        )
    return _result(passing, round(time.perf_counter() - start, 3))


def _core(item: Item) -> dict[str, Any]:
    names = ("item_id", "key", "image_id", "width_px", "height_px", "phash", "failure", "given")
    return {name: getattr(item, name) for name in names}


def _result(passing: _Passing, seconds: float) -> ScenesResult:
    parts = np.array([part or _NO_PART for part in passing.parts.values()])
    counts = np.array(passing.counts)  # [n, C + 1]
    of_part = {
        part: counts[parts == part].sum(axis=0) for part in (*PARTS, _NO_PART) if (parts == part).any()
    }
    said = {part: int(total[:-1].sum()) for part, total in of_part.items()}
    groups = [group or item_id for group, item_id in zip(passing.columns[GROUP], passing.parts, strict=True)]
    return ScenesResult(
        n={part: int((parts == part).sum()) for part in (*PARTS, _NO_PART)},
        n_groups=len(set(groups)),
        n_failed=len(passing.failures),
        failures=dict(list(passing.failures.items())[:_SHOWN]),
        classes=[
            ClassShare(
                name=one.name,
                words=one.spoken,
                shares={
                    part: total[number] / said[part] if said[part] else None
                    for part, total in of_part.items()
                },
            )
            for number, one in enumerate(passing.source.classes)
        ],
        void={part: float(total[-1] / total.sum()) for part, total in of_part.items()},
        notes=[*passing.source.notes, *passing.notes],
        seconds=seconds,
    )


def summary(result: ScenesResult) -> str:
    """A few lines for a person."""
    sizes = ", ".join(f"{part} {count}" for part, count in result.n.items() if count or part in PARTS)
    void = ", ".join(f"{part} {in_percent(share)}" for part, share in result.void.items())
    lines = [
        f"{sum(result.n.values())} scenes of {len(result.classes)} classes: {sizes}; {result.n_failed} left out "
        f"({result.seconds:.1f} s)",
        f"  void: {void}",
    ]
    return "\n".join([*lines, *(f"  left out: {name}: {why}" for name, why in result.failures.items())])


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """The scenes of the profile."""
    if params.scenes is None:
        return
    scenes = params.scenes
    result = run(scenes.adapter, scenes.options, out=at.scenes, run_options=options, split=scenes.split)
    write_metrics(at, "scenes", _numbers(result))
    say(summary(result))
    if result.n_failed:
        warn(f"{result.n_failed} pictures are left out; their rows in {at.scenes / 'items'} carry the reason")


def _numbers(result: ScenesResult) -> dict[str, Any]:
    """What `dvc metrics show` compares."""
    return {
        **{f"n_{part}": count for part, count in result.n.items()},
        "n_groups": result.n_groups,
        "n_failed": result.n_failed,
        "n_classes": len(result.classes),
        **{f"void_{part}": round(share, 6) for part, share in result.void.items() if share is not None},
    }


def _outs(at: Layout) -> list[Path]:
    return [at.scenes, at.metrics("scenes")]


if __name__ == "__main__":
    run_stage("scenes", Params, main, outs=_outs)
