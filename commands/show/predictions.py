"""Answers to new pictures on a terminal."""

from deponij.commands.show.tables import Columns, percent, show_lines, show_table
from deponij.services.predict.predict import Prediction, PredictResult


def print_predictions(result: PredictResult) -> None:
    """One row a picture, the best answers in order; which classifier gave them."""
    if result.predictions:
        what = "item" if result.predictions[0].item_id else "picture"
        columns: Columns[Prediction] = {what: lambda one: one.item_id or one.path}
        if result.model.thresholds is not None:
            columns["labels"] = lambda one: ", ".join(one.labels or ()) or "none of the classes"
        for place in range(max(len(one.top) for one in result.predictions)):
            columns |= {
                f"{place + 1}.": lambda one, place=place: one.top[place].label,  # type: ignore[misc]
                f"{place + 1}. %": lambda one, place=place: percent(one.top[place].prob),  # type: ignore[misc]
            }
        # The later answers go first where it is narrow.
        show_table("", columns, result.predictions, spare=[*columns][:1:-1])
    show_lines(*model_lines(result))


def model_lines(result: PredictResult) -> list[str]:
    """Which classifier answered, why that one, and what its probabilities are worth."""
    model = result.model
    names = " + ".join(one.name for one in model.backbones)
    if model.thresholds is not None:
        return [
            f"model     {names}, {model.title}: {model.labels}, {model.n_classes} classes ({model.folder})",
            f"chosen    {model.chosen}",
            "note      a class is answered from its own threshold on"
            + (", chosen on validation" if model.val_map is not None else ", a probability of one half"),
        ]
    where = "out-of-fold answers" if model.split == "folds" else "validation"
    probs = (
        f"probabilities are calibrated on {where} (temperature {model.temperature:.3g})"
        if model.temperature is not None
        else "probabilities are uncalibrated: there was no validation part to fit a temperature on"
    )
    return [
        f"model     {names}, {model.title}: {model.labels}, {model.n_classes} classes ({model.folder})",
        f"chosen    {model.chosen}",
        f"note      {probs}",
    ]
