"""Stage `probe`: a linear probe on one view, scored on every part of a split.

python -m deponij.stages.probe BACKBONE     (a key of `backbones` in params.yaml)
"""

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.frame.harness import layout, run_stage
from deponij.project.frame.settings import Section, Slug, load
from deponij.project.learning.grid import run_grid
from deponij.project.learning.results import evaluate, feature_sources, read_examples, write_results
from deponij.store.errors import DataError
from deponij.store.items import Items
from deponij.store.view import View


class ProbeParams(Section):
    """How the probe learns; see `deponij.pipeline.heads.logistic.LogisticProbe`.

    Attributes:
        cs: inverse penalties to choose from on validation; `dinov2` for the 45 of its evaluation, None for
            the head's own grid.
        max_iter: iterations of one fit.
        tolerance: at which the last fit counts as converged.
        seed: of the hold-out that stands in for a missing validation part.
        balance: `class-weights` gives every class the same say, however few its items.
    """

    cs: tuple[float, ...] | Literal["dinov2"] | None = None
    max_iter: int = Field(default=1000, ge=1)
    tolerance: float = Field(default=1e-4, gt=0)
    seed: int = Field(default=0, ge=0)
    balance: Literal["none", "class-weights"] = "none"


class Params(Section):
    """The sections of params.yaml that this stage reads; of the splits only their names."""

    splits: dict[Slug, Any]
    labels: list[str]
    probe: ProbeParams = ProbeParams()


class Trial(Section):
    """One C and its figures on validation."""

    c: float
    top1: float
    log_loss: float


class ProbeResult(Evaluation):
    """An `Evaluation` with what the probe chose.

    Attributes:
        c: chosen inverse penalty; trials: what was tried, empty when there was no choice.
        chosen_on: `validation`, a held-out part of training, or `nothing`.
        converged, n_iter: of the last fit. A probe that has not converged is usable but not final.
        dim: feature width; n_constant_features: columns that tell nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int
    c: float
    trials: tuple[Trial, ...]
    chosen_on: str
    converged: bool
    n_iter: int
    n_constant_features: int
    params: ProbeParams


def run(
    params: ProbeParams, *, features: Path, items: Path, split: Path, labels: str, out: Path | None = None
) -> ProbeResult:
    """Learn on `train`, choose C on `val`, score every part that has items.

    Items of classes that training lacks count as wrong. Items without a part, a label or features are
    left out and counted.

    Args:
        features: a view of kind `embedding`.
        items: the folder of items it was made from.
        split: a table of item_id and part.
        labels: the label column of the items.
        out: folder for the results and the head; None writes nothing.

    Raises:
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    # scikit-learn takes a second to import; a request that is wrong is answered without it.
    view = View(features)
    examples, vectors = read_examples(view, Items(items), split, labels)
    train, val = examples.rows("train"), examples.rows("val")
    if len(train) == 0:
        raise DataError(f"{split}: its train part has no items with a {labels!r} and features")
    from deponij.pipeline.heads.logistic import DEFAULT_CS, DINOV2_CS, LogisticProbe

    cs = DINOV2_CS if params.cs == "dinov2" else params.cs or DEFAULT_CS
    head = LogisticProbe(cs, params.max_iter, params.tolerance, params.seed, params.balance)
    validation = (vectors[val], examples.labels[val]) if len(val) else (None, None)
    head.fit(vectors[train], examples.labels[train], *validation)
    sources = feature_sources([view], labels)
    judged = evaluate(head, sources, examples, vectors, labels=labels, split=split)
    result = ProbeResult(
        **judged.evaluation.model_dump(exclude={"notes"}),
        notes=(*judged.evaluation.notes, *(() if head.converged_ else (_not_converged(head.n_iter_),))),
        dim=head.n_features_in_,
        c=head.c_,
        trials=tuple(Trial(c=trial.c, top1=trial.top1, log_loss=trial.log_loss) for trial in head.trials_),
        chosen_on=head.chosen_on_,
        converged=head.converged_,
        n_iter=head.n_iter_,
        n_constant_features=head.n_constant_,
        params=params,
    )
    if out is not None:
        head.save(out, sources)
        write_results(out, result, judged.predictions, judged.logits)
    return result


def _not_converged(n_iter: int) -> str:
    return f"The fit had not converged after {n_iter} iterations; raise max_iter or choose among smaller cs."


def main(key: str) -> None:
    """Under DVC: one backbone of the profile in force, every split and label set."""
    params = load(Params)
    at = layout()

    def run_one(split: Path, labels: str, out: Path) -> ProbeResult:
        return run(params.probe, features=at.view(key), items=at.items, split=split, labels=labels, out=out)

    run_grid(at, "probe", key, params.splits, params.labels, run_one)


if __name__ == "__main__":
    run_stage(f"probe@{sys.argv[1]}", lambda: main(sys.argv[1]))
