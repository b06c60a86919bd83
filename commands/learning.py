"""Cheap learning from views."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deponij.commands.answers import print_json
from deponij.commands.options import (
    HEADS,
    Blend,
    FeaturesArg,
    How,
    ItemsArg,
    Json,
    LabelsArg,
    OutArg,
    SplitArg,
    TextsArg,
    Threads,
)

if TYPE_CHECKING:
    from deponij.project.learning.learn import HeadResult

app = typer.Typer()

PartArg = Annotated[str, typer.Option("--part", help="Whose items are taken of a results folder.")]


def _learn(
    head: str,
    as_json: bool,
    features: Sequence[Path],
    items: Path,
    split: Path,
    labels: str,
    out: Path | None,
    *,
    arguments: Sequence[str] = (),
    shown: Callable[["HeadResult"], None] = lambda result: None,
    **more: Any,
) -> None:
    """Learn a head of this kind from these; `shown` prints more than its scores."""
    from deponij.commands.show.results import print_evaluation
    from deponij.project.in_force import toys_beside
    from deponij.project.learning.learn import HeadParams, learn, parse_arguments

    params = HeadParams(head=head, arguments=parse_arguments(arguments))
    result = learn(params, features=features, items=items, split=split, labels=labels, out=out, **more)
    if as_json:
        print_json(result)
    else:
        print_evaluation(result, toys_beside(*features))
        shown(result)


@app.command()
def probe(
    features: FeaturesArg,
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Train a linear probe on a view; C is chosen on the validation part."""
    _learn("logistic", as_json, [features], items, split, labels, out)


@app.command()
def fit(
    features: Annotated[list[Path], typer.Option(help="View; several are concatenated.")],
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    head: Annotated[str, typer.Option(help=f"One of: {', '.join(HEADS)}.")],
    argument: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, as lr=1e-3 or balance=class-weights.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="View of text vectors, for heads that start from them.")
    ] = None,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Train any head on one view or on several concatenated ones."""
    _learn(head, as_json, features, items, split, labels, out, arguments=argument or (), texts=texts)


@app.command("zero-shot")
def zero_shot(
    features: FeaturesArg,
    texts: TextsArg,
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Classify by the nearest class text; nothing is learned."""
    _learn("zero-shot", as_json, [features], items, split, labels, out, texts=texts)


