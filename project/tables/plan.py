"""What tables of results are made of: parameters, inputs, and the feature sets that heads learn from. This is no stage.

Nothing is learned here; that is done by `table_cells`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from deponij.pipeline.heads.gradient.recipe import Balance
from deponij.project.frame.console import note
from deponij.project.frame.settings import Section, Slug, n_cores
from deponij.project.learning.class_texts import model_differences, open_texts
from deponij.project.learning.results import n_tested_unfairly
from deponij.store.errors import DataError, IdentityError, UsageError
from deponij.store.items import Items
from deponij.store.view import View

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Kind = Literal["linear", "mlp"]
KINDS: tuple[Kind, ...] = ("linear", "mlp")


class TablesParams(Section):
    """How the heads of the tables learn. The defaults are of the protocol in docs/taco.md.

    Attributes:
        seeds: runs of every head, with the seeds 0, 1, …; a seed decides weights and order, not the split.
        kinds: of heads.
        lrs: learning rate by backbone, or by concatenation (`a+b`).
        candidates: to choose from on validation where `lrs` says nothing, by the first seed's loss.
        ensembles: backbones that are joined, by concatenation and by mean of logits; null: the first
            one that has texts with each one that has none, and all together.
        epochs, batch, patience: of training; it ends after `patience` epochs without a lower
            validation loss, and the best epoch's weights are kept.
        weight_decay: AdamW's.
        balance: what is done about rare classes.
    """

    seeds: int = Field(default=5, ge=1, le=100)
    kinds: tuple[Kind, ...] = Field(default=KINDS, min_length=1)
    lrs: dict[str, Rate] = Field(default_factory=dict)
    candidates: tuple[Rate, ...] = Field(default=(1e-4, 1e-3), min_length=1)
    ensembles: tuple[tuple[Slug, ...], ...] | None = None
    epochs: int = Field(default=20, ge=1)
    batch: int = Field(default=32, ge=1)
    patience: int | None = Field(default=5, ge=1)
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    balance: Balance = "none"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What tables are made from.

    Attributes:
        features: views of kind `embedding`, of different backbones.
        texts: views of kind `text`, each by the model of one of them.
        items: the folder of items.
        splits: tables of item_id and part.
        labels: label columns of the items.
    """

    features: tuple[Path, ...]
    texts: tuple[Path, ...]
    items: Path
    splits: tuple[Path, ...]
    labels: tuple[str, ...]

    @classmethod
    def given(
        cls,
        features: Sequence[Path] | None,
        texts: Sequence[Path] | None,
        items: Path | None,
        splits: Sequence[Path] | None,
        labels: Sequence[str] | None,
    ) -> Self:
        """Of what a command got.

        Raises:
            UsageError: something that is needed is missing; all of it is named.
        """
        flags = {"--features": features, "--items": items, "--split": splits, "--labels": labels}
        missing = [flag for flag, value in flags.items() if not value]
        if missing or features is None or items is None or splits is None or labels is None:
            raise UsageError(
                f"tables of your own views need {', '.join(flags)}; there is no {', '.join(missing)}. "
                "Without any option the tables are those of the profile in force"
            )
        return cls(tuple(features), tuple(texts or ()), items, tuple(splits), tuple(labels))


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Features that heads learn from: of one backbone, or of several side by side.

    Attributes:
        rows: which of the plan's views.
        members: their backbones.
    """

    rows: tuple[int, ...]
    members: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the set, and of its folder of results."""
        return "+".join(self.members)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for all splits and label sets.

    Attributes:
        items, views: opened.
        texts: views of text vectors by backbone.
        singles, ensembles: feature sets of one backbone, and of several.
        threads: of computing.
        results: folder for the first seed's heads and their results; None for none.
    """

    params: TablesParams
    inputs: Inputs
    items: Items
    views: tuple[View, ...]
    texts: Mapping[str, View]
    singles: tuple[FeatureSet, ...]
    ensembles: tuple[FeatureSet, ...]
    threads: int
    results: Path | None

    def fair(self, split: Path) -> "Plan":
        """Without the backbones that this split would test by what they were tuned on: tables compare on the same items.

        Raises:
            DataError: none is left.
        """
        rows = [row for row, view in enumerate(self.views) if not n_tested_unfairly(view, split)]
        if len(rows) == len(self.views):
            return self
        gone = ", ".join(view.backbone for row, view in enumerate(self.views) if row not in rows)
        why = f"split {split.stem} would test {gone} by what it was tuned on"
        if not rows:
            raise DataError(f"{why}, and there is no other backbone")
        note(f"tables: {why}, so that it is left out there")
        place = {row: number for number, row in enumerate(rows)}

        def kept(sets: Sequence[FeatureSet]) -> tuple[FeatureSet, ...]:
            return tuple(
                FeatureSet(tuple(place[row] for row in one.rows), one.members)
                for one in sets
                if place.keys() >= set(one.rows)
            )

        return replace(
            self,
            views=tuple(self.views[row] for row in rows),
            singles=kept(self.singles),
            ensembles=kept(self.ensembles),
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs of each head."""
        return tuple(range(self.params.seeds))


