"""Any head of the registry on one or several views: what `deponij fit` does. Not a DVC stage.

The features of several views are concatenated. A head's parameters are its constructor's arguments.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, JsonValue

from deponij.pipeline.heads.head import Head
from deponij.pipeline.heads.registry import head_class
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.frame.settings import Section
from deponij.project.learning.results import evaluate, feature_sources, read_shared_examples, write_results
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items
from deponij.store.view import View


class FitParams(Section):
    """Which head, and its constructor's arguments where they are not the defaults."""

    head: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


class FitResult(Evaluation):
    """An `Evaluation` with what was asked for and the feature width."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int
    params: FitParams


def parse_arguments(pairs: Sequence[str]) -> dict[str, JsonValue]:
    """`name=value` texts; a value that is JSON is read as such, anything else is a text.

    Raises:
        UsageError: a text without `=`.
    """
    arguments: dict[str, JsonValue] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"a head's argument is given as NAME=VALUE, got {pair!r}")
        try:
            arguments[name] = json.loads(value)
        except ValueError:
            arguments[name] = value
    return arguments


def run(
    params: FitParams,
    *,
    features: Sequence[Path],
    items: Path,
    split: Path,
    labels: str,
    out: Path | None = None,
) -> FitResult:
    """Learn on `train`, choose on `val`, score every part that has items.

    Args:
        features: views of kind `embedding`; `dino-linear` takes one of kind `tokens@K` too.
        items: the folder of items they were made from.
        split: a table of item_id and part.
        labels: the label column of the items.
        out: folder for the results and the head; None writes nothing.

    Raises:
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    views = [View(path) for path in features]
    takes_tokens = head_class(params.head).takes_tokens
    head = make_head(params.head, (_of_tokens(views) if takes_tokens else {}) | params.arguments)
    examples, arrays = read_shared_examples(views, Items(items), split, labels, tokens=takes_tokens)
    vectors = np.concatenate(arrays, axis=1)
    train, val = examples.rows("train"), examples.rows("val")
    if len(train) == 0:
        raise DataError(f"{split}: its train part has no items with a {labels!r} and features")
    validation = (vectors[val], examples.labels[val]) if len(val) else (None, None)
    head.fit(vectors[train], examples.labels[train], *validation)
    sources = feature_sources(views, labels)
    judged = evaluate(head, sources, examples, vectors, labels=labels, split=split)
    result = FitResult(**judged.evaluation.model_dump(), dim=head.n_features_in_, params=params)
    if out is not None:
        head.save(out, sources)
        write_results(out, result, judged.predictions, judged.logits)
    return result


def _of_tokens(views: Sequence[View]) -> dict[str, JsonValue]:
    """What a head must know of the one view's tokens; plain embeddings need nothing said."""
    kinds = [view.kind.partition("@") for view in views]
    if len(kinds) != 1 or kinds[0][0] != "tokens":
        return {}
    return {"n_blocks": int(kinds[0][2] or 1), "has_patches": True}


def make_head(kind: str, arguments: Mapping[str, JsonValue]) -> Head:
    """A head that has learned nothing yet.

    Raises:
        UsageError: there is no such head, it learns from texts, or it has no such argument.
    """
    made: Any = head_class(kind)
    if made.learns_from != "images":
        raise UsageError(f"head {kind!r} needs text vectors; use `deponij zero-shot` or `deponij blend`")
    known = [name for name in inspect.signature(made.__init__).parameters if name != "self"]
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise UsageError(f"head {kind!r} has no argument {', '.join(unknown)}; it has {', '.join(known)}")
    head: Head = made(**arguments)
    return head
