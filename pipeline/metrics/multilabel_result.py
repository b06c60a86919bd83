"""What is reported of one multi-label classifier on one split: the record that its stage writes and pages read.

How the figures are computed: `multilabel`.
"""

from pydantic import BaseModel, ConfigDict, JsonValue

from deponij.pipeline.metrics.evaluation import shown_part
from deponij.pipeline.metrics.multilabel import MultilabelScores


class MultilabelResult(BaseModel):
    """One multi-label classifier's record. Unknown fields are ignored: what a head tells of itself is its own matter.

    Attributes:
        method, title: kind of its head, and its name for people.
        backbone, fingerprint: whose features.
        labels, split: column of the items, and name of the split.
        protocol: what was learned from what.
        classes: in the order of the columns of log-odds.
        thresholds: probability from which on each is answered.
        thresholds_from: `validation`, or `one half`.
        parts: scores of each part that has items with labels.
        n_items, n_outside_pool, n_without_label, n_without_features: as in `Examples`.
        notes: what a reader must know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: str
    title: str
    backbone: str
    fingerprint: str
    labels: str
    split: str
    protocol: str
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    thresholds_from: str
    parts: dict[str, MultilabelScores]
    n_items: int
    n_outside_pool: int
    n_without_label: int
    n_without_features: int
    notes: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The part that results are read from."""
        return shown_part(self.parts)

    @property
    def val_map(self) -> float | None:
        """mAP on validation, by which classifiers are chosen; None without."""
        return self.parts["val"].map_macro if "val" in self.parts else None


class LearnedMultilabel(MultilabelResult):
    """The record as it is written, with what the head has learned.

    Attributes:
        dim: feature width.
        learned: the head's own facts.
        arguments: of its constructor, as given.
    """

    dim: int
    learned: dict[str, JsonValue]
    arguments: dict[str, JsonValue]
