"""What a result says of how it came about: what was learned from what, and chosen on what, in a sentence."""

from collections.abc import Sequence

from deponij.pipeline.training.loop import Training
from deponij.pipeline.training.params import TrainingParams
from deponij.project.frame.training_bar import keeps_the_best
from deponij.project.segmentation.params import DecodersParams
from deponij.project.segmentation.sources import SceneSource


def protocol(
    params: DecodersParams,
    asked: TrainingParams,
    source: SceneSource,
    trained: Training | None,
    *,
    learning: str,
    windows: str,
    both_ways: bool,
    scales: Sequence[float] = (1.0,),
) -> str:
    """The sentence.

    Args:
        trained: None where nothing is learned.
        learning: what learned from what.
        windows: where the windows to learn from come from, to be said after their size.
        both_ways, scales: how pictures were looked at to be judged.
    """
    height, width = source.frame.input_px
    said = [f"pictures seen at {height}x{width} px"]
    if trained is None:
        said.append("nothing is learned")
    else:
        what = "whole pictures"
        if params.window_px is not None:
            what = f"windows of {params.window_px[0]}x{params.window_px[1]} px{windows}"
        said.append(f"{learning}, {what}" + (", half of them mirrored" if source.mirrors else ""))
        kept = "the best on val kept" if keeps_the_best(trained, asked) else "the last weights kept"
        said.append(f"{len(trained.history)} epochs, {kept}")
        if params.loss == "boundary":
            said.append("pixels near the borders of classes count more")
        if params.class_weights:
            said.append(f"rare classes count more (1 / share to the power of {params.class_weights:g})")
    if both_ways:
        said.append("answers are means of both ways")
    if tuple(scales) != (1.0,):
        said.append(
            f"answers at scale {' and '.join(f'{one:g}' for one in scales)}, by windows that are blended"
        )
    return "; ".join(said)
