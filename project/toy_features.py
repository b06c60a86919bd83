"""What to say where features are a toy's. Which backbones are toys on a run's data: `frame.toys`. This is no stage."""

from pathlib import Path

from deponij.pipeline.backbones.catalog import entries
from deponij.project.in_force import run_of, toys_beside


def toy_note(features: Path, backbone: str) -> str | None:
    """What to know of near-duplicates by a toy's features; None where it is none, or none on its run's data.

    Args:
        features: the view; where no run says of what its pictures are, the catalog decides.
    """
    run, entry = run_of(features), entries().get(backbone)
    is_told = run is not None and (run.weights / f"{backbone}.json").is_file()
    is_toy = backbone in toys_beside(features) if is_told else entry is not None and entry.toy
    if not is_toy:
        return None
    return (
        f"{backbone} is a toy that learnt from drawn pictures: on photographs its cosines confirm next to nothing. Take the "
        "features of a real backbone, such as efficientnet-lite0, which came with the environment"
    )
