"""Stage `weights`: make sure that a backbone's weights are on this machine, and write down what it is.

    python -m stages.weights BACKBONE     (a key of `backbones` in params.yaml)

Runs first, so that a machine without network says at once what is missing and where to put it.
"""

import json
import os
import sys
from pathlib import Path

from pipeline.backbones import Description, describe, list_backbones
from stages.console import say
from stages.harness import layout, run_stage
from stages.settings import BackboneParams, Section, Slug, load
from store.atomic import write_bytes
from store.errors import UsageError


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    backbones: dict[Slug, BackboneParams]


def run(spec: str, out: Path) -> Description:
    """Fetch absent weights of a named backbone unless HF_HUB_OFFLINE=1, and write its description as JSON.

    Raises:
        BackboneError: the weights are absent and cannot be had; the message says where to put them.
    """
    present = {row["name"]: row["present"] for row in list_backbones()}
    if not present.get(spec, True) and os.environ.get("HF_HUB_OFFLINE", "") not in ("1", "true", "on"):
        say(f"fetching the weights of {spec}")
        fetch(spec)
    description = describe(spec)
    record = {"spec": spec, **description.to_record()}
    write_bytes(out, json.dumps(record, indent=2, sort_keys=True).encode())
    return description


def fetch(name: str) -> Path:
    """Download one named backbone's published weights; the folder they lie in."""
    from pipeline.backbones.fetch import fetch as fetch_backbone

    return fetch_backbone(name)


def main(key: str) -> None:
    """Under DVC: one backbone of the profile in force."""
    params = load(Params)
    if key not in params.backbones:
        raise UsageError(f"the profile has no backbone {key!r}; it has {', '.join(params.backbones)}")
    found = run(params.backbones[key].spec or key, layout().weights(key))
    say(f"{key}: {found.family}, {found.dim} wide, weights {found.weights_sha256[:12]} from {found.source}")


if __name__ == "__main__":
    run_stage(f"weights@{sys.argv[1]}", lambda: main(sys.argv[1]), offline=False)
