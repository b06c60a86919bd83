"""Cheap learning from views."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deponij.commands.answers import lead, print_json
from deponij.commands.comparing import tell_arguments
from deponij.commands.options import (
    HEADS,
    Blend,
    Depot,
    FeaturesMeant,
    How,
    ItemsMeant,
    Json,
    LabelsMeant,
    OutArg,
    RunOpt,
    SplitMeant,
    TextsMeant,
    Threads,
    Token,
)

if TYPE_CHECKING:
    from deponij.project.learning.learn import HeadResult

app = typer.Typer()


def _learn(
    head: str,
    as_json: bool,
    features: Sequence[Path],
    items: Path | None,
    split: Path | None,
    labels: str | None,
    out: Path | None,
    of_run: Path | None,
    *,
    texts: Path | None = None,
    arguments: Sequence[str] = (),
    token: Token | None = None,
    shown: Callable[["HeadResult"], None] = lambda result: None,
    **more: Any,
) -> None:
    """Learn a head of this kind from these, or from what the run has; `shown` prints more than its scores."""
    if "help" in arguments:
        tell_arguments(head, as_json)
        return
    from deponij.commands.show.results import print_evaluation
    from deponij.project.in_force import toys_beside
    from deponij.project.learning.arguments import make_head, parse_arguments
    from deponij.project.learning.learn import HeadParams, learn
    from deponij.project.meant import inputs_meant
    from deponij.store.errors import UsageError

    params = HeadParams(head=head, arguments=parse_arguments(arguments), token=token)
    # What is wrong with these is said before anything is read.
    made = make_head(head, params.arguments)
    wants_texts, wants_maps = made.starts_from_texts, made.reads == "maps"
    kinds = {"for_words": wants_texts, "for_maps": wants_maps}
    given = inputs_meant(features, items, split, labels, of_run=of_run, **kinds)
    words = texts or (given.texts if wants_texts else None)
    if wants_texts and words is None and given.said is None:
        raise UsageError(f"head {head!r} starts from class texts; name their view with --texts")
    result = learn(
        params,
        features=given.features,
        items=given.items,
        split=given.split,
        labels=given.labels,
        texts=words,
        out=out,
        **more,
    )
    lead(given.said, as_json)
    if as_json:
        print_json(result)
    else:
        print_evaluation(result, toys_beside(*given.features))
        shown(result)


def _named(features: Path | None) -> list[Path]:
    return [] if features is None else [features]


@app.command()
def probe(
    features: FeaturesMeant = None,
    items: ItemsMeant = None,
    split: SplitMeant = None,
    labels: LabelsMeant = None,
    of_run: RunOpt = None,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Train a linear probe on a view; C is chosen on the validation part."""
    _learn("logistic", as_json, _named(features), items, split, labels, out, of_run)


@app.command()
def fit(
    head: Annotated[str, typer.Option(help=f"One of: {', '.join(HEADS)}.")],
    features: Annotated[list[Path] | None, typer.Option(help="View; several are concatenated.")] = None,
    items: ItemsMeant = None,
    split: SplitMeant = None,
    labels: LabelsMeant = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="NAME=VALUE, as lr=1e-3; repeatable. `--set help` lists the names and their types."
        ),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="View of text vectors, for heads that start from them.")
    ] = None,
    token: Annotated[
        Token | None,
        typer.Option(
            help="Of a view of tokens or maps: the token that stands for a picture, for heads of vectors."
        ),
    ] = None,
    depot: Depot = "depot",
    of_run: RunOpt = None,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Train any head on one view or on several concatenated ones."""
    given: dict[str, Any] = {"arguments": argument or (), "token": token, "depot": depot}
    _learn(head, as_json, features or (), items, split, labels, out, of_run, texts=texts, **given)


@app.command("zero-shot")
def zero_shot(
    features: FeaturesMeant = None,
    texts: TextsMeant = None,
    items: ItemsMeant = None,
    split: SplitMeant = None,
    labels: LabelsMeant = None,
    of_run: RunOpt = None,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Classify by the nearest class text; nothing is learned."""
    _learn("zero-shot", as_json, _named(features), items, split, labels, out, of_run, texts=texts)


