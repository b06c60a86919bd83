"""Which heads there are, and which of two classifiers is better."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deponij.commands.answers import lead, print_json
from deponij.commands.options import Json, RunOpt

if TYPE_CHECKING:
    from deponij.project.learning.arguments import Argument

app = typer.Typer()

PartArg = Annotated[str, typer.Option("--part", help="Whose items are taken of a results folder.")]


@app.command()
def heads(as_json: Json = False) -> None:
    """The heads that `fit --head` and profiles know, and what each takes (`--set NAME=VALUE`)."""
    from deponij.commands.show.tables import show_lines
    from deponij.pipeline.heads.registry import head_class, kinds
    from deponij.project.learning.arguments import arguments_of

    arguments = {kind: arguments_of(kind) for kind in kinds()}
    if as_json:
        rows = [
            {"head": kind, "title": head_class(kind).title, "arguments": [one._asdict() for one in of_kind]}
            for kind, of_kind in arguments.items()
        ]
        print_json(rows)
    else:
        for kind, of_kind in arguments.items():
            show_lines(f"{kind}: {head_class(kind).title}", *(f"  {one}" for one in of_kind))


def tell_arguments(head: str, as_json: bool) -> None:
    """What `--set` can say of a head."""
    from deponij.project.learning.arguments import arguments_of

    show_arguments(f"head {head}", arguments_of(head), as_json)


def show_arguments(what: str, arguments: Sequence["Argument"], as_json: bool) -> None:
    """What `--set` takes of something, in its order."""
    from deponij.commands.show.tables import show_lines

    if as_json:
        print_json([one._asdict() for one in arguments])
    else:
        show_lines(f"--set NAME=VALUE of {what}:", *(f"  {one}" for one in arguments))


ContestantArg = Annotated[
    Path | None,
    typer.Argument(
        help="Results folder, or a run's; none: the run's two best classifiers.", show_default=False
    ),
]


@app.command()
def compare(
    a: ContestantArg = None,
    b: Annotated[
        Path | None, typer.Argument(help="Another one. Of two runs the chosen classifiers are compared.")
    ] = None,
    of_run: RunOpt = None,
    part: PartArg = "test",
    as_json: Json = False,
) -> None:
    """Is one model better than another on the same items, and by more than chance?

    Of two runs, such as before and after labels were corrected, the test items that both have count. Of two segmentations
    of the same scenes mIoU is compared.
    """
    from deponij.commands.show.results import print_comparison
    from deponij.project.in_force import toys_beside
    from deponij.project.learning import compare as comparing
    from deponij.project.learning.compare_runs import chosen_two, compare_runs
    from deponij.project.segmentation.compare import are_segmentations

    if a is not None and b is not None and are_segmentations(a, b):
        _compare_segmentations(a, b, part, as_json)
        return
    two = chosen_two(a, b, of_run)
    result: comparing.Comparison
    if two.are_of_runs:
        result = compare_runs(two.a, two.b, part)
    else:
        result = comparing.run(two.a, two.b, part)
    lead(two.said, as_json)
    print_json(result) if as_json else print_comparison(result, toys_beside(two.a, two.b))


def _compare_segmentations(a: Path, b: Path, part: str, as_json: bool) -> None:
    from deponij.commands.show.segmentation import print_segmentation_comparison
    from deponij.project.in_force import toys_beside
    from deponij.project.segmentation.compare import compare_segmentations

    comparison = compare_segmentations(a, b, part)
    print_json(comparison) if as_json else print_segmentation_comparison(comparison, toys_beside(a, b))


@app.command()
def agreement(
    a: Annotated[
        Path | None,
        typer.Argument(
            help="CSV with columns item, truth, response; or a results folder. None: the run's two best.",
            show_default=False,
        ),
    ] = None,
    b: Annotated[Path | None, typer.Argument(help="Another observer's, matched by item.")] = None,
    of_run: RunOpt = None,
    part: PartArg = "test",
    as_json: Json = False,
) -> None:
    """Do two observers, models or people, err on the same items and in the same way?"""
    from deponij.commands.show.results import print_agreement
    from deponij.project.learning.compare_runs import chosen_two
    from deponij.services import agreement as agreeing

    two = chosen_two(a, b, of_run)
    result = agreeing.run(two.a, two.b, part)
    lead(two.said, as_json)
    print_json(result) if as_json else print_agreement(result)
