"""From items and texts to features."""

from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import answer, exit_partly
from deponij.commands.options import (
    BackboneArg,
    BatchSize,
    Cluster,
    DecodeRoute,
    Depot,
    Device,
    ItemsArg,
    Json,
    Precision,
    Stored,
    Threads,
    Workers,
    run_options,
)

app = typer.Typer()


@app.command()
def extract(
    items: ItemsArg,
    backbone: BackboneArg,
    out: Annotated[Path, typer.Option(help="View to write (HDF5).")],
    depot: Depot = "depot",
    kind: Annotated[str, typer.Option(help="embedding, tokens@K, dense@K or pyramid@K.")] = "embedding",
    flip: Annotated[bool, typer.Option("--flip", help="Maps of the mirrored pictures.")] = False,
    input_px: Annotated[
        tuple[int, int] | None, typer.Option(help="Height and width other than the model's.")
    ] = None,
    decode: Annotated[DecodeRoute, typer.Option(help="draft: big JPEGs at reduced size.")] = "draft",
    stored: Annotated[
        Stored | None,
        typer.Option(help="By default float32, for dense maps float16."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = "auto",
    workers: Workers = 0,
    threads: Threads = 0,
    cluster: Cluster = "",
    as_json: Json = False,
) -> None:
    """Compute what the depot does not have yet, and write a view of the items' features."""
    from deponij.pipeline.pictures import Route
    from deponij.project.extraction.extracting import summary
    from deponij.stages import extract as stage

    params = stage.ExtractParams(
        kind=f"{kind}+flip" if flip else kind,
        precision=precision,
        stored=stored,
        decode=Route(decode),
        input_px=input_px,
    )
    options = run_options(depot, device, batch_size, workers, threads, cluster)
    result = stage.run(params, items=items, backbone=backbone, out=out, options=options)
    answer(result, summary(result), as_json)
    exit_partly(result.n_failed, f"the view (`deponij view info {out}`)")


@app.command("import-embeddings")
def import_embeddings(
    file: Annotated[Path, typer.Argument(help="Made elsewhere: .npy, .npz, Parquet, CSV or HDF5.")],
    items: ItemsArg,
    out: Annotated[Path, typer.Option(help="View to write (HDF5).")],
    ids: Annotated[
        str | None, typer.Option(metavar="FILE|COLUMN", help="A file of ids, one a line; or their column.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the features are called; by default as the file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring embeddings that were made elsewhere to items, by id, as a view that says so."""
    from deponij.project.extraction import given
    from deponij.services import library
    from deponij.store.items import Items

    result = library.give_file(Items(items), file, out, ids=ids, name=name)
    answer(result, "\n".join([given.summary(result), *(f"note: {note}" for note in result.notes)]), as_json)
    exit_partly(result.n_failed, f"the view (`deponij view info {out}`)")


@app.command("extract-text")
def extract_text(
    backbone: BackboneArg,
    out: Annotated[Path, typer.Option(help="View to write (HDF5).")],
    texts: Annotated[Path | None, typer.Option(help="One text a line, or JSON {class: [texts]}.")] = None,
    items: Annotated[
        Path | None, typer.Option(help="Items whose labels to speak of; needs --labels.")
    ] = None,
    scenes: Annotated[
        Path | None,
        typer.Option(help="Pictures with label maps whose classes to speak of, for `fit-decoder --words`."),
    ] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Label column (or caption); repeatable.")] = None,
    captions: Annotated[
        str | None, typer.Option(help="Column of captions to encode too, as they are; needs --items.")
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="Text with {}, file, or name|photo|simple|imagenet; of --scenes also names and descriptions, which are "
            "its default."
        ),
    ] = None,
    depot: Depot = "depot",
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Encode class names, templates, captions or your own texts."""
    from deponij.project.extraction.class_words import DESCRIPTIONS, NAMES, prompts_of_classes
    from deponij.project.extraction.texts import summary
    from deponij.stages import extract_text as stage
    from deponij.store.errors import UsageError
    from deponij.store.scenes import Scenes

    if [texts, items, scenes].count(None) != 2 or (items is None) == bool(labels):
        raise UsageError("give either --texts FILE, --scenes SCENES, or --items ITEMS with --labels COLUMN")
    if captions is not None and items is None:
        raise UsageError("--captions COLUMN is a column of --items ITEMS")
    if texts is not None:
        prompts = stage.prompts_from_file(texts, template or ("name",))
    elif items is not None:
        prompts = stage.prompts_from_labels(items, labels or (), template or ("name", "photo"))
        prompts += stage.captions_from(items, captions)
    elif scenes is not None:
        prompts = prompts_of_classes(Scenes(scenes).classes, template or (NAMES, DESCRIPTIONS))
    options = run_options(depot, device, "auto", 0, threads)
    params = stage.TextParams(precision=precision)
    result = stage.run(params, prompts, backbone=backbone, out=out, options=options)
    answer(result, summary(result), as_json)
