"""Answers to new pictures on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deponij.commands.show.results import stdout
from deponij.services.predict.predict import PredictResult


def print_predictions(result: PredictResult, console: Console = stdout) -> None:
    """One row a picture, the best answers in order; which classifier gave them."""
    if result.predictions:
        console.print(_table(result))
    for line in model_lines(result):
        console.print(Text(line), soft_wrap=True)


def model_lines(result: PredictResult) -> list[str]:
    """Which classifier answered, why that one, and what its probabilities are worth."""
    model = result.model
    names = " + ".join(one.name for one in model.backbones)
    probs = (
        f"probabilities are calibrated on validation (temperature {model.temperature:.3g})"
        if model.temperature is not None
        else "probabilities are uncalibrated: there was no validation part to fit a temperature on"
    )
    return [
        f"model     {names}, {model.title}: {model.labels}, {model.n_classes} classes ({model.folder})",
        f"chosen    {model.chosen}",
        f"note      {probs}",
    ]


def _table(result: PredictResult) -> Table:
    n_top = max(len(one.top) for one in result.predictions)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("item" if result.predictions[0].item_id else "picture", overflow="fold")
    for place in range(1, n_top + 1):
        table.add_column(f"{place}.")
        table.add_column("%", justify="right")
    for one in result.predictions:
        fields = [field for a in one.top for field in (Text(a.label), Text(f"{100 * a.prob:.1f}"))]
        table.add_row(Text(one.item_id or one.path), *fields)
    return table