@app.command()
def knn(
    features: FeaturesArg,
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Classify by the nearest training items, also with a few of each class; k is chosen on validation."""
    from deponij.commands.show.results import print_few_shot
    from deponij.stages.heads import HeadsParams

    usual = HeadsParams()
    few: dict[str, Any] = {"per_class": usual.per_class, "tries": usual.tries}
    _learn("knn", as_json, [features], items, split, labels, out, shown=print_few_shot, **few)


@app.command()
def blend(
    features: FeaturesArg,
    texts: TextsArg,
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    method: Annotated[Blend, typer.Option(help="Interpolated weights, or a cache of items.")] = "wise-ft",
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Blend zero-shot with what labelled items teach; how much is chosen on validation."""
    _learn(method, as_json, [features], items, split, labels, out, texts=texts)


@app.command()
def ensemble(
    results: Annotated[
        list[Path], typer.Argument(help="Results folders of the same items, labels and split.")
    ],
    how: Annotated[How, typer.Option(help="What is learned is learned on validation.")] = "mean-logits",
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Combine stored answers of any number of classifiers."""
    from deponij.commands.show.results import print_ensemble
    from deponij.project.in_force import toys_beside
    from deponij.stages import ensembles as stage

    result = stage.run(how, results, out=out)
    print_json(result) if as_json else print_ensemble(result, toys_beside(*results))


@app.command()
def tables(
    features: Annotated[
        list[Path] | None, typer.Option(help="View of picture features; repeatable. None: the profile's.")
    ] = None,
    texts: Annotated[list[Path] | None, typer.Option(help="View of text vectors; repeatable.")] = None,
    items: Annotated[Path | None, typer.Option(help="Folder of items.")] = None,
    split: Annotated[list[Path] | None, typer.Option(help="Split table (Parquet); repeatable.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Label column of the items; repeatable.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of every head; 5 if not said.")] = None,
    lr: Annotated[
        list[str] | None, typer.Option(help="BACKBONE=RATE; repeatable. By default chosen on validation.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables, heads and their results.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Compute the profile's anew, changed or not.")
    ] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Every table of results at once: baselines, zero-shot, linear and MLP heads, ensembles, over seeds.

    Without options: those of the profile in force, computed if anything has changed since.
    """
    from deponij.commands.show.cells import print_cells
    from deponij.project.frame.harness import layout
    from deponij.project.frame.layout import Layout
    from deponij.project.frame.settings import check
    from deponij.project.frame.toys import toys_of
    from deponij.project.in_force import toys_beside
    from deponij.project.tables.plan import Inputs, TablesParams
    from deponij.stages import tables as stage

    if seeds is None and not any((features, texts, items, split, labels, lr, out)):
        cells = stage.of_profile(again=again, threads=threads)
        toys = toys_of(layout().weights)
    else:
        inputs = Inputs.given(features, texts, items, split, labels)
        toys = toys_beside(*inputs.features)
        values = {"lrs": _rates(lr or ())} | ({} if seeds is None else {"seeds": seeds})
        params = check(TablesParams, values, "the command line")
        cells = stage.run(
            params, inputs, threads=threads, out=out, results=out and Layout(out).results_of("tables")
        )
    print_json(cells) if as_json else print_cells(cells, toys=toys)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Results folder (with result.json and predictions.parquet).")],
    b: Annotated[Path, typer.Argument(help="Another one, of the same labels and split.")],
    part: PartArg = "test",
    as_json: Json = False,
) -> None:
    """Is one model better than another on the same items, and by more than chance?"""
    from deponij.commands.show.results import print_comparison
    from deponij.project.in_force import toys_beside
    from deponij.project.learning import compare as comparing

    result = comparing.run(a, b, part)
    print_json(result) if as_json else print_comparison(result, toys_beside(a, b))


@app.command()
def agreement(
    a: Annotated[Path, typer.Argument(help="CSV with columns item, truth, response; or a results folder.")],
    b: Annotated[Path, typer.Argument(help="Another observer's, matched by item.")],
    part: PartArg = "test",
    as_json: Json = False,
) -> None:
    """Do two observers, models or people, err on the same items and in the same way?"""
    from deponij.commands.show.results import print_agreement
    from deponij.services import agreement as agreeing

    result = agreeing.run(a, b, part)
    print_json(result) if as_json else print_agreement(result)


@app.command()
def curve(
    features: FeaturesArg,
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    tries: Annotated[int | None, typer.Option(help="Draws of each size; 5 if not said.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    as_json: Json = False,
) -> None:
    """How accuracy grows with the labelled items of each class, by logistic regression and nearest class mean."""
    from deponij.commands.show.insight import print_curve
    from deponij.project.frame.settings import check
    from deponij.project.in_force import toys_beside
    from deponij.stages import curves as stage

    params = check(stage.CurveParams, {} if tries is None else {"tries": tries}, "the command line")
    rows = stage.run(params, features=features, items=items, split=split, labels=labels, out=out)
    print_json(rows) if as_json else print_curve(rows, toys_beside(features))


@app.command()
def retrieval(
    features: FeaturesArg,
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    texts: Annotated[
        Path | None, typer.Option(help="View of text vectors, to ask with words and captions too.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    as_json: Json = False,
) -> None:
    """How well pictures find pictures of their class, words pictures, and pictures words."""
    from deponij.commands.show.retrieval import print_retrieval
    from deponij.pipeline.metrics.retrieval import RETRIEVAL
    from deponij.project.in_force import toys_beside
    from deponij.project.retrieval import images
    from deponij.project.retrieval import texts as words
    from deponij.project.retrieval.archive import RetrievalParams
    from deponij.store.atomic import write_bytes

    params = RetrievalParams()
    results = [images.run(params, features=features, items=items, split=split, labels=labels)]
    if texts is not None:
        inputs = {"features": features, "texts": texts, "items": items, "split": split}
        results += words.run(params, labels=labels, **inputs)
        results += words.run_captions(params, labels=[labels], **inputs)
    if out is not None:
        write_bytes(out, RETRIEVAL.dump(results))
    print_json(results) if as_json else print_retrieval(results, toys_beside(features))


@app.command()
def mistakes(
    features: FeaturesArg,
    items: ItemsArg,
    labels: LabelsArg,
    out: Annotated[Path | None, typer.Option(help="Folder for mistakes.json and sheets of pictures.")] = None,
    as_json: Json = False,
) -> None:
    """Labels worth a second look: probably wrong ones, near-duplicates that differ, classes that are confused."""
    from deponij.commands.show.insight import print_mistakes
    from deponij.project.toy_features import toy_note
    from deponij.stages import mistakes as stage

    report = stage.run(stage.MistakesParams(), features=features, items=items, labels=labels, out=out)
    if note := toy_note(features, report.backbone):
        report = report.model_copy(update={"notes": (*report.notes, note)})
    print_json(report) if as_json else print_mistakes(report)


@app.command("map")
def map_items(
    features: FeaturesArg,
    out: Annotated[Path | None, typer.Option(help="Parquet file to write: item_id and places.")] = None,
    as_json: Json = False,
) -> None:
    """Lay the items out in a plane by principal components and by t-SNE."""
    from deponij.commands.show.insight import print_map
    from deponij.stages import map as stage

    facts = stage.run(stage.MapParams(), features=features, out=out)
    print_json(facts) if as_json else print_map(facts)


def _rates(given: Iterable[str]) -> dict[str, float]:
    """`NAME=RATE` to numbers."""
    from deponij.store.errors import UsageError

    found = {}
    for one in given:
        name, _, rate = one.rpartition("=")
        try:
            found[name] = float(rate)
        except ValueError:
            name = ""
        if not name or not 0 < found[name] < math.inf:
            raise UsageError(
                f"--lr is BACKBONE=RATE with a positive rate, such as dinov2-base=1e-4; got {one!r}"
            )
    return found
