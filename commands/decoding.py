"""Learning to segment, from stored maps or with an encoder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deponij.commands.answers import print_json
from deponij.commands.comparing import show_arguments
from deponij.commands.options import (
    Depot,
    Device,
    Json,
    Learns,
    LogDir,
    OutArg,
    PixelLoss,
    Threads,
    Track,
    tracking_of,
)
from deponij.pipeline.registry import names_in

app = typer.Typer()
_DECODERS = names_in("deponij.pipeline.decoders")


@app.command("fit-decoder")
def fit_decoder(
    scenes: Annotated[
        Path, typer.Option(help="Folder of pictures with label maps; `deponij scenes` makes it.")
    ],
    maps: Annotated[Path | None, typer.Option(help="View of their dense features.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="In the place of --maps a backbone that sees the pictures: name, folder, family:… form, or "
            "new:NETWORK@SIZE.",
        ),
    ] = None,
    learns: Annotated[
        Learns | None,
        typer.Option(
            help="Of the encoder: all (by default), the last stage, or none, so that windows are encoded."
        ),
    ] = None,
    input_px: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width at which the encoder sees pictures; by default its own."),
    ] = None,
    levels: Annotated[
        int | None, typer.Option(min=1, help="Last stages of the encoder that are taken; by default 4.")
    ] = None,
    encoder_lr: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Of the encoder, as a factor of --lr; by default 0.25, and 1 where its weights are drawn.",
        ),
    ] = None,
    decoder: Annotated[str, typer.Option(help=f"One of: {', '.join(_DECODERS)}.")] = "linear",
    argument: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=VALUE of the decoder, as width=64, or of the training, as training.weight_decay=0.01; repeatable. "
            "`--set help` lists them.",
        ),
    ] = None,
    flipped: Annotated[
        Path | None, typer.Option(help="View of the mirrored pictures' dense features.")
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option(help="View of the classes' text vectors; without it class vectors are learned."),
    ] = None,
    of: Annotated[
        str, typer.Option(help="Which words: names, descriptions, or a set of templates.")
    ] = "names",
    epochs: Annotated[int, typer.Option(min=1, help="How often each picture is seen.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a step.")] = 4,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate at the begin; it falls by a cosine. By default 0.002, and 0.0004 with an encoder that "
            "learns on."
        ),
    ] = None,
    learn_from: Annotated[
        str,
        typer.Option(
            metavar="PART,…",
            help="train, or train,val: then nothing is chosen on val, and the last weights are kept.",
        ),
    ] = "train",
    loss: Annotated[
        PixelLoss, typer.Option(help="boundary: pixels near the borders of classes count more.")
    ] = ("cross_entropy"),
    class_weights: Annotated[
        float,
        typer.Option(min=0, max=1, help="How much more rare classes count: power of 1 / share; 0: alike."),
    ] = 0.0,
    window: Annotated[
        int, typer.Option(min=0, help="Side in pixels of random square windows; 0: whole pictures.")
    ] = 0,
    both_ways: Annotated[
        bool, typer.Option(help="Answer by the mean of picture and mirrored picture.")
    ] = False,
    scales: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Of an encoder: how much larger pictures are seen to be judged, in windows; several are averaged. Stored "
            "maps have one scale.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and windows.")] = 0,
    track: Track = None,
    log_dir: LogDir = Path("logs"),
    depot: Depot = "depot",
    device: Device = "auto",
    threads: Threads = 0,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Learn to segment from stored maps, or with an encoder that learns too; the best on the validation part is kept.

    An encoder that learned is written beside --out, as OUT.encoder: a backbone like any other, which `segment --model OUT`
    takes.
    """
    from deponij.commands.show.segmentation import print_segmentation
    from deponij.project.frame.device import pick_device
    from deponij.project.frame.settings import n_cores
    from deponij.project.segmentation.learn import Running
    from deponij.services import fit_decoder as service
    from deponij.services.segment.asked import scales_of
    from deponij.store.errors import UsageError

    if argument == ["help"]:
        show_arguments(f"decoder {decoder}", service.listed_arguments(decoder), as_json)
        return
    flags: dict[str, Any] = {"learns": learns, "input_px": input_px, "levels": levels, "rate": encoder_lr}
    flags["scales"] = scales_of(scales)
    of_encoder = {name: value for name, value in flags.items() if value is not None}
    seen: service.Maps | service.Seeing
    if maps is not None and encoder is None and not of_encoder:
        seen = service.Maps(maps, depot, flipped, words)
    elif encoder is not None and maps is None and flipped is None:
        seen = service.Seeing(encoder, words=words, **of_encoder)
    else:
        raise UsageError(
            "name either --maps VIEW (with --flipped) or --encoder BACKBONE (with --learns, --input-px, --levels, "
            "--encoder-lr, --scales: stored maps have one scale)"
        )
    request = service.DecoderRequest(
        decoder,
        words=None if words is None else of,
        arguments=tuple(argument or ()),
        section={
            "window_px": (window, window) if window else None,
            "learn_from": learn_from.split(","),
            "loss": loss,
            "class_weights": class_weights,
            "both_ways": both_ways,
        },
        training={"epochs": epochs, "batch_size": batch_size, "seed": seed}
        | ({} if lr is None else {"lr": lr}),
    )
    running = Running(
        pick_device(device),
        threads or n_cores(),
        None if out is None else out.with_name(f"{out.name}.unfinished"),
        tracking=tracking_of(track, log_dir, decoder if out is None else out.name),
    )
    result = service.run(
        request,
        seen,
        scenes=scenes,
        running=running,
        out=out,
    )
    if as_json:
        print_json(result)
    else:
        print_segmentation(result)
