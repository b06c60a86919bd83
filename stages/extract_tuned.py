"""Stage `extract_tuned`: items in, depot rows and a view out, by a backbone that the stage `finetune` made.

    python -m deponij.stages.extract_tuned NAME     (a key of `finetune` in params.yaml)

Everything after it meets the tuned backbone as one more of the profile's.
"""

from deponij.project.extraction.extracting import FeatureParams, extract_items, found_backbone, summary
from deponij.project.extraction.feature_maker import FeatureMaker
from deponij.project.extraction.tuned_on import RECORD
from deponij.project.frame.console import say, warn
from deponij.project.frame.harness import run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import RunOptions, Section
from deponij.store.atomic import write_bytes
from deponij.store.errors import UsageError


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    extract: FeatureParams = FeatureParams()


def main(params: Params, at: Layout, options: RunOptions, key: str) -> None:
    """One tuned backbone of the profile."""
    if not at.tuned(key).is_dir():
        raise UsageError(f"there is no tuned backbone {at.tuned(key)}; the stage `finetune` makes it")
    backbone = found_backbone(params.extract, str(at.tuned(key)), key)
    result = extract_items(FeatureMaker(backbone, options), at.items, at.view(key))
    write_bytes(at.tuned_record(key), (at.tuned(key) / RECORD).read_bytes())
    say(summary(result))
    if result.n_failed:
        warn(
            f"{result.n_failed} items failed; the view's failure table names them (`deponij view info {result.view}`)"
        )


if __name__ == "__main__":
    run_stage("extract_tuned", Params, main)
