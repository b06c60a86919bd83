"""What a run will take, before it begins: on standard error, for it is no answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from deponij.commands.show.tables import show_lines, show_notes, show_table
from deponij.project.extraction.weight_sizes import size

if TYPE_CHECKING:
    from deponij.project.extraction.forecast import Forecast, Offer
    from deponij.services.run import WorkAhead

_ESTIMATE = "from the operations of its forward pass and what this device does in a second: an estimate"


def print_work_ahead(ahead: "WorkAhead") -> None:
    """A row a backbone, where the times come from, and what another preset would take; nothing where no backbone runs."""
    if not ahead.forecasts:
        return
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=True, highlight=False, width=132)
    show_table(
        "extracting, before it begins: all weights are here",
        {
            "backbone": lambda one: one.backbone,
            "licence": lambda one: one.licence or "not known",
            "memory": lambda one: "" if one.memory_bytes is None else size(one.memory_bytes),
            "new": lambda one: f"{one.n_new:,} of {one.n_pictures:,}",
            "time": _time,
        },
        ahead.forecasts,
        console=console,
    )
    show_notes(_sources(ahead.forecasts), console)
    if ahead.offer is not None:
        show_lines(offered(ahead.offer), console=console)


def about(seconds: float) -> str:
    """A time that is only known roughly: about 8 s, about 6 min, about 2.5 h."""
    if seconds < 1:
        return "about 1 s"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def offered(offer: "Offer") -> str:
    """One line on what another preset would take."""
    once = f"about {size(offer.fetch_bytes)} once" if offer.fetch_bytes else "its weights are here"
    return (
        f"`--preset {offer.preset.name}` takes {' + '.join(offer.preset.backbones)} instead: {once}, "
        f"{' and '.join(offer.preset.licences)}, {about(offer.seconds)} for these {offer.n_pictures:,} pictures on "
        f"this {'CPU' if offer.device == 'cpu' else 'GPU'}"
    )


def _time(one: "Forecast") -> str:
    if one.basis == "known":
        return "nothing to do"
    if one.basis == "few":
        return "a moment"
    return "not known" if one.seconds is None else about(one.seconds)


def _sources(told: Sequence["Forecast"]) -> list[str]:
    """Where the times come from, a line for each way."""
    tried = [one for one in told if one.basis == "trial"]
    notes = []
    if tried:
        fewest, most = min(one.n_tried for one in tried), max(one.n_tried for one in tried)
        n_tried = str(most) if fewest == most else f"{fewest} to {most}"
        notes.append(
            f"times of extracting, from a trial of {n_tried} of these pictures; learning comes on top"
        )
    if guessed := [one.backbone for one in told if one.basis == "estimate"]:
        notes.append(f"{', '.join(guessed)}: {_ESTIMATE}")
    for one in told:
        if (
            one.memory_bytes
            and one.memory_free_bytes
            and one.n_new
            and one.memory_bytes > one.memory_free_bytes
        ):
            notes.append(
                f"{one.backbone}: about {size(one.memory_bytes)} of memory, and {size(one.memory_free_bytes)} are free: "
                "take a smaller --batch-size or another backbone"
            )
    return notes
