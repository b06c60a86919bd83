"""A training as a person sees it: a bar with rate, remaining time, loss and what validation said last."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deponij.pipeline.training.loop import Step
from deponij.project.frame.console import bar


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
