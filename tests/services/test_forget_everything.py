"""What `deponij forget` and a new `deponij run` clear is all that stages bring out; dvc.yaml is the list of that."""

from pathlib import Path

import imports
import pytest
import yaml

from deponij.project.frame.layout import Layout
from deponij.services.forget.forget import DERIVED
from deponij.services.run import CLEARED
from deponij.stages.registry import STAGES

# Rows are taken out of these one by one; of backbones alone; whose report is written anew.
KEPT = {"items", "splits", "views", "weights", "metrics/split.json"}


def brought_out() -> set[str]:
    """Every output below a run's folder, `{}` for what it is called by."""
    found: set[str] = set()
    for body in yaml.safe_load((imports.ROOT / "dvc.yaml").read_text())["stages"].values():
        stage = body.get("do", body)
        for kind in ("outs", "metrics", "plots"):
            names = [next(iter(one)) if isinstance(one, dict) else one for one in stage.get(kind, ())]
            found |= {
                one.removeprefix("runs/${profile}/") for one in names if one.startswith("runs/${profile}/")
            }
    return found


@pytest.mark.parametrize("cleared", [DERIVED, CLEARED], ids=["forget", "run"])
def test_all_that_is_computed_goes(cleared: tuple[str, ...]) -> None:
    kept = KEPT if cleared is DERIVED else {"items", "splits", "weights", "indexes"}
    left = {
        one
        for one in brought_out()
        if Path(one).parts[0] not in kept
        and one not in kept
        and not any(Path(one).is_relative_to(folder) for folder in cleared)
    }
    assert left == set()


def test_the_list_is_not_empty() -> None:
    """Each stage but those before the items brings something out."""
    assert len(brought_out()) >= len(STAGES)
    assert Layout(Path("r")).likeness("m").relative_to("r").parts[0] in DERIVED
