"""From pictures to committed rows, by one backbone of this process. This is no stage."""

import time
from collections.abc import Callable, Iterable

from deponij.pipeline.backbones.extraction import Picture, Progress
from deponij.project.extraction import identities
from deponij.project.extraction.feature_maker import FeatureMaker
from deponij.store.depot import FeatureStore


def fill(
    store: FeatureStore,
    maker: FeatureMaker,
    pictures: Iterable[Picture],
    source: str,
    ended: Callable[[int, Progress], None],
) -> Progress:
    """Compute and commit the features of pictures, whose rows are not known.

    Args:
        source: where the pictures come from, for the rows' provenance.
        ended: told after each batch how many more pictures came to an end, and how all stands.

    Returns:
        What was done; pictures that could not be read are its `failures`.
    """
    progress = maker.progress()
    facts = identities.provenance(
        maker.backbone.spec, maker.device, maker.options.n_threads, progress.batch_size, source
    )
    rows = maker.rows(pictures, progress)
    with store.writer(maker.backbone.identity, facts) as out:
        n_seen, begun = 0, time.perf_counter()
        for batch in rows:
            begin = time.perf_counter()
            out.add(batch.keys, batch.arrays)
            progress.busy_s["write"] += time.perf_counter() - begin
            n_now = progress.n_rows + len(progress.failures)
            ended(n_now - n_seen, progress)
            n_seen = n_now
        begin = time.perf_counter()
        out.flush()
        progress.busy_s["write"] += time.perf_counter() - begin
        progress.working_s = time.perf_counter() - begun - progress.load_s
    return progress
