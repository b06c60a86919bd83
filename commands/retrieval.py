"""Searching: making indexes and asking them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deponij.commands.answers import EXIT_FAILED, answer, lead, print_json
from deponij.commands.options import (
    Device,
    IndexType,
    Json,
    ParquetOpt,
    RunOpt,
    SheetOpt,
    Threads,
    run_options,
)

if TYPE_CHECKING:
    from deponij.services.search.vectors import Kind

index_app = typer.Typer(help="Make a view searchable.", invoke_without_command=True)
query_app = typer.Typer(
    help="Ask an index with a picture, words, an item or a vector; --plus and --minus add to it.",
    no_args_is_help=True,
)


@index_app.callback()
def index(
    context: typer.Context,
    features: Annotated[Path | None, typer.Option(help="View of picture features.")] = None,
    items: Annotated[Path | None, typer.Option(help="Folder of items.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the index.")] = None,
    recall: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Recall@10 that an approximate type must reach.")
    ] = 0.95,
    kind: Annotated[IndexType, typer.Option(help="flat is exact.")] = "auto",
    exact_up_to: Annotated[int, typer.Option(min=0, help="Vectors up to which auto is exact.")] = 100_000,
    split: Annotated[
        list[Path] | None, typer.Option(help="Split table, to filter by as split_NAME; repeatable.")
    ] = None,
    metrics: Annotated[Path | None, typer.Option(help="JSON file for recall.")] = None,
    latency: Annotated[Path | None, typer.Option(help="JSON file for recall and times.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Even where new items could be added.")] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Index a view: exact while that is quick, beyond it the type that reaches the recall.

    An approximate index that is there already gets new items added and gone ones deleted.
    """
    if context.invoked_subcommand is not None:
        return
    from deponij.project.frame.settings import check
    from deponij.project.record_files import by_name
    from deponij.stages import index as stage
    from deponij.store.errors import UsageError

    if features is None or items is None or out is None:
        raise UsageError("deponij index needs --features VIEW, --items ITEMS and --out INDEX")
    values = {"kind": kind, "recall": recall, "exact_up_to": exact_up_to}
    report = stage.run(
        check(stage.IndexParams, values, "the command line"),
        features=features,
        items=items,
        out=out,
        splits=by_name(split or ()),
        metrics=metrics,
        latency=latency,
        threads=threads,
        rebuild=rebuild,
    )
    answer(report, stage.summary(report), as_json)


@index_app.command("verify")
def index_verify(
    path: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")], as_json: Json = False
) -> None:
    """Read an index whole and see that every byte is what was written."""
    from deponij.stages import index as stage

    report = stage.verify(path)
    text = "\n".join(report.problems) or f"{path}: {report.n} items, {report.size_bytes:,} bytes, sound"
    answer(report, text, as_json)
    if report.problems:
        raise typer.Exit(EXIT_FAILED)


