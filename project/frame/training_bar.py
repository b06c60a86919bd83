"""A training as a person sees it: a bar with rate, remaining time, loss and what validation said; what was kept of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deponij.pipeline.training.loop import Step, Training
from deponij.pipeline.training.params import TrainingParams
from deponij.project.frame.console import bar


def keeps_the_best(training: Training, params: TrainingParams) -> bool:
    """Whether the best epoch on validation was kept: the last is where there was nothing to choose on, too."""
    return params.keep == "best" and any(one.figures for one in training.history)


@contextmanager
def training_bar(label: str) -> Iterator[Callable[[Step], None]]:
    """Yields what a training tells its steps to."""
    n_before = 0
    with bar(label, None, "batches") as advance:

        def stepped(step: Step) -> None:
            nonlocal n_before
            figures = "".join(f" {name} {value:.3f}" for name, value in step.figures.items())
            told = f"epoch {step.epoch + 1} loss {step.loss:.3f} lr {step.lr:.1e}{figures}"
            advance(step.done - n_before, told, step.total)
            n_before = step.done

        yield stepped
