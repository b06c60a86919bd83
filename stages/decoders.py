"""Stage `decoders`: scenes and stored maps in, decoders that segment and what they are worth out.

    python -m deponij.stages.decoders

Frozen backbones made the maps once; here every method of the profile learns from them, on each backbone and with each
sort of words. A training that was interrupted goes on where it was.
"""

import shutil
from typing import Annotated, Any

from pydantic import Field

from deponij.pipeline.metrics.segmentation_result import SegmentationResult
from deponij.project.frame.console import say
from deponij.project.frame.device import pick_device
from deponij.project.frame.harness import run_stage, write_metrics
from deponij.project.frame.lacking import Needed
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section, Slug
from deponij.project.segmentation.learn import Running, asked_of, learn_decoder
from deponij.project.segmentation.params import DecodersParams
from deponij.project.segmentation.result_files import metrics_of
from deponij.project.segmentation.sources import StoredScenes
from deponij.store.texts import in_percent
from deponij.store.view import View


class Params(Section):
    """The sections of params.yaml that this stage reads; of frozen maps only their names."""

    dense: Annotated[dict[Slug, Any], Needed("no maps of scenes are named (`dense: {}`)")] = Field(
        default_factory=dict
    )
    decoders: DecodersParams = DecodersParams()


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every method of the profile on every backbone with every sort of words."""
    shutil.rmtree(at.segmentation, ignore_errors=True)
    at.segmentation.mkdir(parents=True)
    numbers: dict[str, Any] = {}
    for backbone in params.dense:
        source = StoredScenes.open(at.scenes, at.dense(backbone), at.dense_flip(backbone), options.depot)
        words = at.dense_words(backbone)
        every = asked_of(params.decoders, with_words=len(View(words)) > 0)
        if passed := sorted(set(params.decoders.methods) - {one.name for one in every}):
            say(f"{backbone} knows no words, which {', '.join(passed)} cannot do without: passed over")
        for asked in every:
            place = (asked.name, backbone, asked.words)
            running = Running(
                pick_device(options.device),
                options.n_threads,
                at.unfinished.joinpath("decoders", *place),
                keeps_time=False,
            )
            out = at.segmented(*place)
            result = learn_decoder(asked, params.decoders, source, words=words, running=running, out=out)
            say(told(result))
            of_method = numbers.setdefault(asked.name, {})
            of_method.setdefault(backbone, {})[asked.words] = metrics_of(result)
    write_metrics(at, "decoders", numbers)


def told(result: SegmentationResult) -> str:
    """A line for a person."""
    scores = result.parts[result.shown]
    took = "" if result.seconds is None else f" ({result.seconds:,.0f} s)"
    return (
        f"{result.method} {result.backbone} {result.words}: {result.shown} mIoU {in_percent(scores.miou)} of "
        f"{scores.n_pictures} pictures, accuracy {in_percent(scores.accuracy)}{took}"
    )


def _outs(at: Layout) -> list[Any]:
    return [at.segmentation, at.metrics("decoders")]


if __name__ == "__main__":
    run_stage("decoders", Params, main, outs=_outs)
