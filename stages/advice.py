"""Stage `advice`: what the other stages found, as one ordered list of what to do next, and sheets of its pictures.

    python -m deponij.stages.advice

It learns nothing and changes nothing; pictures are looked at once more, for blur and the like.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from deponij.pipeline.advice.records import ADVICE, Advice, Finding
from deponij.pipeline.reports.sheets import FAINT, INK, Block, Tile, draw_sheet
from deponij.project.advice.acting import Acting
from deponij.project.advice.gathering import Gathering, advise
from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import OfBackbones, RunOptions, Section, Slug
from deponij.project.thumbnails import images_of
from deponij.store.atomic import write_bytes
from deponij.store.errors import StoreError
from deponij.store.items import Items


class AdviceParams(Section):
    """How much is listed.

    Attributes:
        n_first: pictures without a label that are named as those to label first.
        seed: of their choice.
        n_shown: pictures on the sheet of each finding.
    """

    n_first: int = Field(default=12, ge=1, le=200)
    seed: int = Field(default=0, ge=0)
    n_shown: int = Field(default=36, ge=0, le=300)


class Params(OfBackbones):
    """The sections of params.yaml that this stage reads; all but the last to name commands by them."""

    data: dict[str, Any]
    splits: dict[Slug, Any]
    labels: list[str]
    label_sets: list[str] = Field(default_factory=list)
    classes: list[str] = Field(default_factory=list)
    extract: dict[str, Any] = Field(default_factory=dict)
    advice: AdviceParams = AdviceParams()


def run(params: AdviceParams, gathering: Gathering) -> Advice:
    """Gather the advice of a run and write `advice.json` and the sheets into its folder `advice`.

    Raises:
        StoreError: a file is missing, damaged, or cannot be written.
    """
    at = gathering.at
    advice = advise(gathering)
    shutil.rmtree(at.advice, ignore_errors=True)
    drawn = [_with_sheet(one, gathering.items, at, params.n_shown) for one in advice.findings]
    advice = advice.model_copy(update={"findings": tuple(drawn)})
    write_bytes(at.advice_file, ADVICE.dump([advice]))
    return advice


def _with_sheet(finding: Finding, items: Items, at: Layout, n_shown: int) -> Finding:
    shown = finding.subjects[:n_shown]
    ids = {name for one in shown for name in (one.item_id, one.beside) if name}
    images = images_of(items, ids) if n_shown else {}
    if not images:
        return finding
    blocks = []
    for one in shown:
        lines = [(one.was, INK), (one.note, FAINT)] if one.was else [(one.note, FAINT)]
        tiles = [Tile(images.get(one.item_id), tuple(lines), one.item_id)]
        tiles += [Tile(images.get(one.beside), (("beside it", FAINT),), one.beside)] if one.beside else []
        blocks.append(Block(tuple(tiles), ""))
    path = at.advice / f"{finding.kind}.png"
    source = f"{items.path}, n = {len(items):,}\n{finding.why}"
    write_bytes(path, draw_sheet(blocks, finding.title, source, ""))
    return finding.model_copy(update={"sheet": path.relative_to(at.root).as_posix()})


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Of the profile's first labels and split."""
    if options.under_dvc and params.labels and not at.all_results.is_dir():
        raise StoreError(f"there are no results in {at.all_results}; `dvc repro` makes them")
    names = list(params.backbones)
    acting = Acting(
        finetune=params.finetune,
        root=at.root,
        data=params.data,
        backbones=params.backbones,
        splits=params.splits,
        labels=tuple(params.labels),
        under_dvc=options.under_dvc,
        extract=params.extract,
        label_sets=tuple(params.label_sets),
        classes=tuple(params.classes),
    )
    gathering = Gathering(
        at=at,
        acting=acting,
        backbones=names,
        splits=list(params.splits) if params.labels else [],
        mistakes=_there(map(at.mistakes, names), options, params.labels),
        n_first=params.advice.n_first,
        seed=params.advice.seed,
        workers=options.n_workers,
    )
    advice = run(params.advice, gathering)
    say(
        f"advice: {len(advice.findings)} finding{'' if len(advice.findings) == 1 else 's'} -> {at.advice_file}"
    )


def _there(paths: Iterable[Path], options: RunOptions, labels: list[str]) -> list[Path]:
    """Under DVC every stage has run; elsewhere one that data were too few for leaves nothing."""
    return [path for path in paths if (options.under_dvc and labels) or path.is_file()]


if __name__ == "__main__":
    run_stage("advice", Params, main)
