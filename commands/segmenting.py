"""What each pixel of new pictures shows, by words or by a trained decoder."""

from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import EXIT_FAILED, EXIT_PARTLY, print_json
from deponij.commands.options import BatchSize, Device, Json, Threads, run_options

app = typer.Typer()


@app.command()
def segment(
    pictures: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, and folders of them with all that is below.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="'A, B, …'", help="What to look for, in any words.")
    ] = None,
    classes_file: Annotated[
        Path | None, typer.Option(help="The same from a file, one class a line; names may hold commas.")
    ] = None,
    query: Annotated[
        str | None, typer.Option(metavar="WORDS", help="One heat map of where these words fit, instead.")
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="'A, B, …'", help="Words for everything else: such pixels are none of the classes."
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Pixels whose best class is less probable are none of the classes.")
    ] = 0.0,
    template: Annotated[
        list[str] | None,
        typer.Option(help="Texts with {}, files of them, or sets, that words are filled into; repeatable."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="That knows words: name, folder or family:…; else the last run's, or what is at hand."
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a trained decoder (with decoder.json), instead of words.")
    ] = None,
    backbone_spec: Annotated[
        str | None, typer.Option(help="Where the decoder's backbone is: name, folder or family:… form.")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="PX", help="Side of windows, or HEIGHTxWIDTH; by default the backbone's input. By words."
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Share of a window's side that its neighbour sees again.")
    ] = 0.5,
    scales: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="How much larger than a window the picture is seen; several are averaged. By default 2 by words, 1 by a "
            "decoder, and nothing is enlarged.",
        ),
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Look at the mirrored picture, too, and average.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("segments"),
    coco: Annotated[
        Path | None, typer.Option(help="COCO annotation file to write, with run lengths (.json).")
    ] = None,
    device: Device = "auto",
    batch_size: BatchSize = "auto",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Segment pictures: classes in any words, the heat map of one, or a trained decoder's answers.

    Of each picture an overlay with a legend and a label map (PNG with a palette) are written into --out, and
    classes.json beside them. Pictures themselves are never overwritten.
    """
    from deponij.commands.show.segments import print_segments
    from deponij.project.frame.console import warn
    from deponij.project.new_pictures import named_pictures
    from deponij.project.record_files import check_ending
    from deponij.services.segment import segment as segmenting
    from deponij.services.segment.asked import WHAT_TO_DO, Looking, scales_of, window_of, words_of
    from deponij.services.segment.chosen import by_model, by_words
    from deponij.services.segment.coco import CocoFile
    from deponij.services.segment.files import Outputs
    from deponij.store.errors import UsageError
    from deponij.store.texts import one_line

    words = words_of(classes, classes_file, query, background, template or ())
    if not pictures or (words is None) == (model is None):
        both = "; words and --model exclude each other" if words is not None and model is not None else ""
        raise UsageError(WHAT_TO_DO + both)
    if model is not None and backbone is not None:
        raise UsageError(
            "--model says which backbone it takes; where that lies can be told by --backbone-spec"
        )
    if words is not None and backbone_spec is not None:
        raise UsageError("--backbone-spec goes with --model; words take --backbone")
    if words is not None and words.is_query and (coco is not None or threshold):
        raise UsageError(
            "--query makes heat maps; --coco and --threshold go with label maps (--classes, --model)"
        )
    check_ending(coco, "--coco", ".json")
    looking = Looking(scales_of(scales), flip, overlap, window_of(window), threshold)
    options = run_options("depot", device, batch_size, 0, threads)
    named = named_pictures(pictures, None, None, {})
    into = Outputs(out)
    if words is not None:
        chosen = by_words(words, looking, backbone, options)
    else:
        assert model is not None
        chosen = by_model(model, looking, [backbone_spec] if backbone_spec else [], options)
    result = segmenting.run(
        chosen,
        named,
        into,
        is_query=words is not None and words.is_query,
        threshold=threshold,
        coco=None if coco is None else CocoFile(coco, chosen.classes),
    )
    if as_json:
        print_json(result)
    else:
        print_segments(result)
    for failure in result.failures:
        warn(f"{one_line(failure.path)}: {failure.reason}")
    if result.failures:
        n_all = len(result.failures) + len(result.pictures)
        warn(f"{len(result.failures)} of {n_all} could not be segmented")
        raise typer.Exit(EXIT_PARTLY if result.pictures else EXIT_FAILED)
