"""Stage `weights`: make sure that the backbones' weights are on this machine, and write down what they are.

    python -m deponij.stages.weights

Runs first, so that a machine without network says at once what is missing and where to put it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from deponij.pipeline.backbones import Description, describe, list_backbones, parse_spec
from deponij.pipeline.backbones.sources import is_offline
from deponij.project.extraction.given_files import record_of
from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import BackboneParams, RunOptions, Section, Slug
from deponij.project.frame.toys import KEY as TOY
from deponij.store.atomic import write_bytes
from deponij.store.errors import BackboneError
from deponij.store.sealed import sealed


class Params(Section):
    """The sections of params.yaml that this stage reads; of `prepare` only whether the sample is drawn, of
    `dense` only which backbones it names."""

    backbones: dict[Slug, BackboneParams]
    prepare: dict[str, Any] = Field(default_factory=dict)
    dense: dict[Slug, Any] = Field(default_factory=dict)


def run(specs: Mapping[str, str], out: Path, *, is_drawn: bool = False) -> dict[str, Description]:
    """Fetch absent weights (unless HF_HUB_OFFLINE=1) and write each backbone's description as JSON.

    Args:
        specs: what each backbone is called -> registry name, folder or `family:…` form.
        out: folder for NAME.json; what else is in it goes.
        is_drawn: the pictures are those that the project draws, on which its minis are no toys.

    Raises:
        BackboneError: weights are absent and cannot be had; all of them are named, each with the files
            that are missing and where to put them.
    """
    descriptions, problems = {}, []
    for name, spec in specs.items():
        try:
            descriptions[name] = _found(spec)
        except BackboneError as error:
            problems.append(str(error))
    if problems:
        raise BackboneError("\n".join(problems))
    shutil.rmtree(out, ignore_errors=True)
    for name, description in descriptions.items():
        is_toy = bool(parse_spec(specs[name]).toy and not is_drawn)
        record = {"spec": specs[name], TOY: is_toy, **description.to_record()}
        write_bytes(out / f"{name}.json", sealed(dict(sorted(record.items()))))
    return descriptions


def _found(spec: str) -> Description:
    absent = {row["name"] for row in list_backbones() if not row["present"]}
    why = ""
    # Only a hub's files can be fetched from here; what a package lacks is said below.
    if spec in absent and parse_spec(spec).repo and not is_offline():
        say(f"fetching the weights of {spec}")
        try:
            fetch(spec)
        except BackboneError as error:
            why = f"\n  (fetching failed: {str(error).splitlines()[0]})"
    try:
        return describe(spec)
    except BackboneError as error:
        raise BackboneError(f"{error}{why}") from error


def fetch(name: str) -> Path:
    """Download one named backbone's published weights; the folder they lie in."""
    from deponij.pipeline.backbones.fetch import fetch as fetch_backbone

    return fetch_backbone(name)


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """All backbones of the profile."""
    given = {name: one for name, one in params.backbones.items() if one.given is not None}
    records = {name: record_of(one, under_dvc=options.under_dvc) for name, one in given.items()}
    specs = {name: one.spec or name for name, one in params.backbones.items() if name not in given}
    of_maps = {name: one.get("spec") or name for name, one in params.dense.items()}
    is_drawn = "sample" in params.prepare
    made = run(specs, at.weights, is_drawn=is_drawn)
    if of_maps:
        made |= run(of_maps, at.dense_weights, is_drawn=is_drawn)
    specs = of_maps | specs
    for name, one in made.items():
        licence = parse_spec(specs[name]).licence
        under = f", licence {licence}" if licence else ""
        say(
            f"{name}: {one.family}, {one.dim} wide, weights {one.weights_sha256[:12]} from {one.source}{under}"
        )
    for name, record in records.items():
        write_bytes(at.weights / f"{name}.json", sealed({TOY: False, **record}))
        say(
            f"{name}: given by the user, {record['dim']} wide, {record['n_rows']} rows, content {record['weights_sha256']}"
        )


if __name__ == "__main__":
    run_stage("weights", Params, main, offline=False)
