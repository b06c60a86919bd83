"""Stage `prepare`: bring a profile's photographs to this machine.

    python -m deponij.stages.prepare SOURCE     (a key of `prepare` in params.yaml: sample or taco)

A profile over one's own pictures has nothing to prepare.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from deponij.pipeline.data.fetching.dataset import FetchReport, fetch_taco
from deponij.project.frame.console import counted, say, warn
from deponij.project.frame.harness import run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section
from deponij.store.errors import DataError, UsageError


class SampleParams(Section):
    """The generated sample: scene i depends on the seed and i alone."""

    root: Path
    scenes: int = Field(default=240, ge=1)
    seed: int = 0


class TacoParams(Section):
    """TACO: the official annotation file and photographs, the first `limit` of them."""

    root: Path
    limit: int | None = Field(default=None, ge=1)
    annotations: str | None = None


class PrepareParams(Section):
    """What to prepare."""

    sample: SampleParams | None = None
    taco: TacoParams | None = None


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    prepare: PrepareParams


def draw_sample(root: Path, scenes: int, seed: int, workers: int) -> dict[str, int]:
    """Draw the sample; returns how many scenes and instances there are."""
    from deponij.sample.painter import generate

    with counted("sample", scenes, "scenes") as reached:
        generate(root, scenes=scenes, seed=seed, workers=workers, progress=reached)
    annotations = json.loads((root / "annotations.json").read_text())
    return {"n_scenes": scenes, "n_instances": len(annotations["annotations"])}


def fetch(
    name: str,
    root: Path,
    limit: int | None,
    annotations: str | None,
    *,
    workers: int = 8,
    timeout_s: float = 30.0,
    retries: int = 5,
) -> FetchReport:
    """Fetch a public data set.

    Raises:
        UsageError: no such data set.
        DataError: nothing of it can be had.
    """
    if name != "taco":
        raise UsageError(f"no data set {name!r} to fetch; there is: taco")
    with counted("photographs", None, "photographs") as reached:
        return fetch_taco(
            root,
            limit=limit,
            annotations=annotations,
            workers=workers,
            timeout_s=timeout_s,
            retries=retries,
            progress=reached,
        )


def fetch_record(report: FetchReport) -> dict[str, Any]:
    """A fetch report as JSON values."""
    return {**asdict(report), "root": str(report.root), "n_failed": report.n_failed}


def _prepare_taco(params: TacoParams) -> None:
    report = fetch("taco", params.root, params.limit, params.annotations)
    say(report.summary)
    if report.n_present == 0:
        raise DataError(f"no photograph of TACO is in {params.root}; the pipeline needs at least some")
    if report.n_failed:
        warn(f"going on with {report.n_present} of {report.n_total} photographs")


def main(params: Params, at: Layout, options: RunOptions, source: str) -> None:
    """One source of the profile."""
    sample, taco = params.prepare.sample, params.prepare.taco
    if source == "sample" and sample is not None:
        count = draw_sample(sample.root, sample.scenes, sample.seed, options.n_workers)
        say(f"{count['n_scenes']} scenes with {count['n_instances']} instances -> {sample.root}")
    elif source == "taco" and taco is not None:
        _prepare_taco(taco)
    else:
        raise UsageError(f"the profile has nothing to prepare under {source!r}")


if __name__ == "__main__":
    run_stage("prepare", Params, main, offline=False)
