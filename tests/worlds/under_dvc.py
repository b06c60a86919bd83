"""A stage's body as DVC runs it in the current folder, without a process of its own: what it refuses is raised."""

from types import ModuleType

from deponij.project.frame.harness import layout
from deponij.project.frame.settings import RunOptions, load


def under_dvc(stage: ModuleType, *keys: str) -> None:
    """Run a stage by the params.yaml of the current folder and the options of the environment."""
    options = RunOptions.from_environment().model_copy(update={"under_dvc": True})
    stage.main(load(stage.Params), layout(), options, *keys)
