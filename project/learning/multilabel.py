"""One multi-label head learned from a view and judged: what the stage `multilabel` does for each.

Which heads there are is the business of `deponij.pipeline.multilabel`; what lies in a folder of results, `multilabel_files`.

Shape letters: n items, d feature width, C classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from deponij.pipeline.cards import FeatureSource, parameters_of
from deponij.pipeline.heads.examples import Examples, join_examples
from deponij.pipeline.heads.head import Names
from deponij.pipeline.metrics.clustered import FEWEST
from deponij.pipeline.metrics.evaluation import PARTS, not_a_result, shown_part
from deponij.pipeline.metrics.multilabel import MultilabelScores, score_multilabel
from deponij.pipeline.metrics.multilabel_result import LearnedMultilabel, MultilabelResult
from deponij.pipeline.multilabel.head import MultilabelHead, probabilities
from deponij.pipeline.multilabel.registry import multilabel_class
from deponij.project.frame.settings import check
from deponij.project.learning.item_columns import read_folds, read_groups, read_parts, read_sets
from deponij.project.learning.learn import learned_facts
from deponij.project.learning.multilabel_files import SetPredictions, write_multilabel
from deponij.project.learning.results import Vectors, feature_sources, features_of, left_out, tuned_on
from deponij.store.errors import DataError
from deponij.store.items import Items
from deponij.store.scratch import taken
from deponij.store.view import View

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SetExamples:
    """Labelled items with features, whose labels are sets.

    Attributes:
        examples: of them; a label is a JSON list of names.
        classes: of all labelled items of the pool, with and without features, sorted.
    """

    examples: Examples
    classes: Names

    @property
    def truth(self) -> Bools:
        """[n, C]."""
        place = {str(name): column for column, name in enumerate(self.classes)}
        flags = np.zeros((len(self.examples.ids), len(self.classes)), dtype=bool)
        for row, names in enumerate(self.examples.labels.tolist()):
            flags[row, [place[name] for name in json.loads(names)]] = True
        return flags


def read_set_examples(view: View, items: Items, split: Path, labels: str) -> tuple[SetExamples, Vectors]:
    """Items with sets of labels, a part and features, and their features [n, d], joined by item id.

    Raises:
        UsageError: the items have no such column, or it holds no lists.
        DeponijError: as `read_shared_examples`.
    """
    sets = read_sets(items, labels)
    as_text = {item_id: None if one is None else json.dumps(one) for item_id, one in sets.items()}
    if read_folds(split) is not None:
        raise DataError(f"{split} has folds, which take one label an item; split by `random` or `group`")
    groups, unit = read_groups(split, items)
    examples = join_examples(
        as_text, read_parts(split), groups, set(view.ids.tolist()), unit, tuned_on=tuned_on([view])
    )
    classes = sorted({name for text in examples.pool_classes for name in json.loads(text)})
    if not classes:
        raise DataError(f"no item has a label in column {labels!r}: all of its lists are empty")
    return SetExamples(examples, np.array(classes, dtype=np.str_)), features_of(view, items, examples)


def make_multilabel_head(kind: str, arguments: Mapping[str, JsonValue]) -> MultilabelHead:
    """A head that has learned nothing yet.

    Raises:
        UsageError: there is no such head, or arguments that its constructor does not have or allow.
    """
    made = multilabel_class(kind)
    checked = check(parameters_of(made), dict(arguments), f"multi-label head {kind!r}")
    head: MultilabelHead = made(**{name: getattr(checked, name) for name in arguments})
    head.check_params()
    return head


def learn_multilabel(
    kind: str,
    arguments: Mapping[str, JsonValue],
    *,
    features: Path,
    items: Path,
    split: Path,
    labels: str,
    out: Path | None = None,
) -> MultilabelResult:
    """Learn on `train`, choose penalty and thresholds on `val`, score every part that has items.

    Args:
        kind, arguments: of the head.
        features: a view of kind `embedding`.
        labels: a column of lists.
        out: folder for the results and the head; None writes nothing.

    Raises:
        DeponijError: inputs that do not fit together or cannot be learned from; the message says why.
    """
    view = View(features)
    head = make_multilabel_head(kind, arguments)
    set_examples, vectors = read_set_examples(view, Items(items), split, labels)
    if not len(set_examples.examples.rows("train")):
        raise DataError(f"{split}: its train part has no items with {labels!r} and features")
    sources = feature_sources([view], labels)
    return learn_sets(
        head,
        set_examples,
        set_examples.truth,
        vectors,
        sources,
        split=split.stem,
        arguments=arguments,
        out=out,
    )


def learn_sets(
    head: MultilabelHead,
    set_examples: SetExamples,
    truth: Bools,
    vectors: Vectors,
    sources: Sequence[FeatureSource],
    *,
    split: str,
    arguments: Mapping[str, JsonValue] | None = None,
    out: Path | None = None,
) -> MultilabelResult:
    """Learn from examples that are read, score every part that has items with labels.

    Args:
        truth: [n, C].
        vectors: [n, d], the sources' side by side.
        split: its name.
        arguments: of the head, as they were given.
        out: as `learn_multilabel`.

    Raises:
        DataError: the examples cannot be learned from.
    """
    examples, classes = set_examples.examples, set_examples.classes.tolist()
    train, val = examples.rows("train"), examples.rows("val")
    validation = (taken(vectors, val), truth[val]) if len(val) else (None, None)
    head.fit(taken(vectors, train), truth[train], classes, *validation)
    log_odds = head.decision_function(vectors)
    probs = probabilities(log_odds)
    parts = {
        part: score_multilabel(
            truth[rows], probs[rows], head.thresholds_, examples.groups[rows], classes, examples.unit
        )
        for part in PARTS
        if len(rows := examples.rows(part)) and truth[rows].any()
    }
    result = LearnedMultilabel(
        method=head.kind,
        title=head.title,
        backbone="+".join(source.backbone for source in sources),
        fingerprint="+".join(source.fingerprint for source in sources),
        labels=sources[0].labels,
        split=split,
        protocol=head.protocol,
        classes=tuple(classes),
        thresholds=tuple(head.thresholds_.tolist()),
        thresholds_from=head.thresholds_from_,
        parts=parts,
        n_items=examples.n_items,
        n_outside_pool=examples.n_outside_pool,
        n_without_label=examples.n_without_label,
        n_without_features=examples.n_without_features,
        notes=tuple(_notes(head, examples, parts[shown_part(parts)], sources[0].labels, shown_part(parts))),
        dim=head.n_features_in_,
        learned=learned_facts(head),
        arguments=dict(arguments or {}),
    )
    if out is not None:
        answers = SetPredictions(
            examples.ids,
            examples.parts,
            examples.groups,
            truth,
            probs >= head.thresholds_,
            log_odds.astype(np.float32),
        )
        write_multilabel(out, result, answers, head.files(sources))
    return result


def _notes(
    head: MultilabelHead, examples: Examples, scores: MultilabelScores, labels: str, shown: str
) -> list[str]:
    notes = [f"{said}." for said in [not_a_result(shown)] if said]
    if scores.absent:
        notes.append(
            f"No {shown} item has these classes, which macro figures leave out: {_listed(scores.absent)}."
        )
    if few := [one.name for one in scores.by_class if 0 < one.support < FEWEST]:
        notes.append(
            f"Fewer than {FEWEST} {shown} items have these classes; the average precision of so few is too high on "
            f"average: {_listed(few)}."
        )
    return [*notes, *left_out(examples, labels), *head.notes()]


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