@app.command()
def knn(
    features: FeaturesMeant = None,
    items: ItemsMeant = None,
    split: SplitMeant = None,
    labels: LabelsMeant = None,
    of_run: RunOpt = None,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Classify by the nearest training items, also with a few of each class; k is chosen on validation."""
    from deponij.commands.show.results import print_few_shot
    from deponij.stages.heads import HeadsParams

    usual = HeadsParams()
    few: dict[str, Any] = {"per_class": usual.per_class, "tries": usual.tries}
    _learn("knn", as_json, _named(features), items, split, labels, out, of_run, shown=print_few_shot, **few)


@app.command()
def blend(
    features: FeaturesMeant = None,
    texts: TextsMeant = None,
    items: ItemsMeant = None,
    split: SplitMeant = None,
    labels: LabelsMeant = None,
    method: Annotated[Blend, typer.Option(help="Interpolated weights, or a cache of items.")] = "wise-ft",
    of_run: RunOpt = None,
    out: OutArg = None,
    as_json: Json = False,
) -> None:
    """Blend zero-shot with what labelled items teach; how much is chosen on validation."""
    _learn(method, as_json, _named(features), items, split, labels, out, of_run, texts=texts)


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
        list[Path] | None, typer.Option(help="View of picture features; repeatable. None: the run's.")
    ] = None,
    texts: Annotated[list[Path] | None, typer.Option(help="View of text vectors; repeatable.")] = None,
    items: Annotated[Path | None, typer.Option(help="Folder of items.")] = None,
    split: Annotated[list[Path] | None, typer.Option(help="Split table (Parquet); repeatable.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Label column of the items; repeatable.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of every head; 5 if not said.")] = None,
    lr: Annotated[
        list[str] | None, typer.Option(help="BACKBONE=RATE; repeatable. By default chosen on validation.")
    ] = None,
    of_run: RunOpt = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables, heads and their results.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Compute those of the profile in force anew, changed or not.")
    ] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Every table of results at once: baselines, zero-shot, linear and MLP heads, ensembles, over seeds.

    Without options: those of the run; of the profile in force they are computed if anything has changed since.
    """
    from deponij.commands.show.cells import print_cells
    from deponij.project.frame.layout import Layout
    from deponij.project.frame.settings import check
    from deponij.project.frame.toys import toys_of
    from deponij.project.in_force import toys_beside
    from deponij.project.meant import run_meant
    from deponij.project.tables.plan import Inputs, TablesParams
    from deponij.stages import tables as stage
    from deponij.store.errors import UsageError

    if seeds is None and not any((features, texts, items, split, labels, lr, out)):
        meant = run_meant(of_run)
        if meant.is_in_force:
            cells = stage.of_profile(again=again, threads=threads)
        elif again:
            raise UsageError(
                f"--again is for the profile in force; `deponij run` makes {meant.at.root} again"
            )
        elif not meant.at.tables.is_dir():
            raise UsageError(
                f"{meant.at.root} has no tables, for which its pictures may have been too few; of files of your own: "
                "`deponij tables --features VIEW --items ITEMS --split FILE --labels COLUMN`"
            )
        else:
            cells = stage.read(meant.at.tables)
        toys = toys_of(meant.at.weights)
        lead(meant.said("its tables"), as_json)
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
def curve(
    features: FeaturesMeant = None,
    items: ItemsMeant = None,
    split: SplitMeant = None,
    labels: LabelsMeant = None,
    of_run: RunOpt = None,
    tries: Annotated[int | None, typer.Option(help="Draws of each size; 5 if not said.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    as_json: Json = False,
) -> None:
    """How accuracy grows with the labelled items of each class, and what twice the pictures would bring."""
    from deponij.commands.show.insight import print_curve
    from deponij.project.frame.settings import check
    from deponij.project.in_force import toys_beside
    from deponij.project.meant import inputs_meant
    from deponij.stages import curves as stage

    params = check(stage.CurveParams, {} if tries is None else {"tries": tries}, "the command line")
    given = inputs_meant(_named(features), items, split, labels, of_run=of_run)
    (view,) = given.features
    rows = stage.run(
        params, features=view, items=given.items, split=given.split, labels=given.labels, out=out
    )
    lead(given.said, as_json)
    print_json(rows) if as_json else print_curve(rows, toys_beside(view))


@app.command()
def retrieval(
    features: FeaturesMeant = None,
    items: ItemsMeant = None,
    split: SplitMeant = None,
    labels: LabelsMeant = None,
    texts: Annotated[
        Path | None, typer.Option(help="View of text vectors, to ask with words and captions too.")
    ] = None,
    of_run: RunOpt = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    as_json: Json = False,
) -> None:
    """How well pictures find pictures of their class, words pictures, and pictures words."""
    from deponij.commands.show.retrieval import print_retrieval
    from deponij.pipeline.metrics.retrieval import RETRIEVAL
    from deponij.project.in_force import toys_beside
    from deponij.project.meant import inputs_meant
    from deponij.project.retrieval import images
    from deponij.project.retrieval import texts as words
    from deponij.project.retrieval.archive import RetrievalParams
    from deponij.store.atomic import write_bytes

    params = RetrievalParams()
    given = inputs_meant(_named(features), items, split, labels, of_run=of_run)
    (view,), column = given.features, given.labels
    inputs = {"features": view, "items": given.items, "split": given.split}
    results = [images.run(params, labels=column, **inputs)]
    if (known := texts or given.texts) is not None:
        inputs["texts"] = known
        results += words.run(params, labels=column, **inputs)
        results += words.run_captions(params, labels=[column], **inputs)
    if out is not None:
        write_bytes(out, RETRIEVAL.dump(results))
    lead(given.said, as_json)
    print_json(results) if as_json else print_retrieval(results, toys_beside(view))


@app.command()
def mistakes(
    features: FeaturesMeant = None,
    items: ItemsMeant = None,
    labels: LabelsMeant = None,
    of_run: RunOpt = None,
    out: Annotated[Path | None, typer.Option(help="Folder for mistakes.json and sheets of pictures.")] = None,
    as_json: Json = False,
) -> None:
    """Labels worth a second look: probably wrong ones, near-duplicates that differ, classes that are confused.

    Without --features and --out: what the run has found already.
    """
    from deponij.commands.show.insight import print_mistakes
    from deponij.services.found_already import mistakes_of
    from deponij.stages import mistakes as stage

    report, said = mistakes_of(stage.MistakesParams(), features, items, labels, of_run=of_run, out=out)
    lead(said, as_json)
    print_json(report) if as_json else print_mistakes(report)


@app.command("map")
def map_items(
    features: FeaturesMeant = None,
    of_run: RunOpt = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file to write: item_id and places.")] = None,
    as_json: Json = False,
) -> None:
    """Lay the items out in a plane by principal components and by t-SNE.

    Without --features and --out: how the run has laid them out already.
    """
    from deponij.commands.show.insight import print_map
    from deponij.services.found_already import map_of
    from deponij.stages import map as stage

    facts, said = map_of(stage.MapParams(), features, of_run=of_run, out=out)
    lead(said, as_json)
    print_json(facts) if as_json else print_map(facts)


def _rates(given: Iterable[str]) -> dict[str, float]:
    """`NAME=RATE` to numbers."""
    from deponij.store.errors import UsageError

    rates = {}
    for one in given:
        name, _, rate = one.rpartition("=")
        try:
            rates[name] = float(rate)
        except ValueError:
            name = ""
        if not name or not 0 < rates[name] < math.inf:
            raise UsageError(
                f"--lr is BACKBONE=RATE with a positive rate, such as dinov2-base=1e-4; got {one!r}"
            )
    return rates