def make_plan(params: TablesParams, inputs: Inputs, threads: int = 0, results: Path | None = None) -> Plan:
    """Open the inputs and check that they fit together.

    Args:
        threads: of computing; 0 is one per core.
        results: folder for the first seed's heads and their results, `KIND/BACKBONES/SPLIT-LABELS`.

    Raises:
        UsageError: something given twice, or params that name what is not there.
        DeponijError: a view is missing or cannot be read, or texts are by the model of none of the features.
    """
    views = tuple(View(path) for path in inputs.features)
    names = tuple(view.backbone for view in views)
    _refuse_twice("backbone", names)
    _refuse_twice("split", [path.stem for path in inputs.splits])
    _refuse_twice("label column", inputs.labels)
    texts = _match_texts(inputs, views)
    ensembles = _ensembles(params, names, texts)
    singles = tuple(FeatureSet((row,), (name,)) for row, name in enumerate(names))
    known = [one.name for one in (*singles, *ensembles)]
    strangers = sorted(set(params.lrs) - set(known))
    if strangers:
        raise UsageError(f"learning rates for {strangers}, which are not among {', '.join(known)}")
    return Plan(
        params=params,
        inputs=inputs,
        items=Items(inputs.items),
        views=views,
        texts=texts,
        singles=singles,
        ensembles=ensembles,
        threads=threads or n_cores(),
        results=results,
    )


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    """Cells are told apart by these names."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise UsageError(f"tables tell cells apart by their {what}; given twice: {', '.join(twice)}")


def _match_texts(inputs: Inputs, views: Sequence[View]) -> dict[str, View]:
    """Each text view by the name of the backbone whose model made it."""
    text_of: dict[str, View] = {}
    for path in inputs.texts:
        text_view = open_texts(path, path.stem, inputs.items, inputs.labels)
        differences = {view.backbone: model_differences(view, text_view) for view in views}
        same = [name for name, differs in differences.items() if not differs]
        if not same:
            told = "\n".join(f"  {name}: {'; '.join(differs)}" for name, differs in differences.items())
            raise IdentityError(
                f"{path} ({text_view.backbone}) is by the model of none of the features:\n{told}"
            )
        text_of[same[0]] = text_view
    return text_of


def _ensembles(
    params: TablesParams, names: Sequence[str], texts: Mapping[str, View]
) -> tuple[FeatureSet, ...]:
    chosen = params.ensembles
    if chosen is None:
        spoken = [name for name in names if name in texts]
        pairs = [(spoken[0], name) for name in names if name not in texts] if spoken else []
        # Of two backbones the pair is all of them, and in another order it is the same ensemble.
        pairs = [pair for pair in pairs if set(pair) != set(names)]
        chosen = (*pairs, tuple(names)) if len(names) > 1 else ()
    for members in chosen:
        strangers = sorted(set(members) - set(names))
        if strangers or len(members) < 2 or len(set(members)) < len(members):
            raise UsageError(
                f"an ensemble joins two or more of the backbones {', '.join(names)}, each once; got {list(members)}"
            )
    return tuple(
        FeatureSet(tuple(names.index(member) for member in members), tuple(members)) for members in chosen
    )