def _register(kind: "Kind", metavar: str, about: str) -> None:
    @query_app.command(kind, help=about)
    def _query(
        values: Annotated[
            list[str],
            typer.Argument(metavar=metavar, help="What to look for; several are several questions."),
        ],
        index: Annotated[
            Path | None, typer.Option("--index", help="Index to ask; by default the run's chosen one.")
        ] = None,
        of_run: RunOpt = None,
        plus: Annotated[
            list[str] | None,
            typer.Option(
                "--plus",
                help="More like this: [WEIGHT*][image:|text:|item:|vector:]VALUE, words without; repeatable.",
            ),
        ] = None,
        minus: Annotated[
            list[str] | None, typer.Option("--minus", help="Less like this; repeatable.")
        ] = None,
        weight: Annotated[float, typer.Option("--weight", min=0.0, help="Of the first part.")] = 1.0,
        top: Annotated[int, typer.Option("--top", "-k", help="Items wanted.")] = 10,
        backbone: Annotated[
            str | None,
            typer.Option("--backbone", help="Whose index, of the run; with --index: what encodes."),
        ] = None,
        backbone_spec: Annotated[
            str | None,
            typer.Option("--backbone-spec", help="Where the index's backbone is: name, folder or family:…."),
        ] = None,
        where: Annotated[
            str | None,
            typer.Option("--where", help="""Which items count, in SQL: "label = 'Can' and width_px > 64"."""),
        ] = None,
        unique: Annotated[bool, typer.Option("--unique", help="Fold near-duplicates.")] = False,
        others: Annotated[
            bool, typer.Option("--others", help="Leave out the items that the query names.")
        ] = False,
        parquet: ParquetOpt = None,
        sheet: SheetOpt = None,
        items: Annotated[
            Path | None, typer.Option("--items", help="Where --sheet finds pictures; by default the run's.")
        ] = None,
        texts: Annotated[
            list[Path] | None,
            typer.Option("--texts", help="View to look words up in; by default the run's; repeatable."),
        ] = None,
        depot: Annotated[
            str, typer.Option("--depot", envvar="DEPONIJ_DEPOT", help="Look words up in this depot too.")
        ] = "depot",
        device: Device = "auto",
        threads: Threads = 0,
        as_json: Json = False,
    ) -> None:
        from deponij.pipeline.likeness.pairs import Thresholds
        from deponij.pipeline.retrieval.vector_index import set_threads
        from deponij.project.frame.console import say as tell
        from deponij.project.in_force import items_of, toys_beside
        from deponij.project.indexes import Index
        from deponij.project.meant import run_meant
        from deponij.project.record_files import check_ending
        from deponij.services.search import query as asking
        from deponij.services.search.vectors import QueryEncoder, Term
        from deponij.store.errors import UsageError

        values = list(dict.fromkeys(values))
        check_ending(sheet, "--sheet", ".png")
        check_ending(parquet, "--parquet", ".parquet")
        if sheet is not None and len(values) > 1:
            raise UsageError(
                f"--sheet shows the hits of one question, got {len(values)}; ask them one by one"
            )
        if index is not None and of_run is not None:
            raise UsageError("--index names an index already; leave --run out")
        options = run_options(depot, device, "auto", 0, threads)
        set_threads(options.n_threads)
        more = [
            *(asking.parse_term(text) for text in plus or ()),
            *(asking.parse_term(text, -1.0) for text in minus or ()),
        ]
        folding = Thresholds() if unique else None
        questions = [
            asking.Question(
                (Term(kind, value, weight), *more), top=top, where=where, unique=folding, others_only=others
            )
            for value in values
        ]
        said = None
        if index is None:
            meant = run_meant(of_run)
            for_words = any(term.kind == "text" for term in questions[0].terms)
            index = meant.index(backbone, for_words=for_words)
            backbone, said = None, meant.said(f"index of {index.name}")
        opened = Index.open(index)
        # Beside an index that is named, a backbone can only say what to encode with.
        encoder = QueryEncoder(opened, options, backbone_spec or backbone, texts, tell)
        # The model is loaded once, by the first question that needs it.
        answers = [asking.ask(opened, question, encoder) for question in questions]
        if parquet is not None:
            asking.write_hits(parquet, dict(zip(values, answers, strict=True)))
        if sheet is not None:
            source = f"{opened.backbone}, {len(opened):,} items" + (f", where {where}" if where else "")
            title = (
                f"{kind}: {values[0]}"
                + "".join(f" + {t}" for t in plus or ())
                + "".join(f" - {t}" for t in minus or ())
            )
            asking.write_sheet(sheet, answers[0], items_of(opened.path, items), title, source)
        lead(said, as_json)
        if as_json:
            listed = [[hit.to_json(with_folded=unique) for hit in of_one] for of_one in answers]
            several = [{"query": value, "hits": of_one} for value, of_one in zip(values, listed, strict=True)]
            print_json(listed[0] if len(values) == 1 else several)
        else:
            from deponij.commands.show.hits import print_answers

            asked = {f"{kind}: {value}": of_one for value, of_one in zip(values, answers, strict=True)}
            print_answers(asked, opened.backbone, toys_beside(opened.path), is_filtered=bool(where))


_register("image", "PICTURE…", "Items that look like a picture file.")
_register("text", "WORDS…", "Items that words describe; needs a backbone with a text tower.")
_register("item", "ID…", "Items like one of the index.")
_register("vector", "FILE…", "Items near a vector: .npy, .json, or a view with one row (.h5).")
