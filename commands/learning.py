"""Cheap learning from views."""

from pathlib import Path
from typing import Annotated

import typer

from commands.answers import print_json
from commands.options import FeaturesArg, ItemsArg, Json, LabelsArg, SplitArg

app = typer.Typer()


@app.command()
def probe(
    features: FeaturesArg,
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    out: Annotated[Path | None, typer.Option(help="Folder for the head, predictions and confusion.")] = None,
    as_json: Json = False,
) -> None:
    """Train a linear probe on a view; C is chosen on the validation part."""
    from stages import probe as stage
    from stages.tables import print_evaluation

    result = stage.run(
        stage.ProbeParams(), features=features, items=items, split=split, labels=labels, out=out
    )
    print_json(result) if as_json else print_evaluation(result)


@app.command("zero-shot")
def zero_shot(
    features: FeaturesArg,
    texts: Annotated[Path, typer.Option(help="View of text vectors.")],
    items: ItemsArg,
    split: SplitArg,
    labels: LabelsArg,
    out: Annotated[Path | None, typer.Option(help="Folder for predictions and confusion.")] = None,
    as_json: Json = False,
) -> None:
    """Classify by the nearest class text; nothing is learned."""
    from stages import zero_shot as stage
    from stages.tables import print_evaluation

    params = stage.ZeroShotParams()
    result = stage.run(
        params, features=features, texts=texts, items=items, split=split, labels=labels, out=out
    )
    print_json(result) if as_json else print_evaluation(result)
