"""One head learned from views and judged: what the stage `heads` does for each head, and `deponij fit` for any.

Which heads there are, and what each of them learns, is the business of `deponij.pipeline.heads`.
"""

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, JsonValue

from deponij.pipeline import cards
from deponij.pipeline.cards import Token
from deponij.pipeline.heads.registry import head_class
from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.frame.settings import Section
from deponij.project.learning.arguments import make_head
from deponij.project.learning.class_texts import class_texts, groups_of, open_class_texts
from deponij.project.learning.out_of_fold import Learned, learned
from deponij.project.learning.reading import Reading
from deponij.project.learning.results import evaluate, feature_sources, read_shared_examples, write_results
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items
from deponij.store.scratch import beside
from deponij.store.view import View


class HeadParams(Section):
    """Which head, and how it learns.

    Attributes:
        head: its kind in the registry.
        arguments: of its constructor, where they are not the defaults.
        templates: use only class texts of these templates; None for all that the view of texts has.
        token: of views of tokens or maps, which token a head of vectors takes for the picture.
    """

    head: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    templates: tuple[str, ...] | None = None
    token: Token | None = None


class TextFacts(Section):
    """What class vectors were made of.

    Attributes:
        fingerprint: of the text vectors' identity.
        templates: those of the texts that were used.
        n_texts: texts that were used; those of classes that the pool has not are left out.
        unused_groups: these classes.
    """

    fingerprint: str
    templates: tuple[str, ...]
    n_texts: int
    unused_groups: tuple[str, ...]


class HeadResult(Evaluation):
    """An `Evaluation` with what the head has learned.

    Attributes:
        dim: feature width.
        learned: the head's own facts: what was chosen, what was tried, whether the fit has converged.
        texts: what the class vectors were made of; None without texts.
        params: as they were given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int
    learned: dict[str, JsonValue]
    texts: TextFacts | None = None
    params: HeadParams


def learn(
    params: HeadParams,
    *,
    features: Sequence[Path],
    items: Path,
    split: Path,
    labels: str,
    texts: Path | None = None,
    per_class: Sequence[int] = (),
    tries: int = 1,
    out: Path | None = None,
    depot: str = "depot",
) -> HeadResult:
    """Learn on `train`, choose on `val`, score every part that has items; of folds, every item once.

    Items of classes that training lacks count as wrong. Items without a part, a label or features are
    left out and counted.

    Args:
        features: views of kind `embedding`, whose vectors stand side by side; a head that takes tokens has one of
            kind `tokens@K` too, one that reads maps has one of kind `dense@1`, and the view of its flips beside it.
        items: the folder of items they were made from.
        split: a table of item_id and part.
        labels: the label column of the items.
        texts: a view of kind `text` by the same model, whose column `group` names each text's class; for heads that
            start from texts.
        per_class: few-shot, where the head's kind has it: examples of each class to learn from.
        tries: how often others are drawn.
        out: folder for the results and the head; None writes nothing.
        depot: where maps lie.

    Raises:
        IdentityError: features and texts are of different models.
        DataError: a class has no text; the message gives the command that makes them.
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    kind = head_class(params.head)
    reading = Reading(kind.reads, kind.takes_tokens, params.token, depot)
    views = reading.open(features)
    head = make_head(params.head, (_of_tokens(views) if kind.takes_tokens else {}) | params.arguments)
    text_view = open_class_texts(texts, views[0], items, [labels]) if texts is not None else None
    examples, arrays = read_shared_examples(views, Items(items), split, labels, reading=reading)
    vectors = beside(arrays) if kind.reads == "vectors" else arrays[0]
    words, facts = None, None
    if text_view is not None:
        words = class_texts(
            text_view,
            examples.pool_classes,
            backbone=views[0].backbone,
            items=items,
            labels=[labels],
            templates=params.templates,
        )
        facts = TextFacts(
            fingerprint=text_view.fingerprint,
            templates=words.templates,
            n_texts=len(words.classes),
            unused_groups=tuple(sorted(set(groups_of(text_view)) - set(examples.pool_classes))),
        )
    sources = reading.sources(feature_sources(views, labels), views)
    # Ids and keys of all rows are no longer wanted, 0.4 kB each.
    del views, arrays
    if kind.learns_from == "texts":
        if words is None:
            raise UsageError(f"head {params.head!r} needs text vectors; name their view with --texts")
        head.fit(words.vectors, words.classes)
        made, studied = Learned(head, head.decision_function(vectors), head.protocol), head
    else:
        if examples.folds is None and len(examples.rows("train")) == 0:
            raise DataError(f"{split}: its train part has no items with a {labels!r} and features")
        more = {"texts": words.vectors, "text_names": words.classes} if words is not None else {}
        made = learned(head, lambda one, *pairs: one.fit(*pairs, **more), examples, vectors)
        # A head that has learned from all cannot be asked about any of them.
        studied, head = (made.head if examples.folds is None else head), made.head
    judged = evaluate(made, sources, examples, labels=labels, split=split)
    result = HeadResult(
        **judged.evaluation.model_dump(exclude={"notes"}),
        notes=(*judged.evaluation.notes, *head.notes()),
        dim=head.n_features_in_,
        learned=learned_facts(head) | studied.study(vectors, examples, per_class, tries),
        texts=facts,
        params=params,
    )
    if out is not None:
        write_results(out, result, judged.predictions, judged.logits, head.files(sources))
    return result


def learned_facts(head: cards.Learned) -> dict[str, JsonValue]:
    """What a fitted head has learned (attributes that end in `_`) and is no array, by name without the `_`."""
    facts: dict[str, JsonValue] = {}
    for name, value in vars(head).items():
        if name.endswith("_") and not name.startswith("_") and name not in ("n_features_in_", "sources_"):
            fact = _as_json(value)
            if fact is not None:
                facts[name.rstrip("_")] = fact
    return facts


def _as_json(value: Any) -> JsonValue:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        facts = [_as_json(one) for one in value]
        return None if any(fact is None for fact in facts) else facts
    return value if isinstance(value, (bool, int, float, str)) else None


def _of_tokens(views: Sequence[View]) -> dict[str, JsonValue]:
    """What a head must know of the one view's tokens; plain embeddings need nothing said."""
    kinds = [view.kind.partition("@") for view in views]
    if len(kinds) != 1 or kinds[0][0] != "tokens":
        return {}
    return {"n_blocks": int(kinds[0][2] or 1), "has_patches": True}
