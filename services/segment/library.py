"""`deponij.segment`: what the command of that name does, for programs."""

from collections.abc import Sequence
from pathlib import Path

from deponij.project.frame.settings import RunOptions, check
from deponij.project.new_pictures import named_pictures
from deponij.services.segment.asked import Looking, make_words
from deponij.services.segment.chosen import by_model, by_words
from deponij.services.segment.files import Outputs
from deponij.services.segment.segment import SegmentResult, run
from deponij.store.errors import UsageError


def segment(
    pictures: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    classes: Sequence[str] | None = None,
    query: str | None = None,
    model: str | Path | None = None,
    background: Sequence[str] = (),
    threshold: float = 0.0,
    backbone: str | None = None,
    scales: Sequence[float] | None = None,
    flip: bool = False,
    device: str | None = None,
    threads: int | None = None,
) -> SegmentResult:
    """Label maps (or heat maps) of pictures, written into a folder with overlays; `deponij segment` has more on each.

    Args:
        pictures: files, and folders with all that is below.
        classes, query, model: what is looked for: words, one heat map's words, or the folder of a trained decoder.
        background: words for everything else.
        threshold: least probability of an answer.
        backbone: that knows words, or where the decoder's lies.
        scales, flip: how often a picture is looked at.
        device, threads: None: as `DEPONIJ_…` says, else the command's defaults.

    Raises:
        UsageError: not exactly one of `classes`, `query` and `model`, or values that are not allowed.
        DeponijError: no such backbone or decoder. Pictures that cannot be read are in `SegmentResult.failures`.
    """
    if sum(one is not None for one in (classes, query, model)) != 1:
        raise UsageError("give one of classes=['road', 'car'], query='bicycle' and model=FOLDER")
    listed = [pictures] if isinstance(pictures, (str, Path)) else list(pictures)
    known = RunOptions.from_environment().model_dump()
    given = {"device": device, "threads": threads}
    options = check(
        RunOptions, known | {name: one for name, one in given.items() if one is not None}, "options"
    )
    looking = Looking(None if scales is None else tuple(scales), flip, threshold=threshold)
    named = named_pictures([Path(one) for one in listed], None, None, {})
    if model is not None:
        chosen = by_model(Path(model), looking, [] if backbone is None else [backbone], options)
    else:
        names = list(classes or ()) if query is None else [query]
        words = make_words(
            names, background, flag="query" if query else "classes", is_query=query is not None
        )
        chosen = by_words(words, looking, backbone, options)
    return run(chosen, named, Outputs(Path(out)), is_query=query is not None, threshold=threshold)
