"""Stage `weights`: make sure that the backbones' weights are on this machine, and write down what they are.

    python -m deponij.stages.weights

Runs first, so that a machine without network says at once what is missing and where to put it.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from deponij.pipeline.backbones import Description, describe, list_backbones
from deponij.pipeline.backbones.sources import is_offline
from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import BackboneParams, RunOptions, Section, Slug
from deponij.store.atomic import write_bytes
from deponij.store.errors import BackboneError


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    backbones: dict[Slug, BackboneParams]


def run(specs: Mapping[str, str], out: Path) -> dict[str, Description]:
    """Fetch absent weights (unless HF_HUB_OFFLINE=1) and write each backbone's description as JSON.

    Args:
        specs: what each backbone is called -> registry name, folder or `family:…` form.
        out: folder for NAME.json; what else is in it goes.

    Raises:
        BackboneError: weights are absent and cannot be had; all of them are named, each with the files
            that are missing and where to put them.
    """
    found, problems = {}, []
    for name, spec in specs.items():
        try:
            found[name] = _found(spec)
        except BackboneError as error:
            problems.append(str(error))
    if problems:
        raise BackboneError("\n".join(problems))
    shutil.rmtree(out, ignore_errors=True)
    for name, description in found.items():
        record = {"spec": specs[name], **description.to_record()}
        write_bytes(out / f"{name}.json", json.dumps(record, indent=2, sort_keys=True).encode())
    return found


def _found(spec: str) -> Description:
    present = {row["name"]: row["present"] for row in list_backbones()}
    why = ""
    if not present.get(spec, True) and not is_offline():
        say(f"fetching the weights of {spec}")
        try:
            fetch(spec)
        except BackboneError as error:
            why = f"\n  (fetching failed: {error})"
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
    specs = {name: backbone.spec or name for name, backbone in params.backbones.items()}
    for name, one in run(specs, at.weights).items():
        say(f"{name}: {one.family}, {one.dim} wide, weights {one.weights_sha256[:12]} from {one.source}")


if __name__ == "__main__":
    run_stage("weights", Params, main, offline=False)
