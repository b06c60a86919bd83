"""Zero-shot answers to the pictures of a run, by classes that somebody named: made of views alone, kept as a table.

    item_id, answer, confidence, second, second_confidence      one row an item that has features, in item order

Labels play no part, so that there is no figure of how good the answers are. This is no stage.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from deponij.pipeline.heads.head import softmax
from deponij.pipeline.heads.words.zero_shot import ZeroShotClassifier
from deponij.project.learning.class_texts import class_texts, open_class_texts
from deponij.project.learning.results import check_belongs, require_finite
from deponij.store.atomic import read_table
from deponij.store.errors import StoreError, UsageError
from deponij.store.items import Items
from deponij.store.view import View

COLUMNS = pa.schema(
    [
        ("item_id", pa.string()),
        ("answer", pa.string()),
        ("confidence", pa.float32()),
        ("second", pa.string()),
        ("second_confidence", pa.float32()),
    ]
)
_REMEDY = "run the stage `answers` again"


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of one backbone.

    Attributes:
        classes: that were asked for, sorted.
        protocol: how, in words.
        table: with the columns of `COLUMNS`.
    """

    backbone: str
    fingerprint: str
    classes: tuple[str, ...]
    protocol: str
    table: pa.Table

    def to_table(self) -> pa.Table:
        """The table with everything else in its schema's metadata."""
        facts = {"backbone": self.backbone, "fingerprint": self.fingerprint, "protocol": self.protocol}
        return self.table.replace_schema_metadata({**facts, "classes": json.dumps(self.classes)})


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The classes themselves, if they can be told apart.

    Raises:
        UsageError: fewer than two, one twice, or one without a name.
    """
    twice = sorted({name for name in classes if list(classes).count(name) > 1})
    if len(classes) < 2 or twice or not all(name.strip() for name in classes):
        raise UsageError(
            f"classes are two or more different names, as in --classes 'cup, bottle'; got {list(classes)}"
        )
    return tuple(classes)


def answer(features: Path, texts: Path, items: Path, classes: Sequence[str]) -> Answers:
    """The likeliest two of these classes for every item of a view, by the cosine with their texts.

    Args:
        features: a view of kind `embedding`.
        texts: a view of text vectors by the same model.
        items: the folder of items that the view was made from.

    Raises:
        UsageError: classes that cannot be told apart.
        DeponijError: views that are missing, damaged, or do not belong together.
    """
    check_classes(classes)
    view, table = View(features), Items(items)
    check_belongs(view, table)
    text_view = open_class_texts(texts, view, items, ())
    of_classes = class_texts(text_view, classes, backbone=view.backbone, items=items, labels=())
    head = ZeroShotClassifier().fit(of_classes.vectors, of_classes.classes)
    vectors, ids = view.embedding.reshape(len(view), -1), view.ids.tolist()
    require_finite(vectors, ids, f"{view.path}: the features", "extract with precision fp32")
    probs = softmax(head.decision_function(vectors)) if ids else np.empty((0, len(classes)))
    order = np.argsort(-probs, axis=1, kind="stable")[:, :2]
    columns: list[pa.Array] = [pa.array(ids, pa.string())]
    for place in range(2):
        columns.append(pa.array(head.classes_[order[:, place]].tolist(), pa.string()))
        columns.append(pa.array(np.take_along_axis(probs, order, axis=1)[:, place], pa.float32()))
    return Answers(
        backbone=view.backbone,
        fingerprint=view.fingerprint,
        classes=tuple(head.classes_.tolist()),
        protocol=f"{head.protocol}; prompts: {', '.join(repr(one) for one in of_classes.templates)}",
        table=pa.table(columns, schema=COLUMNS),
    )


def read_answers(path: Path) -> Answers:
    """What the stage `answers` wrote.

    Raises:
        StoreError: there is none, or it is damaged or of another version.
    """
    table = read_table(path)
    if not table.schema.equals(COLUMNS) or any(column.null_count for column in table.columns):
        raise StoreError(f"{path} is no table of answers: it has {table.column_names}; {_REMEDY}")
    facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    try:
        classes = tuple(map(str, json.loads(facts["classes"])))
        return Answers(facts["backbone"], facts["fingerprint"], classes, facts["protocol"], table)
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path} is no table of answers: it does not say what was asked; {_REMEDY}"
        ) from error
